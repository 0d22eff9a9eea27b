/**
 * Names of the built-in variables.
 *
 * What it is for: the check for `unknown "x" variable`. Invariant: http/variables.ts has a getter for each name and
 * prefix here (a test compares them).
 */

export const VARIABLES = [
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
  'hostname',
  'https',
  'invalid_referer',
  'is_args',
  'limit_conn_status',
  'limit_rate',
  'limit_req_status',
  'msec',
  'nginx_version',
  'pid',
  'pipe',
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
  'time_iso8601',
  'time_local',
  'uri',
] as const;

export type VariableName = (typeof VARIABLES)[number];

export const VARIABLE_PREFIXES = ['arg_', 'cookie_', 'http_', 'sent_http_'] as const;

const KNOWN: ReadonlySet<string> = new Set(VARIABLES);

export function isKnownVariable(name: string): boolean {
  if (KNOWN.has(name) || /^[1-9]$/.test(name)) return true;
  return VARIABLE_PREFIXES.some((prefix) => name.length > prefix.length && name.startsWith(prefix));
}
