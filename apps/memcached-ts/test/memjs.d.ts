/** The part of the npm package `memjs` that the tests use; it ships no types. */
declare module 'memjs' {
  interface Options {
    username?: string;
    password?: string;
    retries?: number;
    retry_delay?: number;
    timeout?: number;
    conntimeout?: number;
    logger?: { log(message: string): void };
  }
  type Value = string | Buffer;
  export class Client {
    static create(servers: string, options?: Options): Client;
    get(key: string): Promise<{ value: Buffer | null; flags: Buffer | null }>;
    set(key: string, value: Value, options: { expires?: number }): Promise<boolean>;
    add(key: string, value: Value, options: { expires?: number }): Promise<boolean>;
    replace(key: string, value: Value, options: { expires?: number }): Promise<boolean>;
    append(key: string, value: Value): Promise<boolean>;
    delete(key: string): Promise<boolean>;
    touch(key: string, expires: number): Promise<boolean>;
    increment(key: string, amount: number, options: { initial?: number }): Promise<{ success: boolean; value: number }>;
    decrement(key: string, amount: number, options: { initial?: number }): Promise<{ success: boolean; value: number }>;
    flush(): Promise<Record<string, boolean>>;
    stats(callback: (error: unknown, server: string, stats: Record<string, string> | null) => void): void;
    close(): void;
  }
}
