/** Echo: the response is the request. 64 different messages, so that another connection's message is seen as wrong. */
import { pattern } from '../payload.ts';
import { byteTable, type Exchange, TableMatcher } from './exchange.ts';

const MESSAGES = 64;

export function echoExchange(size: number, connections: number): Exchange {
  const messages = byteTable(Array.from({ length: MESSAGES }, (_, index) => pattern(size, index)));
  let turn = 0;
  return { requests: messages, matcher: new TableMatcher(messages, connections), pick: () => turn++ & (MESSAGES - 1) };
}
