/** The columns that tables have for an experiment's cells: one list for terminal and HTML. Not its job: how they look. */
import { LOAD_METRICS, METRICS, type MetricName, worded } from '../metrics.ts';
import { type Cell, type ExperimentResult, ratioAt, spreadAt } from '../results.ts';
import { number, percent, ratio, spread } from './format.ts';

export interface Column {
  head: string;
  text: (cell: Cell) => string;
}

export const metricsOf = (result: ExperimentResult): readonly MetricName[] => result.metrics ?? LOAD_METRICS;

/** False for what was measured without a load: CPU and cores mean nothing there. */
export const underLoad = (result: ExperimentResult): boolean =>
  !result.samples.some((sample) => sample.memory !== undefined);

/** `detailed`: also what explains a figure rather than being one. */
export function columnsOf(result: ExperimentResult, detailed: boolean): Column[] {
  const peer = result.servers.find((server) => server.id === result.peer)?.label ?? result.peer;
  const metrics = metricsOf(result);
  const values = metrics.map((name): Column => {
    const { unit, scale } = METRICS[name];
    return {
      head: worded(unit, result.transaction),
      text: (cell) => spread(spreadAt(result, cell.server, cell.workload, name), scale),
    };
  });
  const ratios = metrics.map((name): Column => {
    return {
      head: `${worded(METRICS[name].title, result.transaction)} ÷ ${peer}`,
      text: (cell) =>
        ratio(cell.server === result.peer ? null : ratioAt(result, cell.server, result.peer, cell.workload, name)),
    };
  });
  const load: Column[] = [];
  if (underLoad(result)) {
    load.push({ head: 'server core', text: (cell) => `${percent(cell.serverCores)}${cell.saturated ? '' : '*'}` });
    if (detailed) load.push({ head: 'client core', text: (cell) => percent(cell.clientCores) });
    for (const name of detailed ? (['p50', 'p99'] as const) : (['p50'] as const)) {
      if (metrics.includes(name)) continue;
      const text = (cell: Cell): string => {
        const value = spreadAt(result, cell.server, cell.workload, name);
        return value === null ? '–' : number(value.median);
      };
      load.push({ head: METRICS[name].unit, text });
    }
  }
  return [...values, ...load, ...ratios];
}
