# Read by suites that run specs: `specs PACKAGE [ARG ...]`, the arguments go to vitest.
# One worker, since two would share the virtual CPUs with what they test; Node runs the sources itself, which under
# emulation saves most of the runner's own work. Times are long here, so no test is held to the limits of a real machine.
# The tests start many processes, and stripping types is half of what each does at its start.
export NODE_COMPILE_CACHE=/tmp/compile-cache
specs() {
  package=$1
  shift
  echo "testbed: $package"
  cd "/megapipe/packages/$package" &&
    node /megapipe/node_modules/vitest/vitest.mjs run --configLoader native --experimental.viteModuleRunner=false \
      --no-file-parallelism --testTimeout 300000 --hookTimeout 300000 --reporter verbose "$@"
}
