/*
 * Echo server on BSD sockets: epoll_wait (level-triggered), accept4, read, write, one call each.
 *
 * What it is for: the C reference of Channel's `epoll` backend. A message is written back from the buffer it was
 * read into; what the socket does not take waits in memory of its own, and the connection is not read until then.
 * Not its job: several threads, limits, statistics.
 *
 *   cc -O2 -o echo_epoll echo_epoll.c && ./echo_epoll -p 7000
 */
#define _GNU_SOURCE
#include <sys/epoll.h>

#include "listen.h"

enum {
  EVENTS = 1024,
  BUFFER_BYTES = 4096,
  /* A burst of connections does not keep the others waiting for longer than this many accepts. */
  ACCEPTS_AT_ONCE = 256,
};

struct connection {
  char *rest; /* output that the socket did not take; NULL: none */
  size_t length, sent;
};

static struct connection *connections; /* indexed by descriptor */
static size_t connection_count;
static int poller;
static char buffer[BUFFER_BYTES];

static void watch(int fd, int operation, unsigned events) {
  struct epoll_event event = {.events = events, .data.fd = fd};
  if (epoll_ctl(poller, operation, fd, &event) < 0) fail("epoll_ctl", errno);
}

static void end(int fd) {
  free(connections[fd].rest);
  connections[fd] = (struct connection){0};
  close(fd); /* epoll forgets the descriptor with it */
}

static void accept_all(int listener) {
  for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) fprintf(stderr, "accept4: %s\n", strerror(errno));
      return;
    }
    if ((size_t)fd >= connection_count) {
      size_t count = (size_t)fd * 2 + 64;
      connections = realloc(connections, count * sizeof *connections);
      if (connections == NULL) fail("realloc", ENOMEM);
      memset(connections + connection_count, 0, (count - connection_count) * sizeof *connections);
      connection_count = count;
    }
    watch(fd, EPOLL_CTL_ADD, EPOLLIN);
  }
}

static void echo(int fd) {
  ssize_t length = read(fd, buffer, sizeof buffer);
  if (length < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (length <= 0) {
    end(fd);
    return;
  }
  ssize_t sent = write(fd, buffer, (size_t)length);
  if (sent == length) return;
  if (sent < 0) {
    if (errno != EAGAIN && errno != EINTR) {
      end(fd);
      return;
    }
    sent = 0;
  }
  struct connection *connection = &connections[fd];
  connection->length = (size_t)(length - sent);
  connection->sent = 0;
  connection->rest = malloc(connection->length);
  if (connection->rest == NULL) fail("malloc", ENOMEM);
  memcpy(connection->rest, buffer + sent, connection->length);
  watch(fd, EPOLL_CTL_MOD, EPOLLOUT);
}

static void write_rest(int fd) {
  struct connection *connection = &connections[fd];
  ssize_t sent = write(fd, connection->rest + connection->sent, connection->length - connection->sent);
  if (sent < 0) {
    if (errno != EAGAIN && errno != EINTR) end(fd);
    return;
  }
  connection->sent += (size_t)sent;
  if (connection->sent < connection->length) return;
  free(connection->rest);
  *connection = (struct connection){0};
  watch(fd, EPOLL_CTL_MOD, EPOLLIN);
}

int main(int argc, char **argv) {
  static struct epoll_event events[EVENTS];
  int listener = listen_from_arguments(argc, argv, SOCK_NONBLOCK);
  poller = epoll_create1(EPOLL_CLOEXEC);
  if (poller < 0) fail("epoll_create1", errno);
  /* Of several workers, not all are woken for one connection. */
  watch(listener, EPOLL_CTL_ADD, EPOLLIN | EPOLLEXCLUSIVE);
  for (;;) {
    int count = epoll_wait(poller, events, EVENTS, -1);
    if (count < 0 && errno != EINTR) fail("epoll_wait", errno);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        accept_all(listener);
      } else if (connections[fd].rest != NULL) {
        write_rest(fd);
      } else {
        echo(fd);
      }
    }
  }
}
