/**
 * The one table of directives: every module's rows, by name.
 *
 * What it is for: adding a module is one line here. Invariant: rows of one name differ in their contexts.
 */

import type { Directive } from '../conf/directives.ts';
import type { DirectiveTable } from '../conf/parser.ts';
import { absentModule } from './absent.ts';
import { ACCESS_DIRECTIVES } from './access/conf.ts';
import { ADDITION_DIRECTIVES } from './addition/module.ts';
import { AUTH_BASIC_DIRECTIVES } from './auth-basic/conf.ts';
import { AUTH_REQUEST_DIRECTIVES } from './auth-request/module.ts';
import { AUTOINDEX_DIRECTIVES } from './autoindex/module.ts';
import { BROWSER_DIRECTIVES } from './browser/module.ts';
import { CHARSET_DIRECTIVES } from './charset/conf.ts';
import { CORE_DIRECTIVES } from './core/conf.ts';
import { EMPTY_GIF_DIRECTIVES } from './empty-gif/module.ts';
import { GEO_DIRECTIVES } from './geo/conf.ts';
import { GZIP_DIRECTIVES } from './gzip/conf.ts';
import { HEADERS_DIRECTIVES } from './headers/conf.ts';
import { HTTP_CORE_DIRECTIVES } from './http-core/conf.ts';
import { INDEX_DIRECTIVES } from './index/conf.ts';
import { LIMIT_DIRECTIVES } from './limit-req/conf.ts';
import { LOG_DIRECTIVES } from './log/conf.ts';
import { MAP_DIRECTIVES } from './map/conf.ts';
import { MIRROR_DIRECTIVES } from './mirror/module.ts';
import { RANDOM_INDEX_DIRECTIVES } from './random-index/module.ts';
import { REALIP_DIRECTIVES } from './realip/conf.ts';
import { REFERER_DIRECTIVES } from './referer/module.ts';
import { REWRITE_DIRECTIVES } from './rewrite/conf.ts';
import { SECURE_LINK_DIRECTIVES } from './secure-link/module.ts';
import { SLICE_DIRECTIVES } from './slice/module.ts';
import { SPLIT_CLIENTS_DIRECTIVES } from './split-clients/conf.ts';
import { SSI_DIRECTIVES } from './ssi/module.ts';
import { STUB_STATUS_DIRECTIVES } from './stub-status/module.ts';
import { SUB_FILTER_DIRECTIVES } from './sub-filter/module.ts';
import { TRY_FILES_DIRECTIVES } from './try-files/conf.ts';
import { USERID_DIRECTIVES } from './userid/module.ts';

export const ALL_DIRECTIVES: readonly Directive[] = [
  ...CORE_DIRECTIVES,
  ...HTTP_CORE_DIRECTIVES,
  ...INDEX_DIRECTIVES,
  ...TRY_FILES_DIRECTIVES,
  ...REWRITE_DIRECTIVES,
  ...HEADERS_DIRECTIVES,
  ...LOG_DIRECTIVES,
  ...GZIP_DIRECTIVES,
  ...CHARSET_DIRECTIVES,
  ...LIMIT_DIRECTIVES,
  ...AUTH_REQUEST_DIRECTIVES,
  ...MIRROR_DIRECTIVES,
  ...ADDITION_DIRECTIVES,
  ...SUB_FILTER_DIRECTIVES,
  ...SLICE_DIRECTIVES,
  ...SSI_DIRECTIVES,
  ...BROWSER_DIRECTIVES,
  ...EMPTY_GIF_DIRECTIVES,
  ...RANDOM_INDEX_DIRECTIVES,
  ...USERID_DIRECTIVES,
  ...STUB_STATUS_DIRECTIVES,
  ...AUTOINDEX_DIRECTIVES,
  ...REALIP_DIRECTIVES,
  ...REFERER_DIRECTIVES,
  ...SECURE_LINK_DIRECTIVES,
  ...MAP_DIRECTIVES,
  ...GEO_DIRECTIVES,
  ...SPLIT_CLIENTS_DIRECTIVES,
  ...ACCESS_DIRECTIVES,
  ...AUTH_BASIC_DIRECTIVES,
];

export const DIRECTIVE_TABLE: DirectiveTable = { directives: byName(ALL_DIRECTIVES), absent: absentModule };

function byName(rows: readonly Directive[]): Map<string, Directive[]> {
  const map = new Map<string, Directive[]>();
  for (const row of rows) {
    const same = map.get(row.name);
    if (same === undefined) map.set(row.name, [row]);
    else same.push(row);
  }
  return map;
}
