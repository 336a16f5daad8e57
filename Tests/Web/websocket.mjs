import { connect } from 'node:net';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';

/** As much of a WebSocket client (RFC 6455) as a test needs; Node 18 has none. */
export class WebSocketClient {
  #socket;
  #rest = Buffer.alloc(0);
  #frames = [];
  #onframe;
  /** Called when the connection has ended. */
  onclose = () => {};

  /** Takes a Buffer with each frame's contents, and its opcode: first those that came while nothing took them. */
  set onframe(take) {
    this.#onframe = take;
    while (this.#onframe && this.#frames.length > 0) this.#onframe(...this.#frames.shift());
  }

  /** @returns the contents of the next frame; those behind it wait for `onframe`. */
  next() {
    return new Promise((resolve) => {
      this.onframe = (contents) => {
        this.#onframe = undefined;
        resolve(contents.toString());
      };
    });
  }

  /** @param {number} port of 127.0.0.1 */
  static async open(port, path) {
    const client = new WebSocketClient();
    const socket = connect(port, '127.0.0.1');
    client.#socket = socket;
    await once(socket, 'connect');
    const key = randomBytes(16).toString('base64');
    socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n`
      + `Sec-WebSocket-Key: ${key}\r\nSec-WebSocket-Version: 13\r\n\r\n`);
    await new Promise((resolve, reject) => {
      const take = (chunk) => {
        client.#rest = Buffer.concat([client.#rest, chunk]);
        const end = client.#rest.indexOf('\r\n\r\n');
        if (end < 0) return;
        socket.off('data', take);
        const head = client.#rest.subarray(0, end).toString();
        client.#rest = client.#rest.subarray(end + 4);
        if (head.startsWith('HTTP/1.1 101')) resolve(); else reject(new Error(head));
      };
      socket.on('data', take);
      socket.once('error', reject);
    });
    socket.on('data', (chunk) => client.#take(chunk));
    socket.on('error', () => {});
    socket.on('close', () => client.onclose());
    return client;
  }

  get bufferedAmount() { return this.#socket.writableLength; }

  #take(chunk) {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    for (;;) {
      if (this.#rest.length < 2) return;
      let size = this.#rest[1] & 127;
      let start = 2;
      if (size === 126) {
        if (this.#rest.length < 4) return;
        size = this.#rest.readUInt16BE(2);
        start = 4;
      } else if (size === 127) {
        if (this.#rest.length < 10) return;
        size = Number(this.#rest.readBigUInt64BE(2));
        start = 10;
      }
      if (this.#rest.length < start + size) return;
      const opcode = this.#rest[0] & 15;
      const contents = Buffer.from(this.#rest.subarray(start, start + size));
      this.#rest = this.#rest.subarray(start + size);
      if (opcode === 9) this.#send(10, contents);
      else if (this.#onframe) this.#onframe(contents, opcode);
      else this.#frames.push([contents, opcode]);
    }
  }

  #send(opcode, contents) {
    const head = Buffer.alloc(14);
    head[0] = 0x80 | opcode;
    let size = 2;
    if (contents.length < 126) {
      head[1] = 0x80 | contents.length;
    } else if (contents.length < 65536) {
      head[1] = 0x80 | 126;
      head.writeUInt16BE(contents.length, 2);
      size = 4;
    } else {
      head[1] = 0x80 | 127;
      head.writeBigUInt64BE(BigInt(contents.length), 2);
      size = 10;
    }
    const mask = randomBytes(4);
    mask.copy(head, size);
    const masked = Buffer.from(contents);
    for (let place = 0; place < masked.length; place += 1) masked[place] ^= mask[place & 3];
    this.#socket.write(Buffer.concat([head.subarray(0, size + 4), masked]));
  }

  sendText(text) { this.#send(1, Buffer.from(text)); }
  send(bytes) { this.#send(2, Buffer.from(bytes)); }
  close() { this.#socket.destroy(); }
}

/** As much of a browser's WebSocket as the page's worker uses. */
export class BrowserSocket {
  bufferedAmount = 0;
  #client;
  #isClosed = false;

  constructor(url) {
    const { port, pathname } = new URL(url);
    WebSocketClient.open(Number(port), pathname).then((client) => this.#opened(client), () => this.#ended(1006, ''));
  }

  #opened(client) {
    this.#client = client;
    if (this.#isClosed) return client.close();
    client.onclose = () => this.#ended(1006, '');
    this.onopen?.();
    client.onframe = (contents, opcode) => {
      if (opcode === 8) {
        this.#ended(contents.readUInt16BE(0), contents.subarray(2).toString());
        client.close();
      } else if (!this.#isClosed) {
        this.onmessage?.({ data: opcode === 1 ? contents.toString() : new Uint8Array(contents).buffer });
      }
    };
  }

  #ended(code, reason) {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.onclose?.({ code, reason });
  }

  send(data) { if (typeof data === 'string') this.#client.sendText(data); else this.#client.send(data); }

  close() {
    this.#client?.close();
    setTimeout(() => this.#ended(1005, ''));
  }
}
