# The specs of @megapipe/native and @megapipe/core with the module (megapipe.ko) in the kernel, on the backend `device`.
#
# usage: [-b BACKENDS] [ARG ...]: -b: on others, too, as in: run.sh device -b uring,device channel; further arguments for
# vitest, as in: run.sh device channel -t lwsockets
insmod /megapipe.ko || exit 1
export MEGAPIPE_BACKENDS=device
if [ "${1:-}" = -b ]; then
  MEGAPIPE_BACKENDS=$2
  shift 2
fi
. /suites/vitest.sh
status=0
[ $# -gt 0 ] || specs megapipe-native abi verbs || status=1
[ $# -gt 0 ] || set -- channel loop seeing
specs megapipe-core "$@" || status=1
rmmod megapipe || status=1
exit $status
