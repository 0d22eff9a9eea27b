/**
 * What SSI knows of a request while its documents are put together.
 *
 * What it is for: `SsiRoot` belongs to the client's request and is shared with all that it includes: variables, captures, blocks, and the
 * line of includes that wait for their turn. `SsiContext` belongs to one document. Invariants: includes begin in the order they were met, those of a
 * document after the document was gone over as far as it is at hand, as in nginx; each turn of the event loop begins a bounded number.
 * Not its job: reading documents (stream.ts), what commands do (commands.ts).
 */

import type { Request } from '../../http/request.ts';
import { DEFAULT_TIMEFMT } from '../../http/strftime.ts';
import { mainRequest } from '../../http/subrequest.ts';
import type { IncludedPart } from './stream.ts';

/** How deep documents may include each other: nginx's NGX_HTTP_MAX_SUBREQUESTS. */
export const DEPTH_MAX = 50;
/** Includes of one request that are under way at a time: where nginx's counter of references would overflow. */
export const OPEN_MAX = 64_535;
/** Includes begun in one turn of the event loop. */
const TURN = 64;
/** Text of all blocks of a request. */
const BLOCKS_BYTES_MAX = 8 * 1024 * 1024;

export type Encoding = 'none' | 'url' | 'entity';

/** Where the document stands in an `if`. */
export const Conditional = { None: 0, If: 1, Else: 2 } as const;

export class SsiContext {
  readonly root: SsiRoot;
  conditional: number = Conditional.None;
  /** What comes now is shown. */
  output = true;
  /** A branch of the `if` was shown. */
  chosen = false;
  /** What comes now is the text of a block. */
  block = false;
  encoding: Encoding = 'entity';
  timefmt = DEFAULT_TIMEFMT;
  errmsg = '[an error occurred while processing the directive]';

  constructor(root: SsiRoot) {
    this.root = root;
  }
}

interface Block {
  name: string;
  text: Uint8Array[];
}

export class SsiRoot {
  readonly variables = new Map<string, string>();
  /** Of the last regular expression that matched: up to the last group that took part. */
  captures: string[] = [];
  readonly blocks: Block[] = [];
  /** Includes that began and have not ended. */
  open = 0;
  private readonly request: Request;
  private readonly serial: number;
  private blockBytes = 0;
  private posted: IncludedPart[] = [];
  private next = 0;
  private running = false;
  private closed = false;

  private constructor(request: Request) {
    this.request = request;
    this.serial = request.connection.serial;
  }

  /** The one of the client's request that `r` is, or is a part of. */
  static of(r: Request): SsiRoot {
    const main = mainRequest(r);
    main.ssiRoot ??= new SsiRoot(main);
    return main.ssiRoot;
  }

  /** Adds to the block that was begun last; false: blocks are full. */
  addToBlock(text: Uint8Array): boolean {
    const block = this.blocks.at(-1);
    if (block === undefined) return true;
    if (this.blockBytes + text.length > BLOCKS_BYTES_MAX) return false;
    this.blockBytes += text.length;
    block.text.push(text.slice());
    return true;
  }

  /** The include begins when it is its turn: at the next `run`. */
  post(part: IncludedPart): void {
    this.open++;
    this.posted.push(part);
  }

  /** Begins what was posted, and what those post. */
  run(): void {
    if (this.running) return;
    this.running = true;
    for (let left = TURN; left > 0 && this.next < this.posted.length && !this.closed; left--)
      (this.posted[this.next++] as IncludedPart).start();
    if (this.closed || this.next === this.posted.length) {
      this.posted = [];
      this.next = 0;
      this.running = false;
      return;
    }
    const { engine } = this.request.connection;
    setImmediate(() => {
      this.running = false;
      engine.resumeRequest(this.request, this.serial, () => this.run());
    });
  }

  close(): void {
    this.closed = true;
    this.posted = [];
    this.next = 0;
  }
}
