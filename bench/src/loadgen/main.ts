/**
 * Load generator, a process of its own: `node src/loadgen/main.ts --target 127.0.0.1:7000 --protocol echo`.
 *
 * Prints one JSON line (report.ts). Exit status: 0, 1 when any response was wrong or missing (the JSON is printed all the
 * same), 2 for a command line it does not understand.
 */
import { mean } from 'simple-statistics';
import { cpuSeconds, processTree } from '../procstat.ts';
import { traceOf } from '../traces.ts';
import { echoExchange } from './echo.ts';
import type { Exchange } from './exchange.ts';
import { Generator } from './generator.ts';
import { httpExchange } from './http.ts';
import { learnCas, memcachedExchange, preload } from './memcached.ts';
import { type LoadOptions, parseLoadOptions, USAGE, UsageError } from './options.ts';
import type { LoadReport } from './report.ts';

async function exchangeOf(options: LoadOptions): Promise<Exchange> {
  switch (options.protocol) {
    case 'echo':
      return echoExchange(options.size, options.connections);
    case 'memcached': {
      const exchange = memcachedExchange({ ...options, valueBytes: options.size }, options.connections);
      if (options.shape === 'getkq') await learnCas(options.host, options.port, exchange);
      return exchange;
    }
    case 'http':
      return httpExchange(options, options.connections);
  }
}

/** About what a response brings, bytes. */
function responseBytes(options: LoadOptions): number {
  if (options.trace !== undefined) return mean(Array.from(traceOf(options.trace).sizes));
  return options.size * (options.shape === 'single' ? 1 : options.batch);
}

async function measure(options: LoadOptions): Promise<LoadReport> {
  if (options.protocol === 'memcached' && options.preload) {
    await preload(options.host, options.port, { keys: options.keys, valueBytes: options.size });
  }
  const exchange = await exchangeOf(options);
  const hosts =
    options.addresses > 1 ? Array.from({ length: options.addresses }, (_, i) => `127.0.0.${i + 1}`) : [options.host];
  const generator = new Generator(
    {
      hosts,
      port: options.port,
      connections: options.connections,
      perConnection: options.perConnection,
      rate: options.rate,
      backend: options.backend,
      requestBytesMax: exchange.requests.length.reduce((max, length) => Math.max(max, length), 0),
      responseBytes: responseBytes(options),
    },
    exchange,
  );
  generator.connectAll();
  if (generator.errors === 0) generator.run(options.warmupSeconds);
  const tree = options.serverPid > 0 ? processTree(options.serverPid) : null;
  const serverBefore = tree === null ? 0 : cpuSeconds(tree);
  const clientBefore = process.cpuUsage();
  generator.clear();
  const seconds = generator.errors === 0 ? generator.run(options.seconds) : 0;
  const client = process.cpuUsage(clientBefore);
  const serverCpuSeconds = tree === null ? null : cpuSeconds(tree) - serverBefore;
  const { connects } = generator;
  const transactions = generator.counted();
  const latencyUs = generator.latency.summary();
  const backlog = generator.backlog();
  const backend = generator.channel.backend;
  generator.finish();
  return {
    transactions,
    errors: generator.errors,
    errorTexts: generator.errorTexts,
    seconds,
    throughput: seconds > 0 ? transactions / seconds : 0,
    connects,
    latencyUs,
    clientCpuSeconds: (client.user + client.system) / 1e6,
    serverCpuSeconds,
    backlog,
    backend,
  };
}

try {
  const report = await measure(parseLoadOptions(process.argv.slice(2)));
  process.stdout.write(`${JSON.stringify(report)}\n`);
  if (report.errors > 0) process.exitCode = 1;
} catch (error) {
  if (error instanceof UsageError) {
    process.stderr.write(`loadgen: ${error.message}\n\n${USAGE}\n`);
    process.exitCode = 2;
  } else {
    process.stderr.write(`loadgen: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}
