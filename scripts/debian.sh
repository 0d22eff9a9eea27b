#!/bin/sh
# The Debian packages that tests and benchmarks use: memcached and nginx (the C originals), their clients (curl, wrk and Chromium
# among them), strace (failing system calls).
# Installs what is missing when root; otherwise prints the one line to type. Never an error: what needs a
# package that is not there is skipped, and says so.
wanted=""
[ -x /usr/bin/memcached ] || wanted="$wanted memcached"
[ -x /usr/sbin/nginx ] || wanted="$wanted nginx-light"
[ -x /usr/bin/curl ] || wanted="$wanted curl"
[ -x /usr/bin/wrk ] || wanted="$wanted wrk"
[ -x /usr/bin/strace ] || wanted="$wanted strace"
[ -x /usr/bin/valgrind ] || wanted="$wanted valgrind"
[ -x /usr/bin/memccapable ] || wanted="$wanted libmemcached-tools"
# Clients in other languages, for the tests of memcached-ts.
[ -e /usr/lib/python3/dist-packages/pymemcache ] || wanted="$wanted python3-pymemcache"
[ -e /usr/lib/python3/dist-packages/pylibmc ] || wanted="$wanted python3-pylibmc"
[ -e /usr/share/doc/libcache-memcached-fast-perl ] || wanted="$wanted libcache-memcached-fast-perl"
browser=""
[ -x /usr/bin/chromium ] || browser=chromium
[ -n "$wanted$browser" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "setup: installing$wanted $browser (for comparisons and tests)"
  # They must not start as services: the ports and the CPU are wanted for measuring.
  policy=/usr/sbin/policy-rc.d
  made=""
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && made=1
  fi
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086
  { apt-get update -qq && { [ -z "$wanted" ] || apt-get install -y -qq --no-install-recommends $wanted; }; } >/dev/null 2>&1 ||
    echo "setup: that did not work; what needs$wanted will be skipped" >&2
  # By itself: it is large, and nothing else is to fail with it.
  [ -z "$browser" ] || apt-get install -y -qq --no-install-recommends $browser >/dev/null 2>&1 ||
    echo "setup: that did not work; what needs $browser will be skipped" >&2
  [ -z "$made" ] || rm -f $policy
else
  echo "setup: for the comparisons with the C originals, type as root: apt-get install$wanted $browser"
fi
exit 0
