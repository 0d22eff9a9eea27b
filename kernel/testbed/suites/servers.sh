# memcached-ts and nginx-lite in the guest, on the module and on io_uring as this kernel has it: what a client of theirs sees.
#
# usage: [BACKEND ...]: device uring
insmod /megapipe.ko || exit 1
[ $# -gt 0 ] || set -- device uring
export NODE_COMPILE_CACHE=/tmp/compile-cache
status=0

check() {
  if [ "$2" = "$3" ]; then
    echo "ok - $1"
  else
    echo "not ok - $1"
    echo "# got: $2"
    echo "# not: $3"
    status=1
  fi
}

sum() { md5sum | cut -c 1-32; }

# await WHAT PORT: until the port answers. Compiling JavaScript takes its time under emulation; a server that died is not waited for.
await() {
  until=$(($(cut -d . -f 1 /proc/uptime) + 200))
  while [ "$(cut -d . -f 1 /proc/uptime)" -lt $until ] && kill -0 $server 2>/dev/null; do
    if nc 127.0.0.1 "$2" </dev/null >/dev/null 2>&1; then
      echo "# $1 answers after $(cut -d ' ' -f 1 /proc/uptime) s"
      return 0
    fi
    sleep 0.2
  done
  echo "not ok - $1: nothing listens on port $2 after $(cut -d ' ' -f 1 /proc/uptime) s"
  status=1
  sed 's/^/# /' /tmp/said
  kill -KILL $server 2>/dev/null
  return 1
}

memcached() {
  backend=$1
  /megapipe/apps/memcached-ts/bin/memcached-ts -u root -p 11211 -t 2 --pin -v --backend "$backend" 2>/tmp/said &
  server=$!
  await "memcached-ts on $backend" 11211 || return
  # One worker answers before all have said that they serve.
  for _ in $(seq 300); do grep -q "serving with $backend" /tmp/said && break || sleep 0.2; done
  check "memcached-ts serves on $backend" "$(grep -c "serving with $backend" /tmp/said)" 1
  check "memcached-ts, $backend: a conversation" \
    "$(printf 'set a 0 0 5\r\nhello\r\nget a\r\nincr b 1\r\nset b 0 0 1\r\n7\r\nincr b 3\r\ndelete a\r\nget a\r\nquit\r\n' | nc 127.0.0.1 11211 | tr -d '\r' | tr '\n' ' ')" \
    "STORED VALUE a 0 5 hello END NOT_FOUND STORED 10 DELETED END "
  check "memcached-ts, $backend: 200 connections, one after the other, with 10,000 bytes" \
    "$(printf 'set v 0 0 10000\r\n%s\r\nquit\r\n' "$(cat /tmp/value)" | nc 127.0.0.1 11211 >/dev/null
      for _ in $(seq 200); do printf 'get v\r\nquit\r\n' | nc 127.0.0.1 11211 | sed -n 2p | tr -d '\r\n' | sum; done | sort | uniq -c | tr -s ' ')" \
    "$(echo " 200 $(sum </tmp/value)")"
  kill $server
  wait $server
  check "memcached-ts, $backend: ends when told to" $? 0
}

nginx() {
  backend=$1
  mkdir -p /tmp/site/html /tmp/site/logs /tmp/site/conf
  cp /tmp/value /tmp/site/html/file
  dd if=/dev/urandom of=/tmp/site/html/large bs=1000 count=2000 2>/dev/null
  cat >/tmp/site/conf/nginx.conf <<'END'
user root;
worker_processes 2;
daemon off;
events { worker_connections 256; }
http {
  server { listen 127.0.0.1:8080; root html; location /gone { return 410 "gone\n"; } }
}
END
  /megapipe/apps/nginx-lite/bin/nginx-lite -p /tmp/site/ --backend "$backend" 2>/tmp/said &
  server=$!
  await "nginx-lite on $backend" 8080 || { sed 's/^/# /' /tmp/site/logs/*; return; }
  check "nginx-lite, $backend: a file" "$(wget -q -O - http://127.0.0.1:8080/file | sum)" "$(sum </tmp/value)"
  check "nginx-lite, $backend: 2 MB" "$(wget -q -O - http://127.0.0.1:8080/large | sum)" "$(sum </tmp/site/html/large)"
  check "nginx-lite, $backend: 50 requests, a connection each" \
    "$(for _ in $(seq 50); do wget -q -O - http://127.0.0.1:8080/file | sum; done | sort | uniq -c | tr -s ' ')" \
    "$(echo " 50 $(sum </tmp/value)")"
  check "nginx-lite, $backend: a status" "$(wget -S -q -O /dev/null http://127.0.0.1:8080/gone 2>&1 | grep -o 'HTTP/1.1 [0-9]* [A-Z][a-z]*' | sort -u)" 'HTTP/1.1 410 Gone'
  check "nginx-lite, $backend: said nothing" "$(grep -v notice /tmp/said)" ""
  kill -QUIT $server
  wait $server
  check "nginx-lite, $backend: ends when told to" $? 0
  sed 's/^/# /' /tmp/said /tmp/site/logs/error.log
  rm -rf /tmp/site
}

dd if=/dev/urandom bs=1000 count=500 2>/dev/null | tr -dc 'a-z' | head -c 10000 >/tmp/value
for backend in "$@"; do
  memcached "$backend"
  nginx "$backend"
done
rmmod megapipe || status=1
exit $status
