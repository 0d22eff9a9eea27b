/**
 * Errors of the configuration, in nginx's words.
 *
 * What it is for: one class that carries the complete text (with ` in FILE:LINE` where nginx adds it), so that every
 * front end (start-up, `-t`, reload) prints the same line.
 */

export type LogLevelName = 'emerg' | 'alert' | 'crit' | 'error' | 'warn' | 'notice' | 'info' | 'debug';

export class ConfError extends Error {
  readonly code = 'ERR_NGINX_CONF';
  readonly level: LogLevelName;

  constructor(message: string, level: LogLevelName = 'emerg') {
    super(message);
    this.name = 'ConfError';
    this.level = level;
  }
}
