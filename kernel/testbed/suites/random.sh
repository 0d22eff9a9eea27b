# The random driver (selftests/random.c says what it does).
#
# usage: [SECONDS] [SEED]: 120 seconds
insmod /megapipe.ko || exit 1
status=0
/selftests/random "${1:-120}" ${2:+"$2"} || status=1
leaks || status=1
rmmod megapipe || status=1
exit $status
