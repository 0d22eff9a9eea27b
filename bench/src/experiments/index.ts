/** All experiments, in the order they run. A new figure is a new folder and one line here. */
import type { Experiment } from '../experiment.ts';
import { breakdown } from './breakdown/index.ts';
import { echo } from './echo/index.ts';
import { features } from './features/index.ts';
import { memcachedExperiments } from './memcached/index.ts';
import { nginxExperiments } from './nginx/index.ts';
import { sizes } from './sizes/index.ts';

export const experiments: readonly Experiment[] = [
  echo,
  ...memcachedExperiments,
  ...nginxExperiments,
  breakdown,
  sizes,
  features,
];
