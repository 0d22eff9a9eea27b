# The specs of @megapipe/native and @megapipe/core on the guest's kernel: io_uring without what came after 6.1.
# One worker, since two would share the two virtual CPUs with what they test; Node runs the sources itself, which under
# emulation saves most of the runner's own work. Times are long here, so no test is held to the limits of a real machine.
#
# usage: [PACKAGE] [ARG ...]: both packages, or the one that is named with further arguments for vitest, as in
#        run.sh uring megapipe-core loop -t signals
packages='megapipe-native megapipe-core'
if [ $# -gt 0 ]; then
  packages=$1
  shift
fi
# The tests start many processes, and stripping types is half of what each does at its start.
export NODE_COMPILE_CACHE=/tmp/compile-cache
status=0
for package in $packages; do
  cd "/megapipe/packages/$package" || exit 1
  echo "testbed: $package"
  node /megapipe/node_modules/vitest/vitest.mjs run --configLoader native --experimental.viteModuleRunner=false \
    --no-file-parallelism --testTimeout 90000 --hookTimeout 60000 --reporter verbose "$@" || status=1
done
exit $status
