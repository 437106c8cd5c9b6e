# The interface of this repository. `make demo` and `make test` need Rust, make and root; they install the rest.

SHELL := /bin/bash
CARGO ?= cargo
# Tools and Debian's packages that they come with.
LAB_TOOLS := ip:iproute2 ping:iputils-ping
CARGO_DENY_VERSION := 0.20.2
CARGO_FUZZ_VERSION := 0.13.2
BINARIES := felix bird-rs confd typha tortiectl
# A runtime executes the plugin on the host as root, whatever libraries are there: it needs none, and its addresses stay random.
PLUGIN := -p tortie-cni --bin tortie -- -C target-feature=+crt-static

.PHONY: bench-pods soak vm vm-smoke deps-vm help bench-smoke deps deps-lint deps-fuzz fuzz fuzz-smoke bench bench-docs bench-publish build demo demo-stop interop-bird test test-unit test-lab lint ci

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

deps: ## Install the tools that the demo and the tests use (needs root)
	@tests/deps.sh $(LAB_TOOLS) bird:bird2 setpriv:util-linux zebra:frr gobgpd:gobgpd bgpctl:openbgpd bgpdump:bgpdump exabgp:exabgp nft:nftables valgrind:valgrind \
	  etcd:etcd-server etcdctl:etcd-client prometheus-bird-exporter:prometheus-bird-exporter pmbmpd:pmacct tshark:tshark stayrtr:stayrtr \
	  /usr/lib/$(shell uname -m)-linux-gnu/frr/modules/bgpd_rpki.so:frr-rpki-rtrlib \
	  podman:podman runc:runc iptables:iptables busybox:busybox-static portmap:containernetworking-plugins ptp:containernetworking-plugins

deps-vm: ## Install what `make vm` uses: qemu, and tools that make a guest
	@tests/deps.sh $(LAB_TOOLS) qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio dpkg-deb:dpkg strip:binutils

deps-lint: ## Install cargo-deny
	@$(CARGO) deny --version 2>/dev/null | grep -q $(CARGO_DENY_VERSION) || \
	  $(CARGO) install cargo-deny --version $(CARGO_DENY_VERSION) --locked

deps-fuzz: ## Install cargo-fuzz
	@$(CARGO) fuzz --version 2>/dev/null | grep -q $(CARGO_FUZZ_VERSION) || \
	  $(CARGO) install cargo-fuzz --version $(CARGO_FUZZ_VERSION) --locked

build: ## Build the release binaries
	$(CARGO) build --release --locked $(addprefix --bin ,$(BINARIES))
	$(CARGO) rustc --release --locked $(PLUGIN)
	@readelf -hl target/release/tortie | awk '/INTERP/ {needs = 1} /Type: *DYN/ {free = 1} END {exit needs || !free}' || \
	  { echo "build: the CNI plugin is not static, or at a fixed address" >&2; exit 1; }

demo: ## Bring up a routed cluster on this machine, prove it, remove it (KEEP=1 leaves it up)
	@command -v $(CARGO) >/dev/null || { echo "demo: Rust is not installed: see https://rustup.rs" >&2; exit 1; }
	@[ "$$(id -u)" = 0 ] || { echo "demo: network namespaces need root: run it as root (for example with sudo)" >&2; exit 1; }
	@tests/deps.sh $(LAB_TOOLS)
	@tests/deps.sh bird:bird2 || echo "demo: without stock BIRD the ToR runs bird-rs"
	@$(CARGO) build --release --locked $(addprefix --bin ,$(BINARIES) demo)
	@$(CARGO) rustc --release --locked $(PLUGIN)
	@exec target/release/demo $(if $(KEEP),--keep)

demo-stop: ## Remove a demo that was left up
	@exec target/release/demo --stop

bench: deps build ## Compare bird-rs with other BGP daemons under the same load; BENCH='--shrink 10' for less (needs root, 20 minutes)
	$(CARGO) build --release --locked -p tortie-bench
	target/release/bench --out target/bench $(BENCH)

bench-pods: deps build ## Pods in a burst beside stock plugins, again and again, and 1,000 nodes claiming blocks; PODS='--rows burst' for less (needs root, 7 minutes)
	$(CARGO) build --release --locked -p tortie-bench --bin bench-pods
	target/release/bench-pods $(PODS)

bench-docs: ## Write what make bench found last into docs/benchmarks.md and docs/benchmarks.svg
	target/release/bench --out target/bench --docs docs

bench-publish: ## Compare, and write what was found into the docs, also when something failed (needs root, 20 minutes)
	@status=0; $(MAKE) bench || status=$$?; $(MAKE) bench-docs && exit $$status

interop-bird: deps ## Compare bird-rs with stock BIRD on the same files and neighbours (ARGS=NAME for one case; FILTERS=N random filters, SEED=S; needs root)
	$(CARGO) test --locked -p bird-rs --test differential -- $(ARGS)

bench-smoke: deps ## Count the instructions of bird-rs's core and compare them with the record
	$(CARGO) build --release --locked -p tortie-bench --bin bench-core
	BENCH_CORE=$(CURDIR)/target/release/bench-core tests/bench/smoke.sh

test: deps build test-unit test-lab ## Run every test (needs root)

test-unit: ## Tests of single crates
	$(CARGO) test --locked --workspace --exclude tortie-tests
	$(CARGO) test --locked -p tortie-tests --test dag

test-lab: build ## Tests on clusters in network namespaces, and what bird-rs may take (needs root)
	$(CARGO) build --release --locked -p tortie-tests -p tortie-bench --bin demo --bin bench
	target/release/bench --budget
	TORTIE_BIN_DIR=$(CURDIR)/target/release $(CARGO) test --locked -p tortie-tests --lib --bins --test lab -- --test-threads 1

soak: deps build ## Chaos by dice under continuous traffic, SOAK_MINUTES (default 60) long, by the dice of SOAK_SEED; `make test` has two minutes of it (needs root)
	SOAK_MINUTES=$(or $(SOAK_MINUTES),60) $(if $(SOAK_SEED),SOAK_SEED=$(SOAK_SEED)) TORTIE_BIN_DIR=$(CURDIR)/target/release $(CARGO) test --locked -p tortie-tests --test lab -- \
	  --exact --nocapture soak::whatever_happens_nothing_is_lost_changed_or_left

vm: deps-vm build ## Tests that this machine's kernel may not have (IPIP), in a stock Debian kernel under qemu (VM=FILTER; VM_SECONDS bounds it)
	@lab=$$($(CARGO) test --release --locked -p tortie-tests --test lab --no-run --message-format json | \
	  sed -n 's/.*"executable":"\([^"]*lab-[^"]*\)".*/\1/p' | tail -1); \
	TORTIE_BIN_DIR=$(CURDIR)/target/release tests/vm/run.sh "$$lab" $(or $(VM),ipip)

fuzz: deps-fuzz ## Fuzz every decoder, FUZZ_SECONDS (default 600) for each target
	fuzz/run.sh $(or $(FUZZ_SECONDS),600)

fuzz-smoke: deps-fuzz
	fuzz/run.sh 6

lint: deps-lint ## Formatting, clippy, licences and duplicates, size of files
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) deny --locked --log-level error check licenses bans sources
	tests/lint/sizes.sh

vm-smoke:
	@$(MAKE) vm VM=ipip_across

ci: deps lint test vm-smoke fuzz-smoke bench-smoke ## Everything that must pass before a change lands
