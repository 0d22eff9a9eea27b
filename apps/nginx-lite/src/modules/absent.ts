/**
 * Directives of nginx that belong to modules which this server does not have.
 *
 * What it is for: a configuration that uses one gets an error that names the directive and the missing module, rather
 * than "unknown directive", which would look like a misspelling. Invariant: no name stands both here and in the table
 * (a test checks it).
 */

const MODULES: [string, RegExp][] = [
  ['TLS (ngx_http_ssl_module)', /^ssl(?:_[a-z_0-9]+)?$/],
  ['HTTP/2 (ngx_http_v2_module)', /^http2(?:_[a-z_0-9]+)?$/],
  ['HTTP/3 (ngx_http_v3_module)', /^(?:http3|quic)(?:_[a-z_0-9]+)?$/],
  ['proxy (ngx_http_proxy_module)', /^proxy_[a-z_0-9]+$/],
  [
    'upstream groups (ngx_http_upstream_module)',
    /^(?:upstream|least_conn|ip_hash|hash|keepalive|zone|random|ntlm|sticky)$/,
  ],
  ['resolver (ngx_http_core_module, with upstreams)', /^resolver(?:_timeout)?$/],
  ['FastCGI (ngx_http_fastcgi_module)', /^fastcgi_[a-z_0-9]+$/],
  ['uwsgi (ngx_http_uwsgi_module)', /^uwsgi_[a-z_0-9]+$/],
  ['SCGI (ngx_http_scgi_module)', /^scgi_[a-z_0-9]+$/],
  ['gRPC (ngx_http_grpc_module)', /^grpc_[a-z_0-9]+$/],
  ['memcached (ngx_http_memcached_module)', /^memcached_[a-z_0-9]+$/],
  ['GeoIP (ngx_http_geoip_module)', /^geoip_[a-z_]+$/],
  ['WebDAV (ngx_http_dav_module)', /^(?:dav_[a-z_]+|create_full_put_path|min_delete_depth)$/],
  ['XSLT (ngx_http_xslt_module)', /^(?:xml_entities|xslt_[a-z_]+)$/],
  ['image filter (ngx_http_image_filter_module)', /^image_filter(?:_[a-z_]+)?$/],
  ['perl (ngx_http_perl_module)', /^perl(?:_[a-z_]+)?$/],
  ['njs (ngx_http_js_module)', /^js_[a-z_]+$/],
  ['flv and mp4 (ngx_http_flv_module, ngx_http_mp4_module)', /^(?:flv|mp4(?:_[a-z_]+)?)$/],
  ['dynamic modules', /^load_module$/],
  ['mail proxy (ngx_mail_core_module)', /^mail$/],
  ['stream proxy (ngx_stream_core_module)', /^stream$/],
  ['directives that nginx does not document', /^post_action$/],
];

/** The missing module that owns the directive, or null when nginx has none of that name. */
export function absentModule(name: string): string | null {
  for (const [module, pattern] of MODULES) if (pattern.test(name)) return module;
  return null;
}
