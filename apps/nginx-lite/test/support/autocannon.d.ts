/** The part of autocannon that the tests use; the package has no types of its own. */
declare module 'autocannon' {
  interface Options {
    url: string;
    connections: number;
    pipelining: number;
    amount: number;
    /** Seconds that an answer may take. */
    timeout?: number;
    expectBody?: string;
  }
  interface Result {
    errors: number;
    timeouts: number;
    mismatches: number;
    non2xx: number;
    '2xx': number;
  }
  export default function autocannon(options: Options): Promise<Result>;
}
