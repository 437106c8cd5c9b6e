#!/usr/bin/env bash
# Runs the fuzz targets, each for SECONDS (default 60) and from its corpus: fuzz/run.sh [SECONDS] [TARGET...]
# What the fuzzer learns stays in the build folder; what breaks a target is left in fuzz/artifacts/TARGET.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's/^name = "\(.*\)"/\1/p' Cargo.toml | tail -n +2)
# Nothing here is unsafe, so coverage is enough and the stable compiler does.
cargo fuzz build --sanitizer none
target=$(rustc -vV | sed -n 's/^host: //p')
build=${CARGO_TARGET_DIR:-target}
golden=../tests/golden
declare -A more=(
  [config]="$golden/bird-conf/right $golden/bird-conf/wrong"
  [manifest]="../examples"
)
for name in "${targets[@]}"; do
  learnt=$build/fuzz-corpus/$name
  mkdir -p "$learnt" "artifacts/$name"
  seeds=()
  for folder in "corpus/$name" ${more[$name]:-}; do [ -d "$folder" ] && seeds+=("$folder"); done
  options=(-max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024)
  [ -f "$name.dict" ] && options+=(-dict="$name.dict")
  log=$build/fuzz-$name.log
  if ! "$build/$target/release/$name" "$learnt" "${seeds[@]}" "${options[@]}" \
    -artifact_prefix="artifacts/$name/" >"$log" 2>&1; then
    grep -A6 panicked "$log" || tail -20 "$log"
    echo "fuzz: $name failed: see above and fuzz/artifacts/$name" >&2
    exit 1
  fi
  grep -E '^Done' "$log" | sed "s/^/fuzz: $name: /"
done
