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
/* By handle: received buffers on their way out, oldest first; the descriptor, where there is one. */
static struct connection {
	uint32_t generation;
	int fd;
	uint16_t first, last;
	bool ended;
} connections[HANDLES];
static uint16_t next_buffer[BUFFERS];
static uint32_t lengths[BUFFERS];
static uint32_t starved[HANDLES];
static unsigned int starved_count;
static uint32_t free_chosen[HANDLES], free_count;
/* The rings, as echo_uring.c keeps them; what we took of the completions, and the buffers given back, are told once a batch. */
static struct megapipe_sqe *sqes;
static struct megapipe_cqe *cqes;
static uint32_t *sq_head, *sq_tail, *cq_head, *cq_tail, *bq_tail, *bids, written, taken, given;

static void hand_over(uint32_t min, int64_t timeout_ns)
{
	store(sq_tail, written);
	store(cq_head, taken);
	store(bq_tail, given);
	enter(&ch, SQ_ENTRIES, min, timeout_ns);
}

/* Always inline: the request is written where it goes, not copied there. */
static inline __attribute__((always_inline)) void queue(struct megapipe_sqe sqe)
{
	while (written - load(sq_head) == SQ_ENTRIES)
		hand_over(0, 0);
	sqes[written++ & (SQ_ENTRIES - 1)] = sqe;
	if (!batch)
		hand_over(0, 0);
}

static void receive(uint32_t h)
{
	queue((struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = h, .generation = connections[h].generation,
				     .op_flags = MEGAPIPE_READ_PROVIDED | MEGAPIPE_READ_MULTISHOT, .user_data = RECEIVE });
}

static void send_first(uint32_t h)
{
	uint16_t bid = connections[h].first;

	queue((struct megapipe_sqe){ .opcode = MEGAPIPE_OP_WRITE, .index = h, .generation = connections[h].generation,
				     .addr = (uintptr_t)ch.buffers + (uint64_t)bid * BUFFER_BYTES, .len = lengths[bid],
				     .user_data = SEND });
}

static void end(uint32_t h)
{
	queue((struct megapipe_sqe){ .opcode = MEGAPIPE_OP_CLOSE, .flags = MEGAPIPE_SQE_SKIP_SUCCESS, .index = h,
				     .generation = connections[h].generation });
	if (connections[h].fd >= 0) {
		close(connections[h].fd);
		free_chosen[free_count++] = h;
	}
}

static void on_accept(const struct megapipe_cqe *cqe)
{
	uint32_t h = cqe->index;

	if (cqe->res < 0)
		return;
	if (lightweight) {
		connections[h] = (struct connection){ cqe->generation, -1, NONE, NONE, false };
	} else {
		h = free_chosen[--free_count];
		connections[h] = (struct connection){ connections[h].generation + 1, cqe->res, NONE, NONE, false };
		queue((struct megapipe_sqe){ .opcode = MEGAPIPE_OP_REGISTER, .flags = MEGAPIPE_SQE_SKIP_SUCCESS, .fd = cqe->res,
					     .index = h, .generation = connections[h].generation });
	}
	receive(h);
}

/* The handle of a completion: its generation tells it from an earlier owner of the index. */
static void on_receive(const struct megapipe_cqe *cqe)
{
	struct connection *c = &connections[cqe->index];

	if (cqe->flags & MEGAPIPE_CQE_BUFFER) {
		uint16_t bid = cqe->flags >> MEGAPIPE_CQE_SHIFT;

		lengths[bid] = cqe->res;
		next_buffer[bid] = NONE;
		if (c->first == NONE) {
			c->first = c->last = bid;
			send_first(cqe->index);
		} else {
			next_buffer[c->last] = bid;
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
		end(cqe->index);
}

static void on_send(const struct megapipe_cqe *cqe)
{
	struct connection *c = &connections[cqe->index];
	uint16_t bid = c->first;

	do {
		c->first = next_buffer[bid];
		bids[given++ & (BUFFERS - 1)] = bid;
		bid = c->first;
	} while (cqe->res < 0 && bid != NONE);
	if (bid != NONE)
		send_first(cqe->index);
	else if (c->ended)
		end(cqe->index);
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
	queue((struct megapipe_sqe){ .opcode = MEGAPIPE_OP_REGISTER, .flags = MEGAPIPE_SQE_SKIP_SUCCESS, .fd = fd, .index = listener,
				     .addr = (uintptr_t)mask, .len = partition ? sizeof(mask) : 0 });
	queue((struct megapipe_sqe){ .opcode = MEGAPIPE_OP_ACCEPT, .index = listener, .user_data = ACCEPT,
				     .op_flags = lightweight ? 0 : MEGAPIPE_ACCEPT_FD });
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
