// SPDX-License-Identifier: GPL-2.0
/*
 * Echo server on /dev/megapipe, the counterpart of bench/reference/echo_uring.c: lwsockets from one ACCEPT, READ multishot
 * into provided buffers, one WRITE per message from the buffer it was received in, one enter per batch, closes that
 * complete in silence. One write at a time on a connection.
 *
 *	-p PORT		listen there
 *	-w WORKERS	that many processes, each on a CPU of its own and with a channel of its own
 *	-P		partitioned: the listening socket is registered with the mask of all CPUs, or of the worker's own
 *	-L		without lwsockets: connections are accepted as descriptors
 *	-B		without batches: each request is handed over by itself, completions are taken one at a time
 */
#include <sys/prctl.h>

#include "../selftests/megapipe.h"

#define NONE 0xffff
#define SQ_ENTRIES 1024
#define CQ_ENTRIES 16384
#define HANDLES 8192
#define BUFFERS 512
#define BUFFER_BYTES 4096

enum { ACCEPT = 1, RECEIVE, SEND };

static struct channel ch;
static bool lightweight = true, batch = true;
/* By handle: its name in requests (index and generation); received buffers on their way out, oldest first; the descriptor, if any. */
static struct connection {
	uint64_t name;
	int fd;
	uint16_t first, last;
	bool ended;
} connections[HANDLES];
static struct buffer {
	uint32_t length;
	uint32_t next;
} buffers[BUFFERS];
static uint32_t starved[HANDLES];
static unsigned int starved_count;
static uint32_t free_chosen[HANDLES], free_count;
/* The rings, as echo_uring.c keeps them; what we took of the completions, and the buffers given back, are told once a batch. */
static struct megapipe_sqe *sqes;
static struct megapipe_cqe *cqes;
static uint32_t *sq_head, *sq_tail, *cq_head, *cq_tail, *bq_tail, *bids, written, taken, given, room = SQ_ENTRIES;

static void hand_over(uint32_t min, int64_t timeout_ns)
{
	store(sq_tail, written);
	store(cq_head, taken);
	store(bq_tail, given);
	enter(&ch, SQ_ENTRIES, min, timeout_ns);
	room = SQ_ENTRIES - (written - load(sq_head));
}

static inline uint64_t name_of(uint32_t index, uint32_t generation)
{
	return index | (uint64_t)generation << 32;
}

/* What is not written here is 0 in all entries, and stays so. */
static inline __attribute__((always_inline)) void queue(uint8_t opcode, uint8_t flags, int fd, uint64_t name, uint64_t addr,
							uint64_t len, uint32_t op_flags, uint64_t user_data)
{
	struct megapipe_sqe *sqe;

	while (room == 0)
		hand_over(0, 0);
	room--;
	sqe = &sqes[written++ & (SQ_ENTRIES - 1)];
	sqe->opcode = opcode;
	sqe->flags = flags;
	sqe->reserved = 0;
	sqe->fd = fd;
	memcpy(&sqe->index, &name, sizeof(name));
	sqe->addr = addr;
	sqe->len = len;
	sqe->op_flags = op_flags;
	sqe->user_data = user_data;
	if (!batch)
		hand_over(0, 0);
}

static void receive(uint32_t h)
{
	queue(MEGAPIPE_OP_READ, 0, 0, connections[h].name, 0, 0, MEGAPIPE_READ_PROVIDED | MEGAPIPE_READ_MULTISHOT, RECEIVE);
}

static inline void send_first(const struct connection *c)
{
	queue(MEGAPIPE_OP_WRITE, 0, 0, c->name, (uintptr_t)ch.buffers + (uint64_t)c->first * BUFFER_BYTES, buffers[c->first].length, 0,
	      SEND);
}

static void end(struct connection *c)
{
	queue(MEGAPIPE_OP_CLOSE, MEGAPIPE_SQE_SKIP_SUCCESS, 0, c->name, 0, 0, 0, 0);
	if (c->fd >= 0) {
		close(c->fd);
		free_chosen[free_count++] = c - connections;
	}
}

static void on_accept(const struct megapipe_cqe *cqe)
{
	uint32_t h = cqe->index;

	if (cqe->res < 0)
		return;
	if (lightweight) {
		connections[h] = (struct connection){ name_of(h, cqe->generation), -1, NONE, NONE, false };
	} else {
		h = free_chosen[--free_count];
		connections[h] = (struct connection){ name_of(h, (connections[h].name >> 32) + 1), cqe->res, NONE, NONE, false };
		queue(MEGAPIPE_OP_REGISTER, MEGAPIPE_SQE_SKIP_SUCCESS, cqe->res, connections[h].name, 0, 0, 0, 0);
	}
	receive(h);
}

