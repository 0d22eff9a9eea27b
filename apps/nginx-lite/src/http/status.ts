/**
 * Status lines and the built-in pages, in nginx's words.
 *
 * What it is for: byte for byte what nginx sends, but for the name of the server in the footer.
 * Invariant: a status without a page here is answered with an empty body.
 */

import { SERVER_FULL, SERVER_SHORT } from '../version.ts';

const REASONS: Record<number, string> = {
  200: 'OK',
  201: 'Created',
  202: 'Accepted',
  204: 'No Content',
  206: 'Partial Content',
  301: 'Moved Permanently',
  302: 'Moved Temporarily',
  303: 'See Other',
  304: 'Not Modified',
  307: 'Temporary Redirect',
  308: 'Permanent Redirect',
  400: 'Bad Request',
  401: 'Unauthorized',
  402: 'Payment Required',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Not Allowed',
  406: 'Not Acceptable',
  408: 'Request Time-out',
  409: 'Conflict',
  410: 'Gone',
  411: 'Length Required',
  412: 'Precondition Failed',
  413: 'Request Entity Too Large',
  414: 'Request-URI Too Large',
  415: 'Unsupported Media Type',
  416: 'Requested Range Not Satisfiable',
  421: 'Misdirected Request',
  429: 'Too Many Requests',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Temporarily Unavailable',
  504: 'Gateway Time-out',
  505: 'HTTP Version Not Supported',
  507: 'Insufficient Storage',
};

/** Titles that differ from the reason. */
const TITLES: Record<number, string> = {
  302: 'Found',
  401: 'Authorization Required',
  503: 'Service Temporarily Unavailable',
};

/** Pages whose heading is `400 Bad Request` and which add a line. */
const EXPLAINED: Record<number, [title: string, line: string]> = {
  494: ['400 Request Header Or Cookie Too Large', 'Request Header Or Cookie Too Large'],
  495: ['400 The SSL certificate error', 'The SSL certificate error'],
  496: ['400 No required SSL certificate was sent', 'No required SSL certificate was sent'],
  497: ['400 The plain HTTP request was sent to HTTPS port', 'The plain HTTP request was sent to HTTPS port'],
};

const WITHOUT_PAGE = [200, 201, 202, 204, 206, 304];

export const MSIE_PADDING = '<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n'.repeat(6);

/** `HTTP/1.1 404 Not Found\r\n`. */
export function statusLine(status: number): string {
  return `HTTP/1.1 ${String(status).padStart(3, '0')} ${REASONS[status] ?? ''}\r\n`;
}

/** Value of the Server header. */
export function serverToken(tokens: 'on' | 'off' | 'build'): string {
  return tokens === 'off' ? SERVER_SHORT : SERVER_FULL;
}

/** The page of a status, without padding; '' when there is none. */
export function errorPage(status: number, tokens: 'on' | 'off' | 'build'): string {
  const explained = EXPLAINED[status];
  let head: string;
  if (explained !== undefined) {
    head =
      `<html>\r\n<head><title>${explained[0]}</title></head>\r\n<body>\r\n` +
      `<center><h1>400 Bad Request</h1></center>\r\n<center>${explained[1]}</center>\r\n`;
  } else {
    const reason = REASONS[status];
    if (reason === undefined || WITHOUT_PAGE.includes(status)) return '';
    const title = `${status} ${TITLES[status] ?? reason}`;
    head = `<html>\r\n<head><title>${title}</title></head>\r\n<body>\r\n` + `<center><h1>${title}</h1></center>\r\n`;
  }
  return `${head}<hr><center>${serverToken(tokens)}</center>\r\n</body>\r\n</html>\r\n`;
}

/** The status a client sees for nginx's internal ones. */
export function visibleStatus(status: number): number {
  return status >= 494 && status <= 497 ? 400 : status;
}
