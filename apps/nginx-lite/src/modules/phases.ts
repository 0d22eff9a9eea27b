/**
 * The modules' handlers, by phase and in nginx's order, and the header filters in the order they run.
 *
 * What it is for: the run-time twin of table.ts: adding a module is one line here.
 */

import type { HeaderFilter } from '../http/output.ts';
import type { PhaseTable } from '../http/phases.ts';
import { accessHandler } from './access/handler.ts';
import { additionFilter, additionJoinFilter } from './addition/module.ts';
import { authBasicHandler } from './auth-basic/handler.ts';
import { authRequestHandler } from './auth-request/module.ts';
import { autoindexHandler } from './autoindex/module.ts';
import { charsetFilter, charsetPartFilter } from './charset/filter.ts';
import { emptyGifHandler } from './empty-gif/module.ts';
import { gunzipFilter, gzipFilter } from './gzip/filter.ts';
import { gzipStaticHandler } from './gzip/static.ts';
import { headersFilter } from './headers/filter.ts';
import { indexHandler } from './index/handler.ts';
import { limitConnHandler, limitReqHandler } from './limit-req/handler.ts';
import { mirrorHandler } from './mirror/module.ts';
import { notModifiedFilter } from './not-modified/filter.ts';
import { randomIndexHandler } from './random-index/module.ts';
import { rangeFilter } from './range/filter.ts';
import { realipHandler } from './realip/handler.ts';
import { rewriteHandler } from './rewrite/handler.ts';
import { ssiFilter } from './ssi/module.ts';
import { staticHandler } from './static/handler.ts';
import { stubStatusHandler } from './stub-status/module.ts';
import { subFilter } from './sub-filter/module.ts';
import { tryFilesHandler } from './try-files/handler.ts';
import { useridFilter } from './userid/module.ts';

export const PHASES: PhaseTable = {
  postRead: [realipHandler],
  serverRewrite: [rewriteHandler],
  rewrite: [rewriteHandler],
  preaccess: [realipHandler, limitReqHandler, limitConnHandler],
  access: [accessHandler, authBasicHandler, authRequestHandler],
  precontent: [tryFilesHandler, mirrorHandler],
  content: [
    stubStatusHandler,
    emptyGifHandler,
    randomIndexHandler,
    indexHandler,
    autoindexHandler,
    gzipStaticHandler,
    staticHandler,
  ],
};

export const HEADER_FILTERS: HeaderFilter[] = [
  notModifiedFilter,
  headersFilter,
  useridFilter,
  gunzipFilter,
  additionFilter,
  subFilter,
  charsetFilter,
  ssiFilter,
  additionJoinFilter,
  gzipFilter,
  rangeFilter,
];

/** What works on each part of an answer that subrequests are parts of. */
export const PART_FILTERS: HeaderFilter[] = [gunzipFilter, subFilter, charsetPartFilter, ssiFilter];
