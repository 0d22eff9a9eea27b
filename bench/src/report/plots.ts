/**
 * Plots as SVG text: bars of the medians, one group per workload, one bar per server, whiskers from the least to the
 * greatest round. Rendered here, on the server's side: the report needs no script and no network.
 */
import { parse, View } from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';
import type { Role } from '../experiment.ts';
import { type Instructions, instructionsOf, labelOf } from '../instructions.ts';
import { METRICS, type MetricName, worded } from '../metrics.ts';
import { cellsOf, type ExperimentResult, spreadAt } from '../results.ts';
import { number } from './format.ts';

/** One hue for what the claim is about and its baseline, others for those it is compared with. */
const COLORS: Record<Role, string[]> = {
  megapipe: ['#0b5fa5', '#084a80'],
  baseline: ['#7fb8e6', '#a9cfee'],
  reference: ['#5b6570', '#a3abb3'],
  peer: ['#d9822b', '#f0b97a', '#b35c12'],
};

/** A plot of bars: a group for each workload, in it a bar for each server. */
interface Bars {
  title: string;
  axis: string;
  unit: string;
  workloads: string[];
  servers: { label: string; color: string }[];
  /** Bar, whisker, and what is written above it. */
  values: { workload: string; server: string; median: number; min: number; max: number; text: string }[];
}

export async function plot(result: ExperimentResult, metric: MetricName): Promise<string> {
  const measure = METRICS[metric];
  const text = worded(`${measure.title} (${measure.better} is better)`, result.transaction);
  const servers = result.servers.filter((server) => result.samples.some((sample) => sample.server === server.id));
  const used = new Map<Role, number>();
  const colors = servers.map((server) => {
    const index = used.get(server.role) ?? 0;
    used.set(server.role, index + 1);
    const palette = COLORS[server.role];
    return palette[index % palette.length]!;
  });
  const values = cellsOf(result).flatMap((cell) => {
    const value = spreadAt(result, cell.server, cell.workload, metric);
    if (value === null) return [];
    return [
      {
        workload: result.workloads.find((workload) => workload.id === cell.workload)!.label,
        server: servers.find((server) => server.id === cell.server)!.label,
        median: value.median * measure.scale,
        min: value.min * measure.scale,
        max: value.max * measure.scale,
        text: number(value.median * measure.scale),
      },
    ];
  });
  return bars({
    title: `${text[0]!.toUpperCase()}${text.slice(1)}`,
    axis: result.axis,
    unit: worded(measure.unit, result.transaction),
    workloads: result.workloads.map((workload) => workload.label),
    servers: servers.map((server, i) => ({ label: server.label, color: colors[i]! })),
    values,
  });
}

/** Instructions per transaction, as multiples of what epoll needs. They are counts, so there is no spread. */
export async function instructionsPlot(counts: Instructions['counts']): Promise<string> {
  const servers = [...new Set(counts.map((count) => count.server))];
  const shades = COLORS.reference.concat(COLORS.megapipe, COLORS.baseline);
  return bars({
    title: "Instructions on the server's CPU, relative to epoll (less is better)",
    axis: 'transactions a connection',
    unit: 'epoll = 1',
    workloads: [...new Set(counts.map((count) => String(count.each)))],
    servers: servers.map((server, i) => ({ label: labelOf(server), color: shades[i % shades.length]! })),
    values: counts.map(({ server, each }) => {
      const share = instructionsOf(counts, server, each) / instructionsOf(counts, 'epoll', each);
      return {
        workload: String(each),
        server: labelOf(server),
        median: share,
        min: share,
        max: share,
        text: share.toFixed(2),
      };
    }),
  });
}

async function bars({ title, axis, unit, workloads, servers, values }: Bars): Promise<string> {
  // Room for the number above the highest whisker.
  const top = Math.max(...values.map((value) => value.max), 1e-9) * 1.08;
  const labels = servers.map((server) => server.label);
  const colors = servers.map((server) => server.color);
  const spec: TopLevelSpec = {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    title: { text: title, anchor: 'start', fontSize: 14 },
    width: 500,
    height: 240,
    background: 'white',
    data: { values },
    encoding: {
      x: {
        field: 'workload',
        type: 'ordinal',
        sort: null,
        title: axis,
        scale: { domain: workloads, paddingInner: 0.2 },
        axis: { labelAngle: 0, labelFontSize: 13 },
      },
      xOffset: { field: 'server', sort: labels, scale: { domain: labels } },
    },
    layer: [
      {
        mark: { type: 'bar' },
        encoding: {
          y: {
            field: 'median',
            type: 'quantitative',
            title: unit,
            scale: { domain: [0, top] },
          },
          color: {
            field: 'server',
            type: 'nominal',
            scale: { domain: labels, range: colors },
            legend: { title: null, orient: 'bottom', columns: 5, labelLimit: 0 },
          },
        },
      },
      {
        mark: { type: 'rule', color: '#222', strokeWidth: 1.2 },
        encoding: { y: { field: 'min', type: 'quantitative' }, y2: { field: 'max' } },
      },
      {
        mark: { type: 'text', dy: -6, fontSize: 10, color: '#222' },
        encoding: { y: { field: 'max', type: 'quantitative' }, text: { field: 'text', type: 'nominal' } },
      },
    ],
    config: { font: 'system-ui, sans-serif', view: { stroke: null }, axis: { titleFontWeight: 'normal' } },
  };
  const view = new View(parse(compile(spec).spec), { renderer: 'none' });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}
