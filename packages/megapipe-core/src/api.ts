/**
 * The words that Channel and its users share: the sink, options, results.
 *
 * What it is for: everything here is plain data or a type, so that an application can be written
 * (and read) against this file alone. Not its job: behaviour; that is channel.ts and the backends.
 */

/** A connection or listening socket of one channel: slot (20 bits) and generation (11 bits), always > 0. */
export type Handle = number;

/** What {@link Sink.onAccept} delivers: a file descriptor (>= 0) or an lwsocket (< 0). Goes to `register`. */
export type AcceptedSocket = number;

/** Bits of a handle that hold the slot: `handle & SLOT_MASK` is a dense index, fit for an app's own arrays. */
export const SLOT_BITS = 20;
export const SLOT_MASK = (1 << SLOT_BITS) - 1;

/** Result of {@link Channel.write} and friends. */
export const Write = {
  /** Taken, and nothing of this connection waits behind a blocked send. */
  Sent: 0,
  /** Taken; it waits for earlier output of this connection. */
  Queued: 1,
  /** Nothing was taken: the connection's output is at its limit. `onDrain` tells when to go on. */
  Full: 2,
} as const;
export type WriteResult = (typeof Write)[keyof typeof Write];

/**
 * Receiver of completions. One object per channel; its methods get plain numbers, so that a completion
 * allocates nothing. Methods run inside `dispatch` (or the event-loop attachment), never inside another
 * channel call. Errors are positive errno values (`os.constants.errno`), 0 = none. Cookies are the user's 32-bit
 * integers; so are tokens, from -2^31 + 1 on.
 */
export interface Sink {
  /**
   * A listening socket accepted a connection. `register(socket, cookie)` brings it into the channel;
   * `discard(socket)` closes it. `pending`: connections that still wait in the listen queue, as the kernel counted them
   * (TCP_INFO) at the first of a batch's accepts, and counted down since; 0 for Unix sockets, which have no such count. Asked for only where
   * the method declares this third parameter.
   */
  onAccept(listenerCookie: number, socket: AcceptedSocket, pending: number): void;
  /** accept failed (EMFILE, ENFILE, ENOBUFS, ENOMEM …). The channel goes on accepting after a pause. */
  onAcceptError(listenerCookie: number, errno: number): void;
  /** `length` > 0 bytes stand at `channel.memory[offset …]`; they are valid until this method returns. */
  onRead(handle: Handle, cookie: number, offset: number, length: number): void;
  /** The peer ended its side (errno 0), or the connection broke (errno > 0). Reading has stopped. Call `close`. */
  onEnd(handle: Handle, cookie: number, errno: number): void;
  /** Output that had answered Full is down to the low-water mark (or memory is free again): go on writing. */
  onDrain(handle: Handle, cookie: number): void;
  /**
   * The memory of one `write(handle, region, …, token)` is no longer used. errno 0: every byte was handed to the
   * socket. errno > 0: the bytes were not all sent; for the connection's own failure `onEnd` follows.
   * Called exactly once for every such write that was not refused as Full, also after `close` and `abort`.
   */
  onWritten(handle: Handle, cookie: number, token: number, errno: number): void;
  /** Outcome of `connect`. After an error call `close`. */
  onConnect(handle: Handle, cookie: number, errno: number): void;
  /** The deadline set with `setDeadline` passed. It is cleared; nothing else happens by itself. */
  onTimeout(handle: Handle, cookie: number): void;
  /**
   * Outcome of `readInto`: `bytes` > 0 stand in the region. 0 with errno 0: the peer ended; errno > 0: failure or
   * ECANCELED; `onEnd` follows unless the handle is closing. Needed only by users of `readInto`.
   */
  onReadInto?(handle: Handle, cookie: number, token: number, bytes: number, errno: number): void;
  /**
   * Outcome of `readFile`: `bytes` stand in the region; fewer than asked for where the file ends. errno > 0: failure, or
   * ECANCELED when the channel is destroyed. Needed only by users of `readFile`.
   */
  onReadFile?(token: number, bytes: number, errno: number): void;
  /** It is this handle's turn again: see `Channel.defer`. Needed only by its users. */
  onTurn?(handle: Handle, cookie: number): void;
  /** `unregister` is done: the handle is gone, `fd` is the caller's. Needed only by users of `unregister`. */
  onUnregister?(handle: Handle, cookie: number, fd: number): void;
  /** The last word about a handle: it is closed and may be reused from now on. */
  onClose(handle: Handle, cookie: number): void;
}

