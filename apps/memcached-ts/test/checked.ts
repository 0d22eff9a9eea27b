/**
 * Loaded into a server by `NODE_OPTIONS=--import=…`: when the server ends, walks its whole cache memory with the invariant
 * checker and says on stderr `CHECK ok` or `CHECK` and each fault. So a black-box test ends with a look inside, and the
 * server itself needs no door for it.
 * How: it takes the shared memory from what the main thread gives to its workers.
 */
import { writeSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import threads from 'node:worker_threads';

interface Given {
  shared: SharedArrayBuffer;
  settings: { cache: import('../src/engine/layout.ts').CacheConfig };
}

if (threads.isMainThread) {
  const { Cache } = await import('../src/engine/cache.ts');
  const { checkInvariants } = await import('../src/engine/check.ts');
  const { CacheMemory, W_BACKGROUND_STOP } = await import('../src/engine/layout.ts');
  let given: Given | undefined;
  const Original = threads.Worker;
  threads.Worker = class extends Original {
    constructor(...args: ConstructorParameters<typeof Original>) {
      super(...args);
      const data = args[1]?.workerData as Given & { background?: Given };
      given ??= data.background ?? data;
    }
  };
  syncBuiltinESMExports();

  process.on('exit', () => {
    if (given === undefined) return;
    const memory = new CacheMemory(given.shared, given.settings.cache);
    // The workers have ended. The background thread has not: it comes to rest within moments.
    Atomics.store(memory.i32, W_BACKGROUND_STOP, 1);
    const nothing = new Int32Array(new SharedArrayBuffer(4));
    let faults: string[] = [];
    for (let turn = 0; turn < 8; turn++) {
      Atomics.wait(nothing, 0, 0, 250);
      faults = checkInvariants(new Cache(memory, 'none', 0));
      if (faults.length === 0) break;
    }
    writeSync(
      2,
      faults.length === 0
        ? 'CHECK ok\n'
        : `CHECK ${faults.length} faults\n${faults.slice(0, 20).join('\n')}\nCHECK end\n`,
    );
  });
}
