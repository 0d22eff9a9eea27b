/**
 * The command line, as nginx reads it.
 *
 * What it is for: words to options; every refusal in nginx's words. Not its job: acting on them (main.ts).
 */

import type { IoMode, MegapipeBackend } from './messages.ts';
import { VERSION_LINE } from './version.ts';

export interface CommandLine {
  help: boolean;
  version: boolean;
  configure: boolean;
  test: boolean;
  dump: boolean;
  quiet: boolean;
  signal: 'stop' | 'quit' | 'reload' | 'reopen' | null;
  prefix: string | null;
  confFile: string | null;
  globals: string;
  errorLog: string | null;
  io: IoMode;
  backend: MegapipeBackend;
}

export class UsageError extends Error {}

export function parseCommandLine(args: readonly string[]): CommandLine {
  const line: CommandLine = {
    help: false,
    version: false,
    configure: false,
    test: false,
    dump: false,
    quiet: false,
    signal: null,
    prefix: null,
    confFile: null,
    globals: '',
    errorLog: null,
    io: 'megapipe',
    backend: 'auto',
  };
  for (let i = 0; i < args.length; i++) {
    const word = args[i] as string;
    if (!word.startsWith('-')) throw new UsageError(`invalid option: "${word}"`);
    if (word === '--io' || word.startsWith('--io=')) {
      const mode = word === '--io' ? args[++i] : word.slice(5);
      if (mode !== 'megapipe' && mode !== 'epoll') {
        throw new UsageError(`invalid option: "--io ${mode ?? ''}", it must be "megapipe" or "epoll"`);
      }
      line.io = mode;
      continue;
    }
    if (word === '--backend' || word.startsWith('--backend=')) {
      const name = word === '--backend' ? args[++i] : word.slice(10);
      if (name !== 'auto' && name !== 'uring' && name !== 'device') {
        throw new UsageError(`invalid option: "--backend ${name ?? ''}", it must be "auto", "uring" or "device"`);
      }
      line.backend = name;
      continue;
    }
    // Letters may follow one another; one that takes a value takes the rest of the word, or the next word.
    for (let at = 1; at < word.length; at++) {
      const letter = word[at] as string;
      let taken = false;
      const value = (message: string): string => {
        taken = true;
        const attached = word.slice(at + 1);
        const found = attached !== '' ? attached : args[++i];
        if (found === undefined || found === '') throw new UsageError(message);
        return found;
      };
      switch (letter) {
        case '?':
        case 'h':
          line.version = true;
          line.help = true;
          break;
        case 'v':
          line.version = true;
          break;
        case 'V':
          line.version = true;
          line.configure = true;
          break;
        case 't':
          line.test = true;
          break;
        case 'T':
          line.test = true;
          line.dump = true;
          break;
        case 'q':
          line.quiet = true;
          break;
        case 'p':
          line.prefix = value('option "-p" requires directory name');
          break;
        case 'e':
          line.errorLog = value('option "-e" requires file name');
          break;
        case 'c':
          line.confFile = value('option "-c" requires file name');
          break;
        case 'g':
          line.globals = value('option "-g" requires parameter');
          break;
        case 's': {
          const signal = value('option "-s" requires parameter');
          if (signal !== 'stop' && signal !== 'quit' && signal !== 'reload' && signal !== 'reopen') {
            throw new UsageError(`invalid option: "-s ${signal}"`);
          }
          line.signal = signal;
          break;
        }
        default:
          throw new UsageError(`invalid option: "${letter}"`);
      }
      if (taken) break;
    }
  }
  return line;
}

export function helpText(prefix: string, confFile: string, errorLog: string): string {
  return `Usage: nginx-lite [-?hvVtTq] [-s signal] [-p prefix]
                  [-e filename] [-c filename] [-g directives]
                  [--io megapipe|epoll] [--backend auto|uring|device]

Options:
  -?,-h         : this help
  -v            : show version and exit
  -V            : show version and configure options then exit
  -t            : test configuration and exit
  -T            : test configuration, dump it and exit
  -q            : suppress non-error messages during configuration testing
  -s signal     : send signal to a master process: stop, quit, reopen, reload
  -p prefix     : set prefix path (default: ${prefix})
  -e filename   : set error log file (default: ${errorLog})
  -c filename   : set configuration file (default: ${confFile})
  -g directives : set global directives out of configuration file
  --io mode     : megapipe (io_uring, a listening socket for each worker; default)
                  or epoll (one shared listening socket, a system call for each operation)
  --backend name: what megapipe stands on: uring (auto falls back to epoll), or device,
                  the kernel module's /dev/megapipe

`;
}

/** What `-V` adds: truthfully, what is there and what is not. */
export function configureText(): string {
  return `nginx version: ${VERSION_LINE}
built for Node.js ${process.versions.node} (V8 ${process.versions.v8})
TLS: none
configure arguments: --without-http_ssl_module --without-http_v2_module --without-http_proxy_module --without-http_fastcgi_module --without-http_uwsgi_module --without-http_scgi_module --without-http_grpc_module --without-http_memcached_module --without-mail --without-stream --with-http_realip_module --with-http_addition_module --with-http_sub_module --with-http_gunzip_module --with-http_gzip_static_module --with-http_auth_request_module --with-http_secure_link_module --with-http_random_index_module --with-http_slice_module --with-http_stub_status_module
`;
}
