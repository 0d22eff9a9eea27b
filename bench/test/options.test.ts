import { describe, expect, it } from 'vitest';
import { loadArguments } from '../src/experiment.ts';
import { experiments } from '../src/experiments/index.ts';
import { parseLoadOptions, UsageError } from '../src/loadgen/options.ts';

const TARGET = ['--target', '127.0.0.1:7000', '--protocol', 'echo'];

describe('the load generator’s command line', () => {
  it('has defaults for all but target and protocol', () => {
    expect(parseLoadOptions(TARGET)).toMatchObject({
      host: '127.0.0.1',
      port: 7000,
      connections: 250,
      perConnection: Infinity,
      seconds: 1,
      size: 64,
      rate: 0,
      addresses: 1,
      preload: true,
    });
    expect(parseLoadOptions(['--target', '[::1]:80', '--protocol', 'http'])).toMatchObject({ host: '::1', size: 1024 });
  });

  it.each([
    [['--protocol', 'echo'], /--target: expected HOST:PORT/],
    [['--target', 'nowhere', '--protocol', 'echo'], /--target: expected HOST:PORT, got "nowhere"/],
    [['--target', '127.0.0.1:0', '--protocol', 'echo'], /--target: .* 1 … 65535, got "0"/],
    [['--target', '127.0.0.1:1', '--protocol', 'ftp'], /--protocol: expected echo, memcached, http, got "ftp"/],
    [[...TARGET, '--connections', '0'], /--connections: .* got "0"/],
    [[...TARGET, '--connections', '1.5'], /--connections: expected a whole number/],
    [[...TARGET, '--connections', ''], /--connections/],
    [[...TARGET, '--per-connection', 'many'], /--per-connection/],
    [[...TARGET, '--seconds', 'NaN'], /--seconds/],
    [[...TARGET, '--set-share', '2'], /--set-share/],
    [[...TARGET, '--path', 'x y'], /--path/],
    [[...TARGET, '--trace', 'yahoo'], /--trace: goes with --protocol http/],
    [['--target', '127.0.0.1:1', '--protocol', 'http', '--trace', 'x'], /--trace: expected specweb, yahoo, got "x"/],
    [[...TARGET, '--backend', 'kqueue'], /--backend/],
    [[...TARGET, '--speed', '9'], /--speed/],
    [['--target', 'example.org:80', '--protocol', 'echo', '--addresses', '2'], /--addresses/],
  ])('refuses %j', (args, message) => {
    expect(() => parseLoadOptions(args)).toThrow(UsageError);
    expect(() => parseLoadOptions(args)).toThrow(message);
  });
});

describe.each(experiments)('experiment $name', (experiment) => {
  it('has workloads that the load generator understands as they are meant', () => {
    for (const { load } of experiment.workloads) {
      const options = parseLoadOptions(['--target', '127.0.0.1:1', ...loadArguments(load)]);
      expect(options).toMatchObject(load);
    }
  });

  it('names only servers and workloads that it has', () => {
    const servers = new Set(experiment.servers.map((server) => server.id));
    const workloads = new Set(experiment.workloads.map((workload) => workload.id));
    expect(servers.size).toBe(experiment.servers.length);
    expect(servers).toContain(experiment.peer);
    for (const target of experiment.targets) {
      expect(servers).toContain(target.subject);
      if (target.against !== undefined) expect(servers).toContain(target.against);
      expect(workloads).toContain(target.workload);
      expect([target.atMost, target.atLeast].filter((limit) => limit !== undefined)).toHaveLength(1);
    }
  });
});
