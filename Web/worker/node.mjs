import { Core } from '../core.mjs';
import { Connection } from './connection.mjs';
import { CallError, FencedError } from './errors.mjs';
import { fromHex } from './hex.mjs';
import { limits } from './limits.mjs';
import { wipe } from './secrets.mjs';
import { MemoryStore } from './storage.mjs';

/** Carries something out once what waits had its turn. */
export function later(work) {
  const { port1, port2 } = new MessageChannel();
  port2.onmessage = () => {
    port1.close();
    work();
  };
  port1.postMessage(0);
}

const signaturesHeaderBytes = 32;
const signatureBytes = 64;

const closedError = () => new CallError('interrupted', 'The hypha was closed.');

const storageError = () => new CallError('storage', 'This browser’s storage fails, so nothing can be written here: close other '
  + 'tabs or make room on this device, and load the page again.');

const isTrap = (error) => error instanceof WebAssembly.RuntimeError || error instanceof RangeError;

/**
 * A hypha that is open: the core, what is kept of it, and its connection.
 *
 * `on.changed()` is called whenever anything may be different, `on.failed(error)` where it cannot go on.
 */
export class PageNode {
  /** The records of `state` as they are kept. */
  state;
  #module;
  #store;
  #on;
  #secrets;
  #core;
  #opening = Promise.resolve();
  #connection;
  #received = [];
  #receivedBytes = 0;
  #lastReceived = 0;
  #isDraining = false;
  #pumpTimer;
  #commitTimer;
  #ticker;
  #waiting = [];
  #isCommitting = false;
  #isBeginningAnew = false;
  #traps = [];
  #isClosed = false;
  /** It could not be kept that this browser lacks something of what the own writer signs. */
  #mayNotWrite = false;

