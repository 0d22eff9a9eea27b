/**
 * Makes conf/mime.types: `node scripts/mime-types.ts` (in this folder).
 *
 * Types and extensions come from mime-db, restricted to what web servers meet; where nginx's own choice differs from
 * mime-db's, nginx's stands (CHOSEN), so that a site serves the same types as before.
 */

import { writeFileSync } from 'node:fs';
import mimeDb from 'mime-db/db.json' with { type: 'json' };

/** Extension → type, where mime-db would say otherwise or says nothing. */
const CHOSEN: Record<string, string> = {
  js: 'application/javascript',
  mjs: 'application/javascript',
  rss: 'application/rss+xml',
  atom: 'application/atom+xml',
  xml: 'text/xml',
  mml: 'text/mathml',
  jad: 'text/vnd.sun.j2me.app-descriptor',
  wml: 'text/vnd.wap.wml',
  htc: 'text/x-component',
  ico: 'image/x-icon',
  jng: 'image/x-jng',
  wbmp: 'image/vnd.wap.wbmp',
  bmp: 'image/x-ms-bmp',
  woff: 'font/woff',
  woff2: 'font/woff2',
  ttf: 'font/ttf',
  otf: 'font/otf',
  eot: 'application/vnd.ms-fontobject',
  jar: 'application/java-archive',
  war: 'application/java-archive',
  ear: 'application/java-archive',
  hqx: 'application/mac-binhex40',
  ps: 'application/postscript',
  eps: 'application/postscript',
  ai: 'application/postscript',
  m3u8: 'application/vnd.apple.mpegurl',
  kml: 'application/vnd.google-earth.kml+xml',
  kmz: 'application/vnd.google-earth.kmz',
  wmlc: 'application/vnd.wap.wmlc',
  cco: 'application/x-cocoa',
  jardiff: 'application/x-java-archive-diff',
  jnlp: 'application/x-java-jnlp-file',
  run: 'application/x-makeself',
  pl: 'application/x-perl',
  pm: 'application/x-perl',
  prc: 'application/x-pilot',
  pdb: 'application/x-pilot',
  rar: 'application/x-rar-compressed',
  rpm: 'application/x-redhat-package-manager',
  sea: 'application/x-sea',
  sit: 'application/x-stuffit',
  tcl: 'application/x-tcl',
  tk: 'application/x-tcl',
  der: 'application/x-x509-ca-cert',
  pem: 'application/x-x509-ca-cert',
  crt: 'application/x-x509-ca-cert',
  xpi: 'application/x-xpinstall',
  xhtml: 'application/xhtml+xml',
  xspf: 'application/xspf+xml',
  zip: 'application/zip',
  bin: 'application/octet-stream',
  exe: 'application/octet-stream',
  dll: 'application/octet-stream',
  deb: 'application/octet-stream',
  dmg: 'application/octet-stream',
  iso: 'application/octet-stream',
  img: 'application/octet-stream',
  msi: 'application/octet-stream',
  msp: 'application/octet-stream',
  msm: 'application/octet-stream',
  mid: 'audio/midi',
  midi: 'audio/midi',
  kar: 'audio/midi',
  mp3: 'audio/mpeg',
  ogg: 'audio/ogg',
  m4a: 'audio/x-m4a',
  ra: 'audio/x-realaudio',
  '3gpp': 'video/3gpp',
  '3gp': 'video/3gpp',
  ts: 'video/mp2t',
  mp4: 'video/mp4',
  mpeg: 'video/mpeg',
  mpg: 'video/mpeg',
  mov: 'video/quicktime',
  webm: 'video/webm',
  flv: 'video/x-flv',
  m4v: 'video/x-m4v',
  mng: 'video/x-mng',
  asx: 'video/x-ms-asf',
  asf: 'video/x-ms-asf',
  wmv: 'video/x-ms-wmv',
  avi: 'video/x-msvideo',
};

interface Entry {
  source?: string;
  extensions?: string[];
}

/** Extensions whose type mime-db decides. */
const TAKEN =
  'html htm shtml css csv txt md vtt ics json jsonld geojson map webmanifest wasm pdf rtf doc docx xls xlsx ppt pptx ' +
  'odt ods odp odg epub gif jpg jpeg png svg svgz tif tiff webp avif heic apng jxl ttc aac flac wav weba opus oga ' +
  'ogv mkv mpd m3u gz tgz bz2 xz 7z tar swf gltf glb yaml yml toml sql sh';

const byExtension = new Map<string, string>();
for (const extension of TAKEN.split(' ')) {
  let best: string | undefined;
  for (const [type, entry] of Object.entries(mimeDb)) {
    if (!(entry as Entry).extensions?.includes(extension)) continue;
    // Registered types first, then Apache's and nginx's own.
    const known = best === undefined ? undefined : (mimeDb as Record<string, Entry>)[best];
    if (best === undefined || ((known as Entry | undefined)?.source !== 'iana' && (entry as Entry).source === 'iana'))
      best = type;
  }
  if (best !== undefined) byExtension.set(extension, best);
}
for (const [extension, type] of Object.entries(CHOSEN)) byExtension.set(extension, type);

const byType = new Map<string, string[]>();
for (const [extension, type] of byExtension) byType.set(type, [...(byType.get(type) ?? []), extension]);

const lines = [...byType]
  .sort(([a], [b]) => (a < b ? -1 : 1))
  .map(([type, extensions]) => `    ${type.padEnd(72)} ${extensions.sort().join(' ')};`);
writeFileSync(new URL('../conf/mime.types', import.meta.url), `types {\n${lines.join('\n')}\n}\n`);
