#!/usr/bin/env bash
# Installs what is missing of TOOL:PACKAGE..., from Debian's packages, and stops the services that Debian starts with
# them: the tests run these daemons themselves, in namespaces. A daemon that ran before is left alone.
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin:/usr/lib/frr:/usr/lib/cni"
missing=()
for pair in "$@"; do
  # What is no program, such as a daemon's module, is named by its path.
  command -v "${pair%%:*}" >/dev/null || [ -e "${pair%%:*}" ] || missing+=("${pair##*:}")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if ! command -v apt-get >/dev/null; then
  echo "deps: please install ${missing[*]} (only Debian's apt-get is known here)" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "deps: installing ${missing[*]} needs root" >&2
  exit 1
fi
echo "deps: installing ${missing[*]}"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
for package in "${missing[@]}"; do
  service=${package/bird2/bird}
  if [ -e "/etc/init.d/$service" ]; then service "$service" stop >/dev/null 2>&1 || true; fi
done
