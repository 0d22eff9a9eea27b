/*
 * What the two reference servers share: their command line and their listening socket.
 *
 * Both are started as `PROGRAM [-l ADDRESS] [-w WORKERS] -p PORT` (port 0: the kernel chooses) and print
 * `listening on ADDRESS:PORT` as their first line. With -w they are that many processes, each on a CPU of its own, that all
 * accept from the one listening socket. Not its job: anything a measurement would see.
 */
#ifndef REFERENCE_LISTEN_H
#define REFERENCE_LISTEN_H

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static __attribute__((noreturn)) void fail(const char *what, int error) {
  fprintf(stderr, "%s: %s\n", what, strerror(error));
  exit(1);
}

/* Goes on in `workers` processes, on CPU 0 and up. The children end with their parent. */
static void become_workers(long workers) {
  for (long i = 1; i <= workers && workers > 1; i++) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET((int)(i % workers), &cpus);
    pid_t child = i == workers ? 0 : fork();
    if (child < 0) fail("fork", errno);
    if (child > 0) continue;
    if (i < workers) prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (sched_setaffinity(0, sizeof cpus, &cpus) < 0) fail("sched_setaffinity", errno);
    return;
  }
}

/* Reads the command line, raises the descriptor limit to what is allowed, and returns the listening socket. */
static int listen_from_arguments(int argc, char **argv, int socket_flags) {
  const char *address = "127.0.0.1";
  long port = -1, workers = 1;
  for (int option; (option = getopt(argc, argv, "l:p:w:")) != -1;) {
    if (option == 'l') {
      address = optarg;
    } else if (option == 'w') {
      workers = atol(optarg);
    } else if (option == 'p') {
      char *end;
      port = strtol(optarg, &end, 10);
      if (*optarg == 0 || *end != 0) port = -1;
    } else {
      port = -1;
      break;
    }
  }
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  if (port < 0 || port > 65535 || workers < 1 || workers > 256 || optind != argc || inet_pton(AF_INET, address, &name.sin_addr) != 1) {
    fprintf(stderr, "usage: %s [-l IPV4-ADDRESS] [-w WORKERS] -p PORT   (PORT 0 ... 65535, 0: any free one)\n", argv[0]);
    exit(2);
  }

  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  signal(SIGPIPE, SIG_IGN);

  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | socket_flags, 0);
  if (listener < 0) fail("socket", errno);
  int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  /* Linux hands TCP_NODELAY down to accepted sockets: no call per connection. */
  setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&name, sizeof name) < 0) fail("bind", errno);
  if (listen(listener, 4096) < 0) fail("listen", errno);
  socklen_t length = sizeof name;
  if (getsockname(listener, (struct sockaddr *)&name, &length) < 0) fail("getsockname", errno);
  printf("listening on %s:%u\n", address, (unsigned)ntohs(name.sin_port));
  fflush(stdout);
  become_workers(workers);
  return listener;
}

#endif
