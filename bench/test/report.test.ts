import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { number, spread } from '../src/report/format.ts';
import { htmlReport } from '../src/report/html.ts';
import { plot } from '../src/report/plots.ts';
import { terminalReport } from '../src/report/terminal.ts';
import { cellOf, cellsOf, complaints, failures, verdictOf } from '../src/results.ts';
import { experimentResult, results, sample } from './fixture.ts';

describe('the summary of a run', () => {
  it('takes medians over rounds, and ratios within them', () => {
    const cell = cellOf(experimentResult(), 'ours', 'inf');
    expect(cell.throughput).toMatchObject({ median: 200_000, min: 100_000, max: 210_000, count: 3 });
    expect(cell.throughputRatio).toMatchObject({ median: 2, min: 2, max: 2.1 });
    expect(cell.cpuRatio).toMatchObject({ median: 0.5, min: 0.475, max: 0.5 });
    expect(cell.saturated).toBe(true);
    expect(cellOf(experimentResult(), 'ours', '1').saturated).toBe(false);
    expect(cellOf(experimentResult(), 'theirs', 'inf').cpuRatio).toBeNull();
  });

  it('shows a sample with errors and never counts it', () => {
    const result = experimentResult();
    const broken = { ...sample('ours', 'inf', 3, 900_000, 1), errors: 2, errorTexts: ['connection 7: byte 3'] };
    result.samples.push(broken, sample('theirs', 'inf', 3, 100_000, 10));
    const cell = cellOf(result, 'ours', 'inf');
    expect(cell.throughput).toMatchObject({ max: 210_000, count: 3 });
    expect(cell.throughputRatio).toMatchObject({ count: 3 });
    expect(cell.errors).toBe(2);
    expect(complaints({ ...results(), experiments: [result] })).toEqual([
      'echo, ours, inf, round 4: 2 errors: connection 7: byte 3',
    ]);
  });

  it('says met, missed, or not measured', () => {
    const result = experimentResult();
    const verdicts = result.targets.map((target) => verdictOf(result, target));
    expect(verdicts.map((verdict) => verdict.met)).toEqual([true, false, true, null]);
    expect(verdicts[2]!.note).toBe('it used 40 % of its core: not the limit');
    expect(verdicts[3]!.note).toBe('Absent skipped');
  });

  it('leaves servers that never ran out of the cells', () => {
    expect(cellsOf(experimentResult()).map((cell) => cell.server)).toEqual(['ours', 'theirs', 'ours', 'theirs']);
  });

  it('complains about a server that failed and about idle ones that were not idle', () => {
    const run = results();
    const [experiment] = run.experiments;
    expect(complaints(run)).toEqual([]);
    Object.assign(experiment!.servers[2]!, { status: 'failed', reason: 'ended with status 1' });
    experiment!.samples[0]!.othersCpuSeconds = 0.5;
    expect(complaints(run)).toEqual([
      'echo: Absent failed: ended with status 1',
      'echo, ours, inf, round 1: idle servers used 0.50 s of CPU meanwhile',
    ]);
    /* Only the first makes the evaluation end with 1. */
    expect(failures(run)).toEqual(['echo: Absent failed: ended with status 1']);
  });
});

describe('an experiment with metrics of its own', () => {
  const memory = () => {
    const run = results();
    const [experiment] = run.experiments;
    experiment!.metrics = ['rssStart', 'statsItem'];
    experiment!.targets = [
      { subject: 'ours', against: 'theirs', metric: 'statsItem', workload: 'inf', atMost: 1.05 },
      { subject: 'ours', metric: 'rssStart', workload: 'inf', atMost: 120 },
    ];
    experiment!.samples = [['ours', 130e6, 150] as const, ['theirs', 5e6, 100] as const].map(
      ([server, rssStartBytes, statsItemBytes]) => ({
        ...sample(server, 'inf', 0, 1000, 0),
        memory: { rssStartBytes, statsItemBytes, rssItemBytes: 1 },
      }),
    );
    return run;
  };

  it('has targets that are ratios, and targets in the metric’s own unit', () => {
    const [experiment] = memory().experiments;
    const [item, start] = experiment!.targets.map((target) => verdictOf(experiment!, target));
    expect(item).toMatchObject({ met: false, ratio: { median: 1.5 } });
    expect(start).toMatchObject({ met: false, ratio: { median: 130 }, note: '' });
  });

  it('shows those, and no column that means nothing for them', async () => {
    const text = stripVTControlCharacters(terminalReport(memory()));
    expect(text).toMatch(/Ours .*130.*150.*26\.00.*1\.50/);
    expect(text).toMatch(/RSS at start, MB at ∞ transactions a connection: Ours/);
    expect(text).not.toMatch(/server core|p50|95 % of the core/);
    const html = await htmlReport(memory());
    expect(html).toContain('RSS at start (less is better)');
    expect(html.match(/<svg /g)).toHaveLength(2);
  });
});

describe('numbers', () => {
  it('have three digits that mean something', () => {
    expect([4.567, 45.67, 456.7, 45_670].map(number)).toEqual(['4.57', '45.7', '457', '45,670']);
  });

  it('come with their spread, unless there was one round only', () => {
    expect(spread({ median: 2, min: 1, max: 3, q1: 1.5, q3: 2.5, count: 3 })).toBe('2.00 (1.00–3.00)');
    expect(spread({ median: 2, min: 2, max: 2, q1: 2, q3: 2, count: 1 })).toBe('2.00');
    expect(spread(null)).toBe('–');
  });
});

