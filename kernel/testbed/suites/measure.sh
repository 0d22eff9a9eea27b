# Echo servers under load, for the counting plugin: kernel/measure/main.ts runs this and reads what comes out.
#
# usage: [-k] [-s SERVERS] CONNECTIONS TRANSACTIONS EACH ...     each: transactions a connection; -s: names, comma
# between them; -k: the kernel's symbols come last, packed
insmod /megapipe.ko || exit 1
echo '1024 65000' >/proc/sys/net/ipv4/ip_local_port_range
symbols=""
wanted=""
while getopts ks: option; do
  case $option in
  k) symbols=1 ;;
  s) wanted=",$OPTARG," ;;
  *) exit 64 ;;
  esac
done
shift $((OPTIND - 1))
# Until every buffer and every part of the rings has been in use.
warm_up=1024
connections=$1
transactions=$2
shift 2
status=0
# io_uring's direct descriptors are left out: on this kernel one is closed only when requests of others that are idle end, so that
# most would not be closed at all. The backend of Channel does without them here, too.
for each in "$@"; do
  while read -r name server; do
    case ${wanted:-",$name,"} in *",$name,"*) ;; *) continue ;; esac
    echo "measure $each $name"
    # io_uring takes its time to end, and so do connections.
    sleep 5
    # shellcheck disable=SC2086
    timeout -s KILL 300 /measure/client "$connections" "$each" "$warm_up" "$transactions" $server || status=1
  done <<END
epoll /measure/echo_epoll -p 7000
uring /measure/echo_uring -p 7000 --no-direct
device /measure/echo_device -p 7000 -P
device-lwsocket /measure/echo_device -p 7000 -P -L
device-batch /measure/echo_device -p 7000 -P -B
device-partition /measure/echo_device -p 7000
END
done
[ -z "$symbols" ] || { echo symbols; cut -d ' ' -f 1,3 /proc/kallsyms | cut -f 1 | gzip | base64; }
rmmod megapipe || status=1
exit $status
