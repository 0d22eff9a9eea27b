/**
 * The body filter of SSI: a document in, its commands carried out, its parts put in their places.
 *
 * What it is for: goes over a document as far as it is at hand (64 KiB at a time), queues text and included parts, and gives them in their
 * order. Invariants: a part's body goes out at its place, whenever it comes; nothing is read ahead of what the client takes but one window a
 * document; what is waited for stops the document and nothing else. Not its job: the tags (scanner.ts), what commands do (commands.ts).
 */

import { latin1, latin1Bytes } from '../../http/bytes.ts';
import { abort } from '../../http/closing.ts';
import { isSilent } from '../../http/output.ts';
import type { Request } from '../../http/request.ts';
import { type BodyStream, BytesStream, END, NOT_YET, type Piece } from '../../http/stream.ts';
import { subrequest } from '../../http/subrequest.ts';
import { runCommand } from './commands.ts';
import type { SsiContext, SsiRoot } from './context.ts';
import { assign, SsiProblem } from './evaluate.ts';
import { Found, TagScanner } from './scanner.ts';

/** Bytes of a document that are gone over at a time, and bytes that may come of it: nginx's two output_buffers. */
const WINDOW_BYTES = 64 * 1024;
const OUTPUT_BYTES = 1024 * 1024;

const nobody = (): void => {};

export class SsiStream implements BodyStream {
  wake: () => void = nobody;
  /** The document becomes the value of a variable: it may include nothing. */
  inMemory = false;
  readonly request: Request;
  readonly context: SsiContext;
  private readonly upstream: BodyStream;
  private readonly scanner: TagScanner;
  private readonly silent: boolean;
  /** Text and parts that were not given yet. */
  private readonly out: (Uint8Array | IncludedPart)[] = [];
  private outBytes = 0;
  /** What of the document was read and not gone over: `piece[at…)`. */
  private piece: Uint8Array = EMPTY;
  private at = 0;
  private ended = false;
  /** The part that the document waits for. */
  private waiting: IncludedPart | null = null;

  constructor(request: Request, upstream: BodyStream, context: SsiContext) {
    const { conf } = request.location;
    this.request = request;
    this.upstream = upstream;
    this.context = context;
    this.silent = conf.ssiSilentErrors;
    this.scanner = new TagScanner(conf.ssiValueLength, (bytes) => this.text(bytes));
    upstream.wake = () => this.wake();
  }

  next(): Piece {
    for (;;) {
      const first = this.out[0];
      if (first instanceof Uint8Array) return this.takeText();
      if (first === undefined) {
        if (this.ended) return END;
        if (!this.advance()) return NOT_YET;
        continue;
      }
      const piece = first.next();
      if (piece !== END) return piece;
      first.close();
      this.out.shift();
      if (this.waiting === first) this.waiting = null;
    }
  }

  /** Goes over what is at hand before anybody asks: documents act on each other's variables in the order they begin. */
  prime(): void {
    if (this.out.length === 0 && !this.ended) this.advance();
  }

  close(): void {
    this.upstream.close();
    for (const part of this.out) if (!(part instanceof Uint8Array)) part.close();
    this.out.length = 0;
    this.ended = true;
    if (this.request.parent === null) this.context.root.close();
  }

  /** All text up to the next part, as one piece. */
  private takeText(): Uint8Array {
    let count = this.out.findIndex((each) => !(each instanceof Uint8Array));
    if (count < 0) count = this.out.length;
    const texts = this.out.splice(0, count) as Uint8Array[];
    for (const each of texts) this.outBytes -= each.length;
    return texts.length === 1 ? (texts[0] as Uint8Array) : Buffer.concat(texts);
  }

  /** Goes on with the document; false: nothing of it is there. */
  private advance(): boolean {
    let left = WINDOW_BYTES;
    let moved = false;
    while (left > 0 && this.outBytes < OUTPUT_BYTES && this.waiting === null) {
      if (this.at === this.piece.length) {
        const piece = this.upstream.next();
        if (piece === NOT_YET) break;
        moved = true;
        if (piece === END) {
          // What was seen of a tag is dropped, as in nginx.
          this.ended = true;
          break;
        }
        // Text of it is kept until it is asked for, when the piece may not be valid any more.
        this.piece = piece.slice();
        this.at = 0;
      }
      const end = Math.min(this.piece.length, this.at + left);
      const found = this.scanner.scan(this.piece, this.at, end);
      left -= this.scanner.at - this.at;
      this.at = this.scanner.at;
      moved = true;
      if (found !== Found.End) this.tag(found === Found.Command);
    }
    this.context.root.run();
    return moved;
  }

