// The core, compiled to WebAssembly: one hypha, its posts and devices, and connections to other nodes, all in memory.
// It has no socket, no clock and no storage. Who holds a Core hands in what arrives and the time, sends what `output`
// gives, and keeps what `commit` gives:
//
//   const bytes = core.commit();   // everything since the last commit, in order
//   …write `journalRecords(bytes)` in one transaction, after those of the commits before…
//   core.committed();              // only now do peers hear of it
//
// A WebAssembly.RuntimeError from any call means that the instance is of no use any more: make a new one, and load what
// was kept. Keys are bytes (Uint8Array), times milliseconds since 1970, sizes and lengths numbers.

const methods = {
  newPassphrase: 1, deriveKeys: 2, newWriter: 3, checkPassphrase: 4,
  load: 10, open: 11, commit: 12, committed: 13, status: 14, events: 15, tick: 16,
  post: 20, deletePost: 21, posts: 22,
  connect: 30, receive: 31, output: 32, disconnect: 33,
  request: 40, ownRequest: 41, requests: 42, approve: 43, deny: 44,
  devices: 50, rename: 51, revoke: 52, restore: 53,
};

const writerStates = { kept: 0, new: 1, behind: 2 };

const eventNames = [, 'synced', 'requested', 'answered', 'ownAnswered', 'leftOut'];

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** What the core could not do: `code` for programs, `message` for people. */
export class CoreError extends Error {
  constructor(code, message) {
    super(message);
    this.name = 'CoreError';
    this.code = code;
  }
}

/** Writes a request's fields: numbers little-endian, byte strings and texts behind their 32-bit size. */
export class Writer {
  #parts = [];
  size = 0;