/* The handle of a completion: its generation tells it from an earlier owner of the index. */
static inline void on_receive(const struct megapipe_cqe *cqe)
{
	struct connection *c = &connections[cqe->index];

	if (cqe->flags & MEGAPIPE_CQE_BUFFER) {
		uint32_t bid = cqe->flags >> MEGAPIPE_CQE_SHIFT;

		buffers[bid] = (struct buffer){ cqe->res, NONE };
		if (c->first == NONE) {
			c->first = c->last = bid;
			send_first(c);
		} else {
			buffers[c->last].next = bid;
			c->last = bid;
		}
	}
	if (cqe->flags & MEGAPIPE_CQE_MORE)
		return;
	if (cqe->res == -ENOBUFS) {
		starved[starved_count++] = cqe->index;
		return;
	}
	c->ended = true;
	if (c->first == NONE)
		end(c);
}

static inline void on_send(const struct megapipe_cqe *cqe)
{
	struct connection *c = &connections[cqe->index];
	uint32_t bid = c->first;

	do {
		bids[given++ & (BUFFERS - 1)] = bid;
		bid = c->first = buffers[bid].next;
	} while (cqe->res < 0 && bid != NONE);
	if (bid != NONE)
		send_first(c);
	else if (c->ended)
		end(c);
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_ANY) } };
	struct megapipe_params p = { .sq_entries = SQ_ENTRIES, .cq_entries = CQ_ENTRIES, .handles = HANDLES, .chosen = HANDLES / 2,
				     .buffers = BUFFERS, .buffer_bytes = BUFFER_BYTES };
	uint64_t mask[16];
	bool partition = false;
	const struct megapipe_cqe *cqe;
	int option, fd, on = 1, workers = 1, worker = 0;
	uint32_t listener, end_of_batch, i;

	while ((option = getopt(argc, argv, "p:w:PLB")) != -1) {
		if (option == 'p')
			a.sin_port = htons(atoi(optarg));
		else if (option == 'w')
			workers = atoi(optarg);
		else if (option == 'P')
			partition = true;
		else if (option == 'L')
			lightweight = false;
		else if (option == 'B')
			batch = false;
		else
			return 2;
	}
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0);
	MUST(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
	MUST(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 1024) == 0);
	memset(mask, workers > 1 ? 0 : 0xff, sizeof(mask));
	if (workers > 1) {
		for (; worker < workers - 1; worker++) {
			pid_t child = fork();

			MUST(child >= 0);
			if (child == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				break;
			}
		}
		pin(worker);
		mask[worker / 64] |= 1ull << worker % 64;
	}
	ch = open_channel_with(p);
	sqes = (struct megapipe_sqe *)(ch.map + ch.p.sqes);
	cqes = (struct megapipe_cqe *)(ch.map + ch.p.cqes);
	sq_head = counter(&ch, ch.p.sq_head);
	sq_tail = counter(&ch, ch.p.sq_tail);
	cq_head = counter(&ch, ch.p.cq_head);
	cq_tail = counter(&ch, ch.p.cq_tail);
	bq_tail = counter(&ch, ch.p.bq_tail);
	bids = (uint32_t *)(ch.map + ch.p.bids);
	given = ch.bq_tail;
	for (i = 1; i < p.chosen; i++)
		free_chosen[free_count++] = chosen(&ch, i);
	listener = chosen(&ch, 0);
	queue(MEGAPIPE_OP_REGISTER, MEGAPIPE_SQE_SKIP_SUCCESS, fd, listener, (uintptr_t)mask, partition ? sizeof(mask) : 0, 0, 0);
	queue(MEGAPIPE_OP_ACCEPT, 0, 0, listener, 0, 0, lightweight ? 0 : MEGAPIPE_ACCEPT_FD, ACCEPT);
	for (;;) {
		hand_over(1, -1);
		for (end_of_batch = load(cq_tail); taken != end_of_batch; taken++) {
			cqe = &cqes[taken & (CQ_ENTRIES - 1)];
			if (cqe->user_data == RECEIVE)
				on_receive(cqe);
			else if (cqe->user_data == SEND)
				on_send(cqe);
			else if (cqe->user_data == ACCEPT)
				on_accept(cqe);
		}
		for (i = 0; i < starved_count; i++)
			receive(starved[i]);
		starved_count = 0;
	}
}
