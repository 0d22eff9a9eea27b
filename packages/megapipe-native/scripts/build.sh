#!/bin/sh
# Compiles the addon with the headers of the Node that runs it. No download: the npm package of the pinned Node carries them.
set -eu
cd "$(dirname -- "$0")/.."
nodedir=$(node -p 'path.dirname(path.dirname(fs.realpathSync(process.execPath)))')
if [ ! -f "$nodedir/include/node/node_api.h" ]; then
  echo "megapipe-native: $nodedir/include/node/node_api.h is missing: the Node at $nodedir has no headers. Run 'npm run setup' in the workspace root." >&2
  exit 1
fi
node-gyp rebuild --silent --nodedir="$nodedir" ${MEGAPIPE_GYP_FLAGS:-}
tsc -p tsconfig.build.json
