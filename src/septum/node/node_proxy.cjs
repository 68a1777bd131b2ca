// Makes Node's own HTTP clients honour http_proxy and no_proxy for http:// URLs; loaded by NODE_OPTIONS=--require.
//
// Requests are sent to the proxy in absolute form, not through a CONNECT, so that each of them stays visible there.
// https:// is left alone, and so is what brings its own way to connect: a dispatcher that the program has set, an
// agent or a request with its own createConnection (as npm's `ws` has).
'use strict';

const http = require('node:http');

const DISPATCHER = Symbol.for('undici.globalDispatcher.1');
const VIA_PROXY = Symbol('via proxy');

function wanted(name) {
  return process.env[name] ?? process.env[name.toUpperCase()] ?? '';
}

/** The proxy as a URL, or null. Lower case wins, and an empty value means none, as curl and Python have it. */
function proxyUrl() {
  const text = wanted('http_proxy').trim();
  if (!text) return null;
  const full = text.includes('://') ? text : `http://${text}`;
  const url = URL.canParse(full) ? new URL(full) : null;
  if (url?.protocol === 'http:') return url;
  process.emitWarning('http_proxy is not an http:// URL: requests go directly');
  return null;
}

/** `host`, `.host`, `*.host`, `[v6]` or one of them with a port, as pairs of host and port; `*` is everything. */
function exemptions() {
  const entries = wanted('no_proxy').toLowerCase().split(/[\s,]+/).filter(Boolean);
  return entries.map((entry) => {
    const [, host, port = ''] =
      /^\[(.*)\](?::(\d+))?$/.exec(entry) ?? /^([^:]*)(?::(\d+))?$/.exec(entry) ?? [entry, entry];
    return [host.replace(/^\*?\./, ''), port];
  });
}

/** Whether Node does all of this itself and was told to. */
function native() {
  if (!process.allowedNodeEnvironmentFlags.has('--use-env-proxy')) return false;
  const flags = `${process.env.NODE_OPTIONS ?? ''} ${process.execArgv.join(' ')}`;
  return process.env.NODE_USE_ENV_PROXY === '1' || /(^|\s)--use-env-proxy(\s|$)/.test(flags);
}

function bare(host) {
  return host.replace(/^\[(.*)\]$/, '$1');
}

function install(proxy, exempt) {
  const address = { host: bare(proxy.hostname), port: Number(proxy.port || 80) };
  const credentials = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  const authorization = proxy.username ? `Basic ${Buffer.from(credentials).toString('base64')}` : null;

  function proxied(host, port) {
    const name = bare(host).toLowerCase().replace(/\.$/, '');
    const covers = ([only, at]) => (!at || at === String(port)) && (only === '*' || `.${name}`.endsWith(`.${only}`));
    return !exempt.some(covers);
  }

  installHttp(address, authorization, proxied);
  // Reading one of these loads the bundled undici, which takes 20 ms: programs that do not use it do not wait for it.
  for (const name of ['fetch', 'WebSocket', 'EventSource']) {
    onFirstRead(name, () => installFetch(proxy.origin, authorization, proxied));
  }
}

/** http.request and http.get: the path is changed where an agent takes the request on, the address where it connects. */
function installHttp(address, authorization, proxied) {
  const { addRequest, createConnection } = http.Agent.prototype;

  http.Agent.prototype.createConnection = function connect(options, ...rest) {
    if (!options?.[VIA_PROXY]) return createConnection.call(this, options, ...rest);
    // What the caller said about the way to its target does not hold for the way to the proxy.
    const there = { ...options, ...address, family: undefined, localAddress: undefined, lookup: undefined };
    return createConnection.call(this, there, ...rest);
  };
  const { createConnection: connect } = http.Agent.prototype;

  http.Agent.prototype.addRequest = function add(request, options, ...rest) {
    // An https.Agent has its own createConnection, so it is left alone here.
    const plain = this.createConnection === connect && typeof options === 'object' && !options.socketPath;
    const origin = plain && request.path.startsWith('/') && proxied(options.host, options.port);
    if (!origin) return addRequest.call(this, request, options, ...rest);
    readdress(request, `http://${authority(options.host, options.port)}${request.path}`, authorization);
    return addRequest.call(this, request, { ...options, [VIA_PROXY]: true }, ...rest);
  };
}

function authority(host, port) {
  const name = bare(host).includes(':') ? `[${bare(host)}]` : host;
  return Number(port) === 80 ? name : `${name}:${port}`;
}

/** Gives a request its absolute path, also where Node has written its head already (header arrays, Expect). */
function readdress(request, path, authorization) {
  const before = `${request.method} ${request.path} HTTP/1.1\r\n`;
  const fields = authorization ? `Proxy-Authorization: ${authorization}\r\n` : '';
  const after = `${request.method} ${path} HTTP/1.1\r\n${fields}`;
  const swap = (text) => (text.startsWith(before) ? after + text.slice(before.length) : text);
  request.path = path;
  if (!request._header) {
    if (authorization) request.setHeader('Proxy-Authorization', authorization);
    return;
  }
  request._header = swap(request._header);
  const first = request.outputData[0];
  if (first && typeof first.data === 'string') first.data = swap(first.data);
}

function onFirstRead(name, action) {
  const own = Object.getOwnPropertyDescriptor(globalThis, name);
  if (!own?.configurable) return;
  Object.defineProperty(globalThis, name, {
    configurable: true,
    enumerable: own.enumerable,
    get() {
      Object.defineProperty(globalThis, name, own);
      action();
      return globalThis[name];
    },
    set(value) {
      Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: own.enumerable });
    },
  });
}

/** fetch: Node's dispatcher is replaced by one of the same class that sends what is plain http to the proxy. */
function installFetch(origin, authorization, proxied) {
  void globalThis.Response; // loads the bundled undici, which then puts its dispatcher there
  const Agent = globalThis[DISPATCHER]?.constructor;
  if (!Agent) process.emitWarning('http_proxy is not honoured by fetch: this Node keeps its dispatcher elsewhere');
  if (Agent?.name !== 'Agent') return; // the second fetch-like global read, or the program's own dispatcher

  class AgentByProxy extends Agent {
    dispatch(options, handler) {
      return super.dispatch(readdressed(options), handler);
    }
  }

  function readdressed(options) {
    const target = new URL(options.origin);
    const direct = target.protocol !== 'http:' || !options.path?.startsWith('/');
    if (direct || !proxied(target.hostname, target.port || 80)) return options;
    const headers = flat(options.headers);
    const named = headers.some((name, at) => at % 2 === 0 && String(name).toLowerCase() === 'host');
    if (!named) headers.push('host', target.host);
    if (authorization) headers.push('proxy-authorization', authorization);
    return { ...options, origin, path: `${target.origin}${options.path}`, headers };
  }

  globalThis[DISPATCHER] = new AgentByProxy();
}

/** undici takes headers as an object, as pairs, or as names and values in turn; this gives the last. */
function flat(headers) {
  if (!headers) return [];
  const entries = typeof headers[Symbol.iterator] === 'function' ? [...headers] : Object.entries(headers);
  return Array.isArray(entries[0]) ? entries.flatMap(([name, value]) => each(name, value)) : entries;
}

function each(name, value) {
  return Array.isArray(value) ? value.flatMap((one) => [name, one]) : [name, value];
}

const proxy = native() ? null : proxyUrl();
if (proxy) install(proxy, exemptions());
