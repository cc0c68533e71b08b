// A web app for tests, without packages: tells who it is, streams, echoes, misbehaves on demand.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const { setTimeout: sleep } = require('node:timers/promises');

const env = process.env;
const release = fs.existsSync('VERSION') ? fs.readFileSync('VERSION', 'utf8').trim() : '';
const version = env.MIREN_VERSION ?? release;
const sandbox = env.MIREN_SANDBOX || os.hostname();
const piece = Buffer.alloc(64 * 1024, 'x');
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'; // RFC 6455, section 1.3
const CLOSE = 8, PING = 9, PONG = 10;

const now = () => process.hrtime.bigint(); // CLOCK_MONOTONIC, as in the kernel's own records
const log = (what) => fs.writeSync(1, `at_ns=${now()} version=${version} sandbox=${sandbox} ${what}\n`);

function json(response, value, status = 200) {
  const body = JSON.stringify(value) + '\n';
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}

const identity = () => ({
  version, release, sandbox, pid: process.pid, app: env.MIREN_APP ?? '', instance: env.MIREN_INSTANCE_NUM ?? '',
});

const answers = {
  '/': (_, response) => json(response, identity()),
  '/info': (_, response) => json(response, identity()),
  '/env': (_, response) => json(response, env),

  '/echo'(request, response) {
    const headers = { 'Content-Type': 'application/octet-stream' };
    if (!request.headers['transfer-encoding']) headers['Content-Length'] = request.headers['content-length'] ?? 0;
    response.writeHead(200, headers);
    request.pipe(response);
  },

  async '/sleep'(_, response, number) {
    await sleep(number('ms', 1000));
    json(response, identity());
  },

  // Server-sent events, each with the time at which it was flushed.
  async '/sse'(_, response, number) {
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    for (let n = 0; n < number('n', 10); n++) {
      if (n > 0) await sleep(number('gap_ms', 100));
      response.write(`data: {"n":${n},"at_ns":${now()},"sandbox":${JSON.stringify(sandbox)}}\n\n`);
    }
    response.end();
  },

  async '/big'(_, response, number) {
    let left = number('bytes', 1 << 20);
    response.writeHead(200, { 'Content-Type': 'application/octet-stream', 'Content-Length': left });
    for (; left > 0 && !response.destroyed; left -= piece.length) {
      const room = response.write(left >= piece.length ? piece : piece.subarray(0, left));
      if (!room) await new Promise((resume) => response.once('drain', resume).once('close', resume));
    }
    response.end();
  },

  '/crash'() {
    log('crashing with code 3');
    process.exit(3);
  },
};

function answer(request, response) {
  log(`request ${request.method} ${request.url}`);
  const url = new URL(request.url, 'http://app');
  const number = (key, fallback) => Number(url.searchParams.get(key) ?? fallback);
  if (url.pathname !== '/echo') request.resume();
  const known = answers[url.pathname];
  if (known) known(request, response, number);
  else json(response, { error: 'no such path' }, 404);
}

function upgrade(request, socket, first) {
  log(`request ${request.method} ${request.url}`);
  const accept = crypto.createHash('sha1').update(request.headers['sec-websocket-key'] + GUID).digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
    `Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
  let pending = first;
  const take = (bytes) => {
    pending = Buffer.concat([pending, bytes]);
    for (let frame = parse(pending); frame; frame = parse(pending)) {
      pending = pending.subarray(frame.size);
      const opcode = frame.first & 15;
      socket.write(encode(opcode === PING ? (frame.first & 0xf0) | PONG : frame.first, frame.payload));
      if (opcode === CLOSE) return socket.end();
    }
  };
  socket.setNoDelay(true).on('data', take).on('error', () => socket.destroy());
  take(Buffer.alloc(0));
}

// One frame from the start of `bytes`, or null while it is not whole.
function parse(bytes) {
  if (bytes.length < 2) return null;
  let length = bytes[1] & 127;
  let at = 2;
  if (length === 126) {
    if (bytes.length < 4) return null;
    [length, at] = [bytes.readUInt16BE(2), 4];
  } else if (length === 127) {
    if (bytes.length < 10) return null;
    [length, at] = [Number(bytes.readBigUInt64BE(2)), 10];
  }
  const masked = (bytes[1] & 128) !== 0;
  const start = at + (masked ? 4 : 0);
  if (bytes.length < start + length) return null;
  const payload = Buffer.from(bytes.subarray(start, start + length));
  if (masked) for (let i = 0; i < length; i++) payload[i] ^= bytes[at + (i % 4)];
  return { first: bytes[0], payload, size: start + length };
}

function encode(first, payload) {
  const length = payload.length;
  let head;
  if (length < 126) head = Buffer.from([first, length]);
  else if (length < 65536) (head = Buffer.from([first, 126, 0, 0])).writeUInt16BE(length, 2);
  else (head = Buffer.from([first, 127, 0, 0, 0, 0, 0, 0, 0, 0])).writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([head, payload]);
}

async function main() {
  if (env.EXIT_AT_START === '1') {
    console.error('EXIT_AT_START is set: exiting with code 1');
    process.exit(1);
  }
  process.on('SIGTERM', () => {
    const ignored = env.IGNORE_SIGTERM === '1';
    log(ignored ? 'SIGTERM ignored' : 'SIGTERM: exiting');
    if (!ignored) process.exit(0);
  });
  if (env.NEVER_LISTEN === '1') {
    log('NEVER_LISTEN is set: not listening');
    setInterval(() => {}, 1 << 30);
    return;
  }
  await sleep(Number(env.START_DELAY_MS ?? 0));
  // The ingress keeps idle connections for up to a minute; the app must not close them first.
  const server = http.createServer({ keepAliveTimeout: 120_000 }, answer).on('upgrade', upgrade);
  server.listen(Number(env.PORT ?? 3000), '0.0.0.0', () => log(`listening on port ${server.address().port}`));
}

main();
