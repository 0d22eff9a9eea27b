# Transactions a second of the echo servers, with server and clients on all CPUs: for kernel/measure/main.ts --throughput. Under
# emulation these say how servers compare on the same machine, and nothing about any real one.
#
# usage: CONNECTIONS EACH ROUNDS     each: transactions a connection
insmod /megapipe.ko || exit 1
echo '1024 65000' >/proc/sys/net/ipv4/ip_local_port_range
cpus=$(nproc)
status=0
for _ in $(seq "$3"); do
  while read -r name server; do
    echo "server $name"
    # shellcheck disable=SC2086
    timeout -s KILL 100 /measure/client -a "$1" "$2" 3000 0 $server -w "$cpus" || status=1
    # Its ports and sockets are to be gone.
    sleep 0.5
  done <<END
epoll /measure/echo_epoll -p 7000
uring /measure/echo_uring -p 7000 --no-direct
device /measure/echo_device -p 7000 -P
END
done
rmmod megapipe || status=1
exit $status
