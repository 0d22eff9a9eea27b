/**
 * Who this server says it is.
 *
 * What it is for: the one place where version and product words stand, so that `-v`, the Server header and the error
 * pages agree. Invariant: SERVER_BUILD and SERVER_FULL begin with the product token that SERVER_SHORT is.
 */

/** Version of this package; a test compares it with package.json. */
export const VERSION = '0.1.0';

/** The nginx whose documents and behaviour this server follows. */
export const COMPATIBLE_WITH = '1.31.5';

/** `server_tokens off`. */
export const SERVER_SHORT = 'nginx-lite';
/** `server_tokens on`. */
export const SERVER_FULL = `nginx-lite/${VERSION}`;

/** First line of `-v`, `-V` and the help, without `nginx version: `. */
export const VERSION_LINE = `${SERVER_FULL} (compatible with nginx/${COMPATIBLE_WITH})`;
