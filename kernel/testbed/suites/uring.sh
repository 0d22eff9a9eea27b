# The specs of @megapipe/native and @megapipe/core on the guest's kernel: io_uring without what came after 6.1.
#
# usage: [PACKAGE] [ARG ...]: both packages, or the one that is named with further arguments for vitest, as in
#        run.sh uring megapipe-core loop -t signals
packages='megapipe-native megapipe-core'
if [ $# -gt 0 ]; then
  packages=$1
  shift
fi
. /suites/vitest.sh
status=0
for name in $packages; do
  specs "$name" "$@" || status=1
done
exit $status