  /** Text of the document. */
  private text(bytes: Uint8Array): void {
    const { context } = this;
    if (context.output) this.emit(bytes);
    else if (context.block && !context.root.addToBlock(bytes)) this.log('blocks of SSI are too large');
  }

  /** What is shown, whatever the document says. */
  emit(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.out.push(bytes);
    this.outBytes += bytes.length;
  }

  private tag(whole: boolean): void {
    for (const problem of this.scanner.problems.splice(0)) this.log(problem);
    if (whole) {
      try {
        runCommand(this, this.scanner.command, this.scanner.parameters);
        return;
      } catch (error) {
        if (!(error instanceof SsiProblem)) throw error;
        if (error.message !== '') this.log(error.message);
      }
    }
    if (!this.silent) this.emit(latin1Bytes(this.context.errmsg));
  }

  log(problem: string): void {
    this.request.connection.engine.logError(this.request, 'error', `${problem} while sending response to client`);
  }

  /** Puts what another URI answers here. */
  include(part: IncludedPart, wait: boolean): void {
    this.out.push(part);
    if (wait) this.waiting = part;
    this.context.root.post(part);
  }
}

export interface IncludeOptions {
  uri: string;
  args: string;
  /** Shown where the answer is empty or an error. */
  stub: Uint8Array | null;
  /** Name of the variable that the answer becomes the value of; it is not shown. */
  set: string | null;
}

/** An included URI. */
export class IncludedPart {
  private readonly parent: SsiStream;
  private readonly options: IncludeOptions;
  private body: BodyStream | null = null;
  private answered = false;
  private closed = false;
  private value: Value | null = null;

  constructor(parent: SsiStream, options: IncludeOptions) {
    this.parent = parent;
    this.options = options;
  }

  private get root(): SsiRoot {
    return this.parent.context.root;
  }

  /** Its turn has come. */
  start(): void {
    if (this.closed) return;
    const { uri, args, stub } = this.options;
    let late = false;
    subrequest(
      this.parent.request,
      uri,
      (sub) => {
        this.take(sub);
        if (!late || this.closed) return;
        this.root.run();
        this.parent.wake();
      },
      { args, body: true, stub },
    );
    late = true;
  }

  private take(sub: Request): void {
    this.answered = true;
    const { stub, set } = this.options;
    const body = sub.bodyStream;
    if (this.closed) {
      body?.close();
      return;
    }
    if (isSilent(sub.status)) {
      // Nobody is to be answered: that goes for the client's request, too.
      abort(sub.connection);
      return;
    }
    if (stub !== null && sub.contentLengthOut === 0) {
      body?.close();
      this.body = new BytesStream(stub);
      return;
    }
    this.body = body;
    if (body === null) return;
    body.wake = () => this.parent.wake();
    if (set !== null) {
      this.value = new Value(sub);
      if (body instanceof SsiStream) body.inMemory = true;
      this.drain(body, this.value);
    } else if (body instanceof SsiStream) body.prime();
  }

  next(): Piece {
    const { body, value } = this;
    if (!this.answered) return NOT_YET;
    if (body === null) return END;
    return value === null ? body.next() : this.drain(body, value);
  }

  /** Takes what there is of an answer that becomes a value. */
  private drain(body: BodyStream, value: Value): typeof NOT_YET | typeof END {
    for (;;) {
      const piece = body.next();
      if (piece === NOT_YET) return NOT_YET;
      if (piece === END) {
        // An error, or an answer without a body, is no value: the variable stays what it was.
        if (value.status < 300 && (value.text !== '' || body instanceof SsiStream))
          assign(this.root, this.options.set as string, value.text);
        // There is nothing to ask for any more.
        this.body = null;
        body.close();
        return END;
      }
      value.add(piece);
    }
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.root.open--;
    this.body?.close();
  }
}

/** An answer on its way into a variable: as long as its length said, or as subrequest_output_buffer_size allows. */
class Value {
  text = '';
  readonly status: number;
  private readonly request: Request;
  private readonly max: number;

  constructor(sub: Request) {
    const most = sub.location.conf.subrequestOutputBufferSize;
    this.request = sub;
    this.status = sub.status;
    this.max = sub.contentLengthOut >= 0 ? Math.min(sub.contentLengthOut, most) : most;
    if (sub.contentLengthOut > most) this.tooBig(sub.contentLengthOut);
  }

  add(bytes: Uint8Array): void {
    if (this.text.length + bytes.length > this.max) this.tooBig(bytes.length);
    else this.text += latin1(bytes, 0, bytes.length);
  }

  /** nginx gives the whole request up. */
  private tooBig(bytes: number): void {
    const { connection } = this.request;
    connection.engine.logError(this.request, 'error', `too big subrequest response: ${bytes}`);
    abort(connection);
  }
}

const EMPTY = new Uint8Array(0);
