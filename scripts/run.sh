#!/bin/sh
# Runs a command with the workspace's own tools first in PATH, the pinned Node 24 among them.
# usage: sh scripts/run.sh COMMAND [ARG ...]   (from any folder of the workspace)
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
PATH=$PWD/node_modules/.bin:$root/node_modules/.bin:$PATH
# Typescript runs by type stripping; turbo's telemetry would only wait for a network that servers often lack.
export PATH TURBO_TELEMETRY_DISABLED=1
if [ "$1" = turbo ]; then
  shift
  exec "$root/node_modules/.bin/turbo" --cwd "$root" "$@"
fi
exec "$@"