  /**
   * @param options.module the core, compiled
   * @param options.store where it is kept
   * @param options.state the records of it
   * @param options.url of the always-on node's hypha
   * @param options.makeSocket url → WebSocket
   */
  constructor({ module, store, state, url, makeSocket, on }) {
    this.#module = module;
    this.#store = store;
    this.state = new Map(state);
    this.#on = on;
    this.#connection = new Connection(url, makeSocket, {
      opened: (id) => this.#opened(id),
      received: (bytes) => this.#receive(bytes),
      closed: (id) => this.#closed(id),
    });
  }

  get store() { return this.#store; }
  get hasSecrets() { return this.#secrets !== undefined; }
  get isConnected() { return this.#connection.isOpen; }

  // Opening

  /**
   * Opens the hypha that the record `node` names, and keeps that it did.
   *
   * @param options.key of the hypha
   * @param options.files that are kept
   * @param options.secrets of the own writer, if there is one and they are at hand
   * @param options.isNew that writer has never written
   * @param options.prepare gets the core before anything is kept
   * @param options.change to be kept in one with what opening writes
   */
  open(options) {
    this.#ticker = setInterval(() => this.#tick(), 1000);
    return this.#whileOpening(async () => this.commit(await this.#open(options)));
  }

  /** Opens it again as something else, or else leaves it as it is. */
  reopen(options) {
    return this.#whileOpening(async () => {
      this.#connection.stop();
      try {
        await this.commit();
        const files = await this.#keptFiles();
        const { drops = [] } = options.change ?? {};
        for (const name of files.keys()) if (drops.some((start) => name.startsWith(start))) files.delete(name);
        const before = this.#secrets;
        const change = await this.#open({ ...options, files });
        wipe(before?.secretKey, before?.channelKey);
        await this.commit(change);
      } catch (error) {
        if (error instanceof FencedError) this.#fail(error);
        throw error;
      } finally {
        // Without a core, one is on its way, and connects then.
        if (!this.#isClosed && this.#core) this.#connection.start();
      }
    });
  }

  /** @returns what is to be kept */
  async #open({ key, files, secrets, isNew = false, prepare = () => {}, change = {} }) {
    const isWhole = change.state?.whole ?? this.state.has('whole');
    const options = { ...secrets, state: isNew ? 'new' : isWhole || !secrets ? 'kept' : 'behind' };
    let core;
    let kept = change;
    try {
      core = await this.#load(key, files, options);
    } catch (error) {
      if (isNew || !this.#mayDrop(error, files)) throw error;
      console.warn(`What this browser kept of the hypha cannot be opened, and is fetched anew: ${error.message}`);
      // That a feed was signed in two versions may be known here alone.
      const forks = new Map([...files].filter(([name]) => name.startsWith('forks/')));
      const drops = [...change.drops ?? [], ...[...files.keys()].filter((name) => !forks.has(name))];
      kept = { ...change, drops, forgets: [...change.forgets ?? [], 'whole'] };
      core = await this.#load(key, forks, { ...options, state: secrets ? 'behind' : 'kept' });
    }
    prepare(core);
    this.#secrets = secrets;
    this.#core = core;
    return kept;
  }

  /** Whether files that cannot be opened are of no use: they do not hold together, or all of it is on other nodes. */
  #mayDrop(error, files) {
    if (error.name === 'CoreError') return error.code !== 'damaged';
    const { writer } = this.state.get('node') ?? {};
    const ownLength = ((files.get(`${writer}/signatures`)?.length ?? 0) - signaturesHeaderBytes) / signatureBytes;
    return isTrap(error) && ownLength <= (this.state.get('heldElsewhere') ?? 0);
  }

  async #load(key, files, options) {
    const core = await Core.instantiate(this.#module);
    if (this.#isClosed) {
      wipe(options.secretKey, options.channelKey);
      throw closedError();
    }
    for (const [name, bytes] of files) core.load(name, bytes);
    core.open(key, options);
    return core;
  }

  async #whileOpening(work) {
    const before = this.#opening;
    const opening = (async () => {
      await before;
      return work();
    })();
    this.#opening = opening.then(() => {}, () => {});
    return opening;
  }

  /** Resolves once the core can be used. */
  async ready() {
    let seen;
    while (seen !== this.#opening) {
      seen = this.#opening;
      await seen;
    }
    if (!this.#core) throw new CallError('interrupted', 'The hypha is closed.');
  }

  /** Ends it; nothing is kept from here on. */
  close() {
    this.#isClosed = true;
    this.#connection.stop();
    clearInterval(this.#ticker);
    clearTimeout(this.#commitTimer);
    clearTimeout(this.#pumpTimer);
    for (const { reject } of this.#waiting.splice(0)) reject(closedError());
    wipe(this.#secrets?.secretKey, this.#secrets?.channelKey);
    this.#core = undefined;
  }

  /** Asks the core. A trap ends it: another one takes its place. */
  use(ask) {
    if (!this.#core) throw new CallError('interrupted', 'The core is being started: try again.');
    try {
      return ask(this.#core);
    } catch (error) {
      if (!isTrap(error)) throw error;
      this.#revive(error);
      throw new CallError('interrupted', 'The core stopped, and starts again with what was kept.');
    }
  }

  #revive(error) {
    console.error(error);
    this.#core = undefined;
    this.#received = [];
    this.#receivedBytes = 0;
    this.#connection.stop();
    const now = performance.now();
    this.#traps = [...this.#traps.filter((time) => time > now - limits.trapMilliseconds), now];
    if (this.#traps.length > limits.traps) return this.#fail(new CallError('trapped', `The core stopped: ${error.message}`));
    this.#whileOpening(async () => {
      // A transaction that is under way may still become durable.
      while (this.#isCommitting) await new Promise((resolve) => { setTimeout(resolve, 10); });
      if (this.#isClosed) return;
      const files = await this.#keptFiles();
      const change = await this.#open({ key: fromHex(this.state.get('node').key), files, secrets: this.#secrets });
      await this.commit(change);
      if (this.#core) this.#connection.start();
    }).catch((failure) => this.#fail(failure));
  }

  #fail(error) {
    if (this.#isClosed) return;
    this.close();
    this.#on.failed(error);
  }

  // Keeping

  /**
   * Resolves once everything that is in the core now is kept, as well as can be.
   *
   * @param change further things to keep in the same transaction
   */
  commit(change = {}) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ change: { ...change, isOwn: true }, resolve, reject });
      this.#work();
    });
  }

  /** Keeps what came from others, soon. */
  #commitSoon() {
    this.#commitTimer ??= setTimeout(() => {
      this.#commitTimer = undefined;
      if (this.#isClosed || !this.#core) return;
      try {
        const change = this.#noteHeld();
        if (!change && !this.use((core) => core.status().needsCommit)) return;
        this.#waiting.push({ change: change ?? {}, resolve: () => {}, reject: () => {} });
        this.#work();
      } catch (error) {
        console.warn(error);
      }
    }, limits.commitMilliseconds);
  }

  async #work() {
    if (this.#isCommitting) return;
    this.#isCommitting = true;
    while (this.#waiting.length > 0) {
      const waiting = this.#waiting.splice(0);
      try {
        await this.#commitOnce(waiting.map(({ change }) => change));
        for (const { resolve } of waiting) resolve();
      } catch (error) {
        for (const { reject } of waiting) reject(error);
        if (error instanceof FencedError || error.code === 'storage') this.#fail(error);
      }
    }
    this.#isCommitting = false;
  }

  async #commitOnce(changes) {
    const change = {
      journal: this.use((core) => core.commit()),
      state: Object.assign({}, ...changes.map(({ state }) => state)),
      forgets: changes.flatMap(({ forgets = [] }) => forgets),
      drops: changes.flatMap(({ drops = [] }) => drops),
      isOwn: changes.some(({ isOwn }) => isOwn),
    };
    const core = this.#core;
    await this.#keep(change);
    for (const name of change.forgets) this.state.delete(name);
    for (const [name, record] of Object.entries(change.state)) this.state.set(name, record);
    if (this.#isClosed || core !== this.#core) return;
    try {
      this.use((running) => running.committed());
      this.#pump();
      this.#finishCatchUp();
    } catch (error) {
      // It is kept all the same: a person who is told that it failed would write it twice.
      console.warn(error);
    }
    this.#on.changed();
  }

  async #keep(change) {
    const kept = this.#store;
    try {
      return await kept.commit(change);
    } catch (error) {
      const failure = this.#storageFailure(error);
      if (failure.code !== 'storage' || kept.isMemory) throw failure;
      console.warn(`This browser keeps no more: ${error.message}`);
    }
    // What was kept before stays, and is behind what this writer signs from now on. To remove needs no room.
    await kept.commit({ forgets: ['whole'], isOwn: true }).catch((error) => {
      const failure = this.#storageFailure(error);
      if (failure.code !== 'storage') throw failure;
      this.#mayNotWrite = true;
    });
    // What nobody else has seen yet is better lost than contradicted.
    if (change.isOwn && this.#secrets) this.checkMayWrite();
    // Without what was kept, the next core would have nothing.
    try {
      const { files } = await kept.load();
      this.#store = new MemoryStore({
        files, state: this.state,
        before: (next) => (next.forgets.includes('here') ? this.#takeOff(kept, next) : kept.checkLead()),
      });
      await this.#store.commit(change);
    } catch (error) {
      throw this.#storageFailure(error);
    }
  }

  /**
   * Removes keys from where all was kept before: what is locked or signed out is so after a reload, too. To remove needs no
   * room either. All else that changes stays in memory.
   */
  async #takeOff(kept, { state: { node }, forgets }) {
    const removal = { forgets, isOwn: true };
    if (node?.role === 'reader') {
      try { return await kept.commit({ ...removal, state: { node } }); } catch (error) {
        if (error instanceof FencedError) throw error;
        console.warn(`There is no room to note who signed out: ${error.message}`);
      }
    }
    return kept.commit(removal);
  }

  async #keptFiles() {
    try { return (await this.#store.load()).files; } catch (error) { throw this.#storageFailure(error); }
  }

  /** What it means that the storage failed: that of a node that was closed is closed, too, which is no sign of a full disk. */
  #storageFailure(error) {
    if (this.#isClosed) return closedError();
    return error instanceof FencedError ? error : storageError();
  }

  /** A writer that has fetched all it wrote before may write again, also after a restart. */
  #finishCatchUp() {
    if (!this.#secrets || this.state.has('whole') || this.#isBeginningAnew) return;
    const { isBehind, ownLength } = this.use((core) => core.status());
    if (isBehind) return;
    if (ownLength > 0) {
      this.commit({ state: { whole: true } }).catch(() => {});
      return;
    }
    // It never published anything: it begins anew, and asks again to be let in.
    this.#isBeginningAnew = true;
    const { key, deviceName } = this.state.get('node');
    this.reopen({
      key: fromHex(key), secrets: copySecrets(this.#secrets), isNew: true,
      prepare: (core) => { core.request(deviceName); },
      change: { state: { whole: true } },
    }).catch((error) => this.#fail(error)).finally(() => { this.#isBeginningAnew = false; });
  }

  /** @returns what is to be kept where another node now has more of what this one wrote */
  #noteHeld() {
    const { keptBy, ownLength } = this.use((core) => core.status());
    return keptBy > 0 && ownLength > (this.state.get('heldElsewhere') ?? 0)
      ? { state: { heldElsewhere: ownLength } } : undefined;
  }

  /** @throws where nothing may be written because it could contradict what is kept */
  checkMayWrite() {
    if (this.#mayNotWrite) throw storageError();
  }

  // Connection

  /** @param socket one that is open, to begin with; `received` came on it */
  connect(socket, received) { if (!this.#isClosed) this.#connection.start(socket, received); }

  /** Connects now: anew where the other side, which says something every three seconds, was silent while this one slept. */
  wake() {
    if (this.isConnected && performance.now() - this.#lastReceived > limits.silentMilliseconds) this.#connection.close();
    this.#connection.wake();
  }

  /** Gives up the connection that there is, for another. */
  drop() { this.#connection.close(); }

  #opened(id) {
    this.#lastReceived = performance.now();
    try { this.use((core) => core.connect(id)); } catch (error) { return this.#lose(error); }
    this.#pump();
    this.#on.changed();
  }

  #closed(id) {
    this.#received = [];
    this.#receivedBytes = 0;
    if (this.#core) {
      try { this.use((core) => core.disconnect(id)); } catch (error) { console.warn(error); }
    }
    this.#on.changed();
  }

  #lose(error) {
    console.warn(`The connection ends: ${error.message}`);
    this.#connection.close();
  }

  #receive(bytes) {
    this.#lastReceived = performance.now();
    this.#receivedBytes += bytes.length;
    if (this.#receivedBytes > limits.receivedBytes) return this.#lose(new CallError('peer', 'more comes than was asked for'));
    for (let start = 0; start < bytes.length; start += limits.chunkBytes) {
      this.#received.push(bytes.subarray(start, start + limits.chunkBytes));
    }
    if (this.#isDraining) return;
    this.#isDraining = true;
    this.#drain();
  }

  /** Takes what was received, a little at a time: calls come in between. */
  #drain() {
    const end = performance.now() + limits.sliceMilliseconds;
    try {
      while (this.#received.length > 0 && this.#core && performance.now() < end) {
        const bytes = this.#received.shift();
        this.#receivedBytes -= bytes.length;
        this.use((core) => core.receive(this.#connection.id, bytes));
      }
      this.#pump();
    } catch (error) {
      this.#lose(error);
    }
    this.#commitSoon();
    this.#on.changed();
    this.#isDraining = this.#received.length > 0 && this.#core !== undefined;
    if (this.#isDraining) later(() => this.#drain());
  }

  #pump() {
    if (!this.isConnected || !this.#core) return;
    clearTimeout(this.#pumpTimer);
    try {
      while (this.#connection.unsent < limits.unsentBytes) {
        const bytes = this.use((core) => core.output(this.#connection.id, this.#connection.unsent));
        if (bytes.length === 0) break;
        this.#connection.send(bytes);
      }
    } catch (error) {
      return this.#lose(error);
    }
    if (this.#connection.unsent > 0) this.#pumpTimer = setTimeout(() => this.#pump(), limits.unsentMilliseconds);
  }

  #tick() {
    if (!this.#core) return;
    try {
      // Of other events, the state says all.
      if (this.use((core) => core.events()).includes('leftOut')) {
        console.warn('The feed of a device is more than a page can hold, and is left out.');
      }
      if (this.use((core) => core.tick()).length > 0) this.#lose(new CallError('timedOut', 'the node is silent'));
    } catch (error) {
      console.warn(error);
    }
    this.#pump();
    this.#commitSoon();
    this.#on.changed();
  }
}

const copySecrets = ({ secretKey, channelKey }) => ({ secretKey: secretKey.slice(), channelKey: channelKey.slice() });
