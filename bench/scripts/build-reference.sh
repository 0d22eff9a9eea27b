#!/bin/sh
# Compiles the C reference servers into build/reference/. CC and CFLAGS may be set; warnings are errors.
set -eu
cd "$(dirname -- "$0")/.."
mkdir -p build/reference
for program in echo_epoll echo_uring; do
  "${CC:-cc}" ${CFLAGS:--O2} -std=gnu11 -Wall -Wextra -Werror -o "build/reference/$program" "reference/$program.c"
done
