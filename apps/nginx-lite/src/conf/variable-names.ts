/**
 * Names of the built-in variables.
 *
 * What it is for: the check for `unknown "x" variable`. Invariant: http/variables.ts has a getter for each name and
 * prefix here (a test compares them).
 */

export const VARIABLES = [
  'ancient_browser',
  'args',
  'binary_remote_addr',
  'body_bytes_sent',
  'bytes_sent',
  'connection',
  'connections_active',
  'connections_reading',
  'connections_waiting',
  'connections_writing',
  'connection_requests',
  'connection_time',
  'content_length',
  'content_type',
  'date_gmt',
  'date_local',
  'document_root',
  'document_uri',
  'host',
  'fastcgi_path_info',
  'fastcgi_script_name',
  'gzip_ratio',
  'hostname',
  'http2',
  'https',
  'invalid_referer',
  'is_args',
  'limit_conn_status',
  'limit_rate',
  'limit_req_status',
  'modern_browser',
  'msec',
  'msie',
  'nginx_version',
  'pid',
  'pipe',
  'proxy_add_x_forwarded_for',
  'proxy_protocol_addr',
  'proxy_protocol_port',
  'proxy_protocol_server_addr',
  'proxy_protocol_server_port',
  'query_string',
  'realip_remote_addr',
  'realip_remote_port',
  'realpath_root',
  'remote_addr',
  'remote_port',
  'remote_user',
  'request',
  'request_body',
  'request_body_file',
  'request_completion',
  'request_filename',
  'request_id',
  'request_length',
  'request_method',
  'request_time',
  'request_uri',
  'scheme',
  'secure_link',
  'secure_link_expires',
  'server_addr',
  'server_name',
  'server_port',
  'server_protocol',
  'slice_range',
  'status',
  'tcpinfo_rcv_space',
  'tcpinfo_rtt',
  'tcpinfo_rttvar',
  'tcpinfo_snd_cwnd',
  'time_iso8601',
  'time_local',
  'uid_got',
  'uid_reset',
  'uid_set',
  'uri',
] as const;

/** Built-in variables that `set` changes; a block may say what they give. */
export const CHANGEABLE: ReadonlySet<string> = new Set(['args', 'limit_rate']);

/** Variables of modules that are not here: formats of logs name them, and they have no value without their modules in nginx either. */
const SSL = [
  ...['alpn_protocol', 'cipher', 'ciphers', 'client_cert', 'client_escaped_cert', 'client_fingerprint', 'client_i_dn'],
  ...['client_i_dn_legacy', 'client_raw_cert', 'client_s_dn', 'client_s_dn_legacy', 'client_serial', 'client_v_end'],
  ...['client_v_remain', 'client_v_start', 'client_verify', 'curve', 'curves', 'early_data', 'protocol', 'server_name'],
  ...['session_id', 'session_reused'],
].map((name) => `ssl_${name}`);
const UPSTREAM = [
  ...['addr', 'bytes_received', 'bytes_sent', 'cache_status', 'connect_time', 'header_time', 'response_length'],
  ...['response_time', 'status'],
].map((name) => `upstream_${name}`);
export const WITHOUT_VALUE: ReadonlySet<string> = new Set([...SSL, ...UPSTREAM, 'proxy_host', 'proxy_port']);

/** Built-in variables that a configuration may define anew, by `set` or by a block such as `map`. */
export const OVERRIDABLE: ReadonlySet<string> = new Set(['ancient_browser', 'modern_browser', 'msie', 'uid_reset']);

/** Built-in variables that nobody else may give a value to. */
export function isFixed(name: string): boolean {
  return (VARIABLES as readonly string[]).includes(name) && !OVERRIDABLE.has(name) && !CHANGEABLE.has(name);
}

export type VariableName = (typeof VARIABLES)[number];

export const VARIABLE_PREFIXES = [
  'arg_',
  'cookie_',
  'http_',
  'sent_http_',
  'sent_trailer_',
  'upstream_http_',
  'upstream_trailer_',
  'upstream_cookie_',
] as const;

const KNOWN: ReadonlySet<string> = new Set([...VARIABLES, ...WITHOUT_VALUE]);

export function isKnownVariable(name: string): boolean {
  if (KNOWN.has(name) || /^[1-9]$/.test(name)) return true;
  return VARIABLE_PREFIXES.some((prefix) => name.startsWith(prefix));
}