export type BackendName = 'uring' | 'device' | 'epoll';

export interface ChannelOptions {
  /**
   * `auto` (default): uring where the kernel allows it, else epoll (see `channel.backendReason`). `device`, the module of
   * kernel/, is never taken without being asked for.
   * A backend asked for by name is never replaced: the constructor throws instead.
   */
  backend?: 'auto' | BackendName;
  /** Handles at most, 16 … 500,000. Default 16,384. Connections above it wait in the listen queue. */
  maxHandles?: number;
  /** Outgoing connections at most (`connect`). Default 256. On uring these are lwsockets, too. */
  maxConnects?: number;
  /** Receive buffers (power of two, 8 … 32,768) and bytes of each (256 … 1 MiB). Default 512 × 4,096. */
  recvBuffers?: number;
  recvBufferBytes?: number;
  /** Output held per connection before writes answer Full, bytes. Default 256 KiB. A write is taken whole if it starts below. */
  outputMax?: number;
  /** Memory for output that is produced in place (`reserve`, `writeCopy`), bytes over all connections. Default 64 MiB, touched as used. */
  outputPoolBytes?: number;
  /** Accept and connect as lwsockets (no file descriptor). Default: where the backend and the kernel do it well. */
  lightweight?: boolean;
  /**
   * Note the address of each accepted lwsocket's peer, so that `peerAddress` costs nothing more. Costs a request per
   * connection, since one multishot accept has room for one address only. Default false: the kernel is asked (Linux 6.7) when
   * `peerAddress` is; that is cheaper where few are wanted. On epoll and for descriptors it is always asked.
   */
  peerNames?: boolean;
  /** Submit once a batch. false submits each request by itself (only for measuring what batching gives). Default true. */
  batch?: boolean;
  /** Submission queue entries, power of two. Default 1,024. Completion queue entries. Default 16,384. */
  sqEntries?: number;
  cqEntries?: number;
  /** Completions handled before timers and the host event loop get their turn. Default 4,096. */
  drainMax?: number;
}

/** Options of `register`. */
export interface RegisterOptions {
  /** The fd also belongs to others (a listening socket that several channels accept from): the channel works on a duplicate. */
  shared?: boolean;
  /**
   * The paper's CPU mask, for a `ListenGroup`: this channel answers the connections that these CPUs (numbers, 0 … 511) receive.
   * Either every channel of a group has one, or none. On backend `device` also for a listening TCP socket (made without
   * `reusePort`): every channel that registers it with a mask gets its share; the module makes what is needed for that.
   */
  cpus?: number | readonly number[];
}

/**
 * What the kernel under a uring channel offers, each found out by asking for it. `used` features are in use; the others are
 * known and left alone, because no measurement here has shown a gain (ARCHITECTURE.md).
 */
export interface UringFeatures {
  used: {
    /** Submission without an index array (6.6). */
    noSqArray: boolean;
    /** Completions are made only when this thread asks (6.1); else cooperative task work. */
    deferTaskrun: boolean;
    multishotAccept: boolean;
    multishotRecv: boolean;
    bufferRing: boolean;
    /**
     * Closing an lwsocket closes it at once. False up to Linux 6.12, where an idle connection delays it without limit:
     * `lightweight` is then false unless it is asked for.
     */
    lwsockets: boolean;
  };
  unused: {
    /** Zero-copy send (6.0). */
    sendZc: boolean;
    /** One send or receive over several buffers (6.10). */
    bundles: boolean;
    /** Buffers used up piece by piece (6.12). */
    incrementalBuffers: boolean;
  };
}

export interface ChannelStats {
  backend: BackendName;
  /** Completions handed over, and dispatch rounds that had any. */
  completions: number;
  batches: number;
  /** completions / batches, 0 before the first. */
  meanBatch: number;
  /** Calls into the kernel that waited or submitted, as far as JavaScript made them; an attached channel's own waits are not among them. */
  enters: number;
  accepts: number;
  /** Handles open now. */
  open: number;
  bytesRead: number;
  bytesWritten: number;
  /** Receives that found no free buffer, and were armed again. */
  noBuffers: number;
  /** Completions for a generation that is gone; they are dropped. */
  stale: number;
  /** Completion-queue overflows the kernel reported. */
  overflows: number;
  /** Writes answered Full. */
  full: number;
  /** ... of these, because the memory for output was all in use. */
  poolEmpty: number;
  /** Pieces of that memory that hold output now, and their bytes. */
  outputChunks: number;
  outputChunkBytes: number;
}
