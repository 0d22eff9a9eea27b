# The module's self-tests, one program after the other, in TAP; then the module is taken out again.
#
# usage: [NAME ...]: all, or those that are named
insmod /megapipe.ko || exit 1
[ $# -gt 0 ] || set -- $(ls /selftests)
status=0
for name in "$@"; do
  echo "# $name (after $(cut -d ' ' -f 1 /proc/uptime) s)"
  # A limit for what hangs: the longest takes a minute on the debug kernel, and many on a machine that has no time.
  timeout -s KILL 1000 "/selftests/$name" || {
    echo "not ok - $name ended with $?"
    status=1
  }
done
leaks || status=1
echo '# unload'
if rmmod megapipe && [ ! -e /dev/megapipe ]; then
  echo 'ok - the module can be unloaded after all of this'
else
  echo 'not ok - the module can be unloaded after all of this'
  status=1
fi
exit $status
