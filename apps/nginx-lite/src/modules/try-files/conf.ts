/** Directive of the try_files module. It is not inherited: a server's try_files holds where no location matched. */

import { Args, Context, type Directive } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { parseNumber } from '../../conf/units.ts';

export const TRY_FILES_DEFAULTS: Pick<LocConf, 'tryFiles' | 'tryFilesCode'> = { tryFiles: [], tryFilesCode: 0 };

export const TRY_FILES_DIRECTIVES: Directive[] = [
  {
    name: 'try_files',
    contexts: Context.Server | Context.Location,
    args: Args.TwoOrMore,
    set(cf, args) {
      const conf = cf.level.loc;
      if (conf.tryFiles !== undefined) return 'is duplicate';
      const words = args.slice(1);
      const last = words.at(-1) as string;
      conf.tryFiles = words.map((word, i) => {
        const testDirectory = i < words.length - 1 && word.endsWith('/');
        return { template: cf.builder.template(cf, testDirectory ? word.slice(0, -1) : word), testDirectory };
      });
      conf.tryFilesCode = 0;
      if (last.startsWith('=')) {
        const code = parseNumber(last.slice(1));
        conf.tryFilesCode = code === null || code > 999 ? cf.fail(`invalid code "${last}"`) : code;
      }
      return undefined;
    },
  },
];
