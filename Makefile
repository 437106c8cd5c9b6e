# The interface of this repository. `make demo` and `make test` need Rust, make and root; they install the rest.

SHELL := /bin/bash
CARGO ?= cargo
# What the laboratory and the interop tests run against, from Debian's packages.
PACKAGES := iproute2 iputils-ping bird2 util-linux frr gobgpd openbgpd
CARGO_DENY_VERSION := 0.20.2
BINARIES := felix bird-rs confd typha tortie tortiectl

.PHONY: help deps deps-lint deps-bench bench build demo demo-stop test test-unit test-lab lint ci clean-lab

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

deps: ## Install the tools that the demo and the tests use (needs root)
	@missing=""; \
	for pair in ip:iproute2 ping:iputils-ping bird:bird2 setpriv:util-linux \
	    vtysh:frr gobgpd:gobgpd bgpctl:openbgpd; do \
	  PATH="$$PATH:/usr/sbin:/sbin" command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; \
	done; \
	if [ -n "$$missing" ]; then \
	  if ! command -v apt-get >/dev/null; then \
	    echo "make deps: please install:$$missing (only Debian's apt-get is known here)" >&2; exit 1; fi; \
	  if [ "$$(id -u)" != 0 ]; then echo "make deps: installing$$missing needs root" >&2; exit 1; fi; \
	  had_bird=$$(pgrep -x bird >/dev/null && echo yes || true); \
	  apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null || exit 1; \
	  if [ -z "$$had_bird" ] && pgrep -x bird >/dev/null; then service bird stop >/dev/null 2>&1 || true; fi; \
	  for service in frr gobgpd openbgpd; do \
	    case " $$missing " in *" $$service "*) service $$service stop >/dev/null 2>&1 || true;; esac; \
	  done; \
	fi

deps-lint: ## Install cargo-deny
	@$(CARGO) deny --version 2>/dev/null | grep -q $(CARGO_DENY_VERSION) || \
	  $(CARGO) install cargo-deny --version $(CARGO_DENY_VERSION) --locked

build: ## Build the release binaries
	$(CARGO) build --release --locked $(addprefix --bin ,$(BINARIES))

demo: ## Bring up a routed cluster on this machine, prove it, remove it (KEEP=1 leaves it up)
	@command -v $(CARGO) >/dev/null || { echo "demo: Rust is not installed: see https://rustup.rs" >&2; exit 1; }
	@[ "$$(id -u)" = 0 ] || { echo "demo: network namespaces need root: run it as root (for example with sudo)" >&2; exit 1; }
	@$(MAKE) --no-print-directory deps
	@$(CARGO) build --release --locked $(addprefix --bin ,$(BINARIES) demo)
	@exec target/release/demo $(if $(KEEP),--keep)

demo-stop: ## Remove a demo that was left up
	@exec target/release/demo --stop

deps-bench: deps ## Install what the benchmark compares with: the daemons of the interop tests

bench: deps-bench build ## Compare bird-rs with other BGP daemons under the same load (needs root)
	$(CARGO) build --release --locked -p tortie-bench
	target/release/bench --svg docs/bench.svg $(BENCH)

test: deps build test-unit test-lab ## Run every test (needs root)

test-unit: ## Tests of single crates
	$(CARGO) test --locked --workspace --exclude tortie-tests
	$(CARGO) test --locked -p tortie-tests --test dag

test-lab: build ## Tests on clusters in network namespaces (needs root)
	$(CARGO) build --release --locked -p tortie-tests --bin demo
	TORTIE_BIN_DIR=$(CURDIR)/target/release $(CARGO) test --locked -p tortie-tests --lib --bins --test lab -- --test-threads 1

lint: deps-lint ## Formatting, clippy, licences and duplicates, size of files
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) deny --locked --log-level error check licenses bans sources
	tests/lint/sizes.sh

ci: deps lint test ## Everything that must pass before a change lands
