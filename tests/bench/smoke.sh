#!/usr/bin/env bash
# Counts the instructions of bird-rs's core on small workloads and compares them with those on record: a count that is more
# than a fifth above fails. `--record` writes the record anew, which belongs into the commit that changes it.
#
# Instructions and not seconds: the machines that run this are small and noisy.
set -euo pipefail
cd "$(dirname "$0")"
core=${BENCH_CORE:-../../target/release/bench-core}
record=core.instructions
command -v valgrind >/dev/null || { echo "smoke.sh: valgrind is missing: run make deps" >&2; exit 1; }

new=$(mktemp)
trap 'rm -f "$new"' EXIT
for workload in full change filter reflector exchange; do
  said=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$core" "$workload" 2>&1) ||
    { echo "$said" >&2; exit 1; }
  count=$(sed -n 's/.*Collected : \([0-9]*\).*/\1/p' <<<"$said")
  [ -n "$count" ] || { echo "smoke.sh: valgrind counted nothing: $said" >&2; exit 1; }
  echo "$workload $count" >>"$new"
done
if [ "${1:-}" = --record ]; then
  cp "$new" "$record"
  cat "$record"
  exit
fi
status=0
while read -r workload count; do
  before=$(awk -v w="$workload" '$1 == w {print $2}' "$record")
  [ -n "$before" ] || { echo "$workload is not on record: run tests/bench/smoke.sh --record" >&2; exit 1; }
  awk -v w="$workload" -v a="$before" -v b="$count" 'BEGIN {
    printf "%-10s %8.1f million instructions, x %.2f of the record\n", w, b / 1e6, b / a; exit b > 1.2 * a }' || status=1
done <"$new"
[ $status = 0 ] || echo "bird-rs has become slower: see tests/bench/smoke.sh" >&2
exit $status
