/** What one run of the load generator prints: one JSON line. Shared with the runner, which reads it. */
import type { LatencyUs } from './latency.ts';

export interface LoadReport {
  transactions: number;
  /** Wrong, cut, missing and surplus responses, failed connects. A run with any of them has failed. */
  errors: number;
  errorTexts: string[];
  /** Length of the measured window. */
  seconds: number;
  throughput: number;
  connects: number;
  latencyUs: LatencyUs;
  clientCpuSeconds: number;
  /** CPU time of the server's process tree over the same window; null when no --server-pid was given. */
  serverCpuSeconds: number | null;
  /** Open loop: requests that were due and not sent at the end of the window. */
  backlog: number;
  backend: string;
}
