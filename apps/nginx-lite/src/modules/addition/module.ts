/**
 * addition: what other locations answer, put before and behind a body.
 *
 * What it is for: subrequests for `add_before_body` and `add_after_body`, made when the body has come so far, so that no more than a
 * piece of each is in memory. Invariants: the parts stand in order, whenever they come; a part that fails shows its error page, as
 * in nginx; filters that change text (sub_filter) have seen each part by itself, gzip packs the whole.
 */

import { Args, type Directive, HTTP_ALL } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { loc, word } from '../../conf/setters.ts';
import { Code } from '../../http/codes.ts';
import type { Request } from '../../http/request.ts';
import { type BodyStream, END, NOT_YET, type Piece } from '../../http/stream.ts';
import { subrequest } from '../../http/subrequest.ts';
import { setTypes } from '../gzip/conf.ts';
import { bodyChanges, typeIs } from '../gzip/filter.ts';

export const ADDITION_DEFAULTS: Pick<LocConf, 'addBeforeBody' | 'addAfterBody' | 'additionTypes'> = {
  addBeforeBody: '',
  addAfterBody: '',
  additionTypes: ['text/html'],
};

export const ADDITION_DIRECTIVES: Directive[] = [
  { name: 'add_before_body', contexts: HTTP_ALL, args: Args.Take1, set: loc('addBeforeBody', word) },
  { name: 'add_after_body', contexts: HTTP_ALL, args: Args.Take1, set: loc('addAfterBody', word) },
  { name: 'addition_types', contexts: HTTP_ALL, args: Args.OneOrMore, set: setTypes('additionTypes', ['text/html']) },
];

function wanted(r: Request): boolean {
  const { conf } = r.location;
  if (r.status !== 200 || r.parent !== null) return false;
  return (conf.addBeforeBody !== '' || conf.addAfterBody !== '') && typeIs(r, conf.additionTypes);
}

/** The header of an answer with additions. */
export function additionFilter(r: Request): number {
  if (wanted(r)) bodyChanges(r);
  return Code.Ok;
}

/** Joins the parts: behind the filters that work on each part, before those that work on the whole. */
export function additionJoinFilter(r: Request): number {
  if (!wanted(r)) return Code.Ok;
  r.impure();
  const { addBeforeBody, addAfterBody } = r.location.conf;
  r.bodyFilters.push((upstream) => new JoinedStream(r, upstream, addBeforeBody, addAfterBody));
  return Code.Ok;
}

class JoinedStream implements BodyStream {
  wake: () => void = () => {};
  private readonly request: Request;
  private readonly upstream: BodyStream;
  /** What is still to come: URIs, and null for the body itself. */
  private readonly parts: (string | null)[];
  private current: BodyStream | null = null;
  private waiting = false;
  private closed = false;

  constructor(request: Request, upstream: BodyStream, before: string, after: string) {
    this.request = request;
    this.upstream = upstream;
    this.parts = [before, null, after].filter((part) => part !== '');
  }

  next(): Piece {
    while (!this.waiting) {
      if (this.current === null) {
        const part = this.parts.shift();
        if (part === undefined) return END;
        if (part === null) this.begin(this.upstream);
        else this.ask(part);
        continue;
      }
      const piece = this.current.next();
      if (piece !== END) return piece;
      this.current.close();
      this.current = null;
    }
    return NOT_YET;
  }

  private begin(stream: BodyStream): void {
    this.current = stream;
    stream.wake = () => this.wake();
  }

  private ask(uri: string): void {
    let late = false;
    this.waiting = true;
    subrequest(
      this.request,
      uri,
      (sub) => {
        this.waiting = false;
        const body = sub.bodyStream;
        if (this.closed) body?.close();
        else if (body !== null) this.begin(body);
        if (late && !this.closed) this.wake();
      },
      { body: true },
    );
    late = true;
  }

  close(): void {
    this.closed = true;
    this.upstream.close();
    this.current?.close();
  }
}
