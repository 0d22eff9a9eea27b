#!/bin/sh
# Everything a fresh clone needs before its first run: dependencies, the pinned Node, the native addon.
# Needs: Node >= 20 with npm, a C compiler, make, python3. Safe to repeat; does nothing when all is in place.
set -eu
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root"
for tool in cc make python3; do
  command -v "$tool" >/dev/null 2>&1 && continue
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "setup: installing build-essential and python3 ($tool is missing)"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq build-essential python3 >/dev/null
  else
    echo "setup: $tool is missing. As root: apt-get install build-essential python3" >&2
    exit 1
  fi
done
pnpm=$(sed -n 's/.*"packageManager": *"\(pnpm@[^"]*\)".*/\1/p' package.json)
stamp=node_modules/.setup-stamp
if [ ! -f "$stamp" ] || [ pnpm-lock.yaml -nt "$stamp" ] || [ package.json -nt "$stamp" ]; then
  echo "setup: installing dependencies with $pnpm"
  npx --yes "$pnpm" install --frozen-lockfile --reporter=append-only
  touch "$stamp"
fi
sh scripts/run.sh turbo run build --output-logs=new-only