describe('the terminal report', () => {
  it('holds every server, figure and verdict', () => {
    const text = stripVTControlCharacters(terminalReport(results()));
    expect(text).toMatch(
      /Ours .*200 \(100–210\).*5\.00 \(4\.75–10\.0\).*100 %.*2\.00 \(2\.00–2\.10\).*0\.50 \(0\.47–0\.50\)/,
    );
    expect(text).toMatch(/≥ 2│.*2\.00 \(2\.00–2\.10\).* met/);
    expect(text).toMatch(/≤ 0\.4│.*0\.50 \(0\.47–0\.50\).* missed/);
    expect(text).toMatch(/not measured \(Absent skipped\)/);
    expect(text).toContain('skipped Absent: absent is not installed');
    expect(text).toContain('Linux 6.1.0');
  });
});

describe('the HTML report', () => {
  it('is one file that loads nothing and runs nothing', async () => {
    const html = await htmlReport(results());
    expect(html).not.toMatch(/<script|<link|<img|@import|\burl\(|\bsrc=/i);
    // Namespace names are no addresses to load.
    expect(html.replaceAll(/xmlns(:\w+)?="[^"]*"/g, '')).not.toMatch(/https?:\/\//);
  });

  it('shows two plots with the baseline in each, the verdicts, every sample and the machine', async () => {
    const html = await htmlReport(results());
    expect(html.match(/<svg /g)).toHaveLength(2);
    for (const svg of html.match(/<svg[\s\S]*?<\/svg>/g)!) expect(svg).toMatch(/>Ours<[\s\S]*>Theirs</);
    expect(html).toContain('<span class="met">met</span>');
    expect(html).toContain('<span class="missed">missed</span>');
    expect(html).toContain('All 8 samples');
    expect(html).toContain('absent is not installed');
    expect(html).not.toContain('Not fit to be quoted');
  });

  it('escapes what it did not write itself', async () => {
    const html = await htmlReport(results());
    expect(html).toContain('A &lt;fast&gt; one');
    expect(html).toContain('Echo &lt;64 B&gt;');
    expect(html).toContain('Ours &amp; theirs');
  });

  it('says so when nothing was measured', async () => {
    const run = results();
    run.experiments[0]!.samples = [];
    expect(await htmlReport(run)).toContain('Nothing was measured.');
  });
});

describe('a plot', () => {
  it('has a bar, a whisker and a number for each server and workload', async () => {
    const svg = await plot(experimentResult(), 'throughput');
    for (const text of ['200', '100', '20.0', 'Throughput (more is better)', 'transactions a connection', '∞']) {
      expect(svg).toContain(`>${text}<`);
    }
    expect(svg.match(/aria-roledescription="bar"/g)).toHaveLength(4);
    expect(svg.match(/aria-roledescription="rule mark"/g)).toHaveLength(4);
  });
});

describe("the kernel module's figure", () => {
  const counts = [
    { server: 'epoll', each: 1, kernel: 50_000, user: 2000 },
    { server: 'device', each: 1, kernel: 39_000, user: 1000 },
    { server: 'epoll', each: 128, kernel: 11_000, user: 0 },
    { server: 'device', each: 128, kernel: 10_000, user: 0 },
  ];
  const environment = { guest: '6.1', host: '6.18', cpu: 'test', date: '' };
  const instructions = { environment, transactions: '20000', connections: '64', counts };

  it('shows counts, multiples, and which targets are met', async () => {
    const text = stripVTControlCharacters(terminalReport({ ...results(), instructions }));
    expect(text).toContain('40,000 (1.30)');
    expect(text).toMatch(/at 1 transactions a connection: epoll \/ module: 1\.30, target ≥ 1\.25: met/);
    expect(text).toMatch(/at 128 transactions a connection: epoll \/ module: 1\.10, target ≥ 1\.15: missed/);
    const html = await htmlReport({ ...results(), instructions });
    expect(html).toContain('40,000 (1.30)');
    /* A bar for each server at each number of transactions; 40,000 of 52,000. */
    for (const text of ['relative to epoll (less is better)', '>0.77<', '>0.91<']) expect(html).toContain(text);
    expect(text).not.toMatch(/emulation/);
  });

  it("shows the server's own half, and throughput as what it is: relative to epoll", async () => {
    const own = [
      { server: 'epoll', each: 1, kernel: 30_000, user: 0 },
      { server: 'device', each: 1, kernel: 20_000, user: 0 },
    ];
    const throughput = [
      { server: 'epoll', cpus: 2, rounds: [100, 300, 200] },
      { server: 'device', cpus: 2, rounds: [250, 10, 381] },
    ];
    const more = { ...instructions, own, throughput };
    for (const report of [
      stripVTControlCharacters(terminalReport({ ...results(), instructions: more })),
      await htmlReport({ ...results(), instructions: more }),
    ]) {
      expect(report).toContain('20,000 (1.50)');
      expect(report).toMatch(/relative to epoll/);
      expect(report).toContain('1.27');
      expect(report).toMatch(/own\b[\s\S]*half/);
      expect(report).toMatch(/Throughput: .*nothing about how fast/);
    }
  });

  it('says why it was not measured, and nothing where nobody asked', async () => {
    expect(terminalReport({ ...results(), instructions: 'QEMU is missing' })).toContain(
      'not measured: QEMU is missing',
    );
    expect(await htmlReport({ ...results(), instructions: 'QEMU is <missing>' })).toContain('QEMU is &lt;missing&gt;');
    expect(terminalReport(results())).not.toContain('Kernel module');
  });
});
