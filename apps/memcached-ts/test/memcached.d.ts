/** The part of the npm package `memcached` that the tests use; it ships no types. */
declare module 'memcached' {
  type Callback<T> = (this: { cas?: string }, error: unknown, data: T) => void;
  interface Options {
    retries?: number;
    timeout?: number;
    idle?: number;
    poolSize?: number;
    failures?: number;
    reconnect?: number;
  }
  export default class Memcached {
    constructor(server: string, options?: Options);
    set(key: string, value: unknown, lifetime: number, callback: Callback<boolean>): void;
    add(key: string, value: unknown, lifetime: number, callback: Callback<boolean>): void;
    replace(key: string, value: unknown, lifetime: number, callback: Callback<boolean>): void;
    append(key: string, value: string, callback: Callback<boolean>): void;
    prepend(key: string, value: string, callback: Callback<boolean>): void;
    cas(key: string, value: unknown, cas: string, lifetime: number, callback: Callback<boolean>): void;
    get(key: string, callback: Callback<unknown>): void;
    gets(key: string, callback: Callback<Record<string, string> & { cas: string }>): void;
    getMulti(keys: string[], callback: Callback<Record<string, unknown>>): void;
    incr(key: string, amount: number, callback: Callback<number | false>): void;
    decr(key: string, amount: number, callback: Callback<number | false>): void;
    del(key: string, callback: Callback<boolean>): void;
    touch(key: string, lifetime: number, callback: Callback<boolean>): void;
    stats(callback: Callback<Record<string, unknown>[]>): void;
    version(callback: Callback<{ version: string }[]>): void;
    flush(callback: Callback<unknown>): void;
    end(): void;
  }
}
