/**
 * For valgrind.test.ts: sources whose types were stripped beforehand. Node's own way needs WebAssembly, which there is none of
 * without a compiler (--jitless), and which takes most of the time under valgrind. STRIPPED names a file of JSON: source by URL.
 */
import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';

const sources = JSON.parse(readFileSync(process.env.STRIPPED, 'utf8'));
registerHooks({
  load(url, context, nextLoad) {
    const source = sources[url];
    return source === undefined ? nextLoad(url, context) : { format: 'module', source, shortCircuit: true };
  },
});
