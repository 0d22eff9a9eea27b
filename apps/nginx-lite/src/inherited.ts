/** Environment variable that names the sockets which a new binary (USR2) takes over: `ADDRESS=FD+FD;…`. */
export const INHERITED_ENV = 'NGINX_LITE_LISTEN';