  #add(part) {
    this.#parts.push(part);
    this.size += part.length;
    return this;
  }

  byte(value) { return this.#add(Uint8Array.of(value)); }

  count(value) {
    const part = new Uint8Array(4);
    new DataView(part.buffer).setUint32(0, value, true);
    return this.#add(part);
  }

  number(value) {
    const part = new Uint8Array(8);
    new DataView(part.buffer).setBigUint64(0, BigInt(Math.floor(value)), true);
    return this.#add(part);
  }

  data(value) { return this.count(value.length).#add(value); }
  text(value) { return this.data(encoder.encode(value)); }

  copyTo(target) {
    let offset = 0;
    for (const part of this.#parts) {
      target.set(part, offset);
      offset += part.length;
    }
  }
}

/** Reads an answer's fields. */
export class Reader {
  #bytes;
  #view;
  #offset = 0;

  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get isAtEnd() { return this.#offset === this.#bytes.length; }

  #skip(size) {
    this.#offset += size;
    return this.#offset - size;
  }

  byte() { return this.#view.getUint8(this.#skip(1)); }
  flag() { return this.byte() !== 0; }
  count() { return this.#view.getUint32(this.#skip(4), true); }
  number() { return Number(this.#view.getBigUint64(this.#skip(8), true)); }

  data() {
    const size = this.count();
    const start = this.#skip(size);
    return this.#bytes.slice(start, start + size);
  }

  text() { return decoder.decode(this.data()); }
  list(read) { return Array.from({ length: this.count() }, () => read(this)); }
}

/** The records of a commit: `{name, offset, bytes}` to write to a file, `{name, size}` to cut it or fill it up with zeros. */
export function* journalRecords(journal) {
  const reader = new Reader(journal);
  while (!reader.isAtEnd) {
    const isResize = reader.byte() === 1;
    const name = reader.text();
    const place = reader.number();
    const bytes = reader.data();
    yield isResize ? { name, size: place } : { name, offset: place, bytes };
  }
}

function readPost(reader) {
  return {
    id: reader.text(), text: reader.text(), created: reader.number(), device: reader.text(), writer: reader.data(),
  };
}

function readRequest(reader) {
  return {
    id: reader.text(), name: reader.text(), words: reader.text(), created: reader.number(), expires: reader.number(),
    state: reader.text(),
  };
}

function readReceivedRequest(reader) {
  return { ...readRequest(reader), writer: reader.data() };
}

function readDevice(reader) {
  const device = {
    writer: reader.data(), name: reader.text(), isOrigin: reader.flag(), approved: reader.number() || undefined,
  };
  const isRevoked = reader.flag();
  const revoked = reader.number();
  return isRevoked ? { ...device, revoked } : device;
}

export class Core {
  #exports;

  /** @param {WebAssembly.Module} module */
  static async instantiate(module) {
    const core = new Core();
    const instance = await WebAssembly.instantiate(module, {
      host: {
        random: (start, count) => {
          // One call gives at most 65,536 bytes.
          for (let offset = 0; offset < count; offset += 65536) {
            const size = Math.min(65536, count - offset);
            crypto.getRandomValues(new Uint8Array(core.#exports.memory.buffer, (start >>> 0) + offset, size));
          }
        },
      },
    });
    core.#exports = instance.exports;
    return core;
  }

  /** Carries out a request. @returns {Reader} @throws {CoreError} */
  call(method, request = new Writer(), entry = 'call') {
    const { memory, allocate, take, release } = this.#exports;
    const start = allocate(request.size) >>> 0;
    request.copyTo(new Uint8Array(memory.buffer, start, request.size));
    const size = this.#exports[entry](method, start, request.size);
    const answer = allocate(size) >>> 0;
    take(answer);
    const bytes = new Uint8Array(memory.buffer, answer, size).slice();
    release(answer, size);
    const reader = new Reader(bytes);
    if (reader.byte() === 0) return reader;
    throw new CoreError(reader.text(), reader.text());
  }

  // Keys. Deriving takes 64 MiB, which the instance does not give back: use one of its own, and let it go.

  /** Eight random words. */
  newPassphrase() { return this.call(methods.newPassphrase).text(); }

  /** @returns the origin writer's keys, the key of the channel, and that for secrets at rest. */
  deriveKeys(passphrase, domain) {
    const reader = this.call(methods.deriveKeys, new Writer().text(passphrase).text(domain));
    return { publicKey: reader.data(), secretKey: reader.data(), channelKey: reader.data(), atRestKey: reader.data() };
  }

  /** Words typed so far, and those not on the list: their place, from 1 on, and perhaps the word that was meant. */
  checkPassphrase(typed) {
    const reader = this.call(methods.checkPassphrase, new Writer().text(typed));
    return {
      words: reader.count(),
      wrong: reader.list(() => ({ place: reader.count(), hint: reader.text() || undefined })),
    };
  }

  newWriter() {
    const reader = this.call(methods.newWriter);
    return { publicKey: reader.data(), secretKey: reader.data() };
  }

  // The node

  /** Hands in a file that was kept; all of them come before `open`. */
  load(name, bytes) { this.call(methods.load, new Writer().text(name).data(bytes)); }

  /**
   * Opens a hypha.
   *
   * @param options.secretKey of this node's own writer: that of `key` for the origin. Without, it only reads.
   * @param options.channelKey without, messages are passed on unopened.
   * @param options.state of that writer: `kept` where all that it wrote was loaded, `new` where it has never written,
   *   `behind` where what it wrote is to come from other nodes before it may write again.
   */
  open(key, { secretKey = new Uint8Array(), channelKey = new Uint8Array(), state = 'kept' } = {}) {
    this.call(methods.open, new Writer().data(key).data(secretKey).data(channelKey).byte(writerStates[state]));
  }

  /** What is to be kept: see `journalRecords`. @throws {CoreError} `busy` before the last one is `committed`. */
  commit() { return this.call(methods.commit).data(); }

  committed(now = Date.now()) { this.call(methods.committed, new Writer().number(now)); }

  /**
   * @returns `isBehind`: the own writer must not write yet. `isForked`: it signed two versions of its feed, and must not write
   *   any more. `isCurrent`: all that a connected node said it has is here.
   *   `keptBy`: connected nodes that have everything that this one wrote. `lengths`: blocks that count, by writer.
   */
  status() {
    const reader = this.call(methods.status);
    return {
      canPost: reader.flag(), isBehind: reader.flag(), isRevoked: reader.flag(), isForked: reader.flag(),
      isCurrent: reader.flag(), needsCommit: reader.flag(), keptBy: reader.count(), heldBlocks: reader.number(),
      knownBlocks: reader.number(), ownLength: reader.number(), ownKey: reader.data(),
      lengths: reader.list(() => ({ writer: reader.data(), length: reader.number() })),
    };
  }

  /** What happened since it was last asked: `synced`, `requested`, `answered`, `ownAnswered`, `leftOut`. */
  events() { return Array.from(this.call(methods.events).data(), (event) => eventNames[event]); }

  /** To be called once a second. @returns connections to be closed: they are silent. */
  tick(clock = performance.now(), now = Date.now()) {
    return this.call(methods.tick, new Writer().number(clock).number(now)).list((reader) => reader.number());
  }

  // Posts

  post(text, device, now = Date.now()) {
    return readPost(this.call(methods.post, new Writer().text(text).text(device).number(now)));
  }

  deletePost(id) { this.call(methods.deletePost, new Writer().text(id)); }

  /** Newest first. @param before only those older than the post of this id. */
  posts(limit, before = '') {
    const reader = this.call(methods.posts, new Writer().count(limit).text(before));
    return { more: reader.flag(), posts: reader.list(readPost) };
  }

  // Connections: `id` is a number that the caller chooses. After every call below, after `committed`, and whenever a
  // connection has sent what it was given, send what `output` gives until it is empty.

  connect(id) { this.call(methods.connect, new Writer().number(id)); }

  /** @throws {CoreError} for what ends the connection. */
  receive(id, bytes, clock = performance.now(), now = Date.now()) {
    this.call(methods.receive, new Writer().number(id).number(clock).number(now).data(bytes));
  }

  /** @param unsent bytes taken before that have not left yet, such as a WebSocket's `bufferedAmount`. */
  output(id, unsent = 0) { return this.call(methods.output, new Writer().number(id).count(unsent)).data(); }

  disconnect(id) { this.call(methods.disconnect, new Writer().number(id)); }

  // Requests to be let in, and devices

  request(name, now = Date.now()) {
    return readRequest(this.call(methods.request, new Writer().text(name).number(now)));
  }

  /** @returns this device's own request, if it made one. */
  ownRequest(now = Date.now()) {
    const reader = this.call(methods.ownRequest, new Writer().number(now));
    return reader.flag() ? readRequest(reader) : undefined;
  }

  requests(now = Date.now()) {
    return this.call(methods.requests, new Writer().number(now)).list(readReceivedRequest);
  }

  /** @param request its id, its words, or the name of its device. */
  approve(request, ownName, now = Date.now()) { return this.#answer(methods.approve, request, ownName, now); }

  deny(request, ownName, now = Date.now()) { return this.#answer(methods.deny, request, ownName, now); }

  #answer(method, request, ownName, now) {
    return readReceivedRequest(this.call(method, new Writer().text(request).text(ownName).number(now)));
  }

  devices() { return this.call(methods.devices).list(readDevice); }

  rename(writer, name) { this.call(methods.rename, new Writer().data(writer).text(name)); }

  revoke(writer, now = Date.now()) { this.call(methods.revoke, new Writer().data(writer).number(now)); }

  restore(writer) { this.call(methods.restore, new Writer().data(writer)); }
}
