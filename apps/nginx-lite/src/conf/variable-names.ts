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
  'is_args',
  'msec',
  'nginx_version',
  'pid',
  'pipe',
  'query_string',
  'realpath_root',
  'remote_addr',
  'remote_port',
  'remote_user',
  'request',
  'request_body',
  'request_completion',
  'request_filename',
  'request_id',
  'request_length',
  'request_method',
  'request_time',
  'request_uri',
  'scheme',
  'server_addr',
  'server_name',
  'server_port',
  'server_protocol',
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
