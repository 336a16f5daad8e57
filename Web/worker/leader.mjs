import { Core } from '../core.mjs';
import { CallError, FencedError, describe } from './errors.mjs';
import { fromHex, toHex } from './hex.mjs';
import { limits } from './limits.mjs';
import { lookUp, signUp } from './lookup.mjs';
import { PageNode, later } from './node.mjs';
import { sealHere, sealLocked, unsealHere, unsealLocked, wipe } from './secrets.mjs';
import { openState, pagePost, pageRequest } from './state.mjs';
import { MemoryStore } from './storage.mjs';

/** Calls that change nothing: they may be asked again. */
export const readingCalls = new Set(['posts', 'newPassphrase', 'checkPassphrase']);

const pageText = (value, what) => {
  if (typeof value !== 'string') throw new CallError('badRequest', `${what} is no text`);
  return value;
};

const pageKey = (value) => {
  if (!/^[0-9a-f]{64}$/.test(value)) throw new CallError('badRequest', 'a writer is 64 hexadecimal digits');
  return fromHex(value);
};

/** The tab that holds the core: finds the hypha, opens it, carries out calls, and says how things stand. */
export class Leader {
  #start;
  #environment;
  #on;
  #begun;
  #begin;
  #helper;
  #store;
  #node;
  /** The node that was made last: `#node`, or one that is still being opened. */
  #made;
  #phase = 'starting';
  #progress = { what: 'load' };
  #error;
  #key;
  #persisted = false;
  /** Something may be kept here that could not be opened: the page only reads, as one that keeps nothing. */
  #isUnopened = false;
  #current = 0;
  #revision = 0;
  #lengths = '';
  #isBusy = false;
  #isClosed = false;
  #stateTimer;
  #stateTime = -Infinity;
  #told;
  #lookUpTimer;
  #wakeLookUp;

  /**
   * @param start of the page: `origin`, `host`, and the compiled `core`
   * @param environment `openStore()`, `makeSocket(url)`, `fetch`, `isPersisted()`
   * @param on `state(state)`; `busy(milliseconds)`: it answers nobody for so long; `lost()`: another tab has taken over
   */
  constructor(start, environment, on) {
    this.#start = start;
    this.#environment = environment;
    this.#on = on;
    this.#begun = new Promise((resolve) => { this.#begin = resolve; });
  }

  // Life

  async run() {
    try {
      // At the same time: the slower one says when the first post is there.
      const found = this.#findKey();
      const { store, kept } = await this.#openStore();
      if (this.#isClosed) return store.close();
      this.#store = store;
      this.#persisted = await this.#environment.isPersisted();
      if (kept.state.has('setUp')) await this.#settleSetUp(kept, await found);
      if (this.#isClosed) return;
      if (kept.state.has('node')) {
        await this.#openKept(kept);
        this.#compareKey(await found);
      } else {
        await this.#follow(await found);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  /** @returns the storage, and what is kept there */
  async #openStore() {
    let store;
    try {
      store = await this.#environment.openStore();
      return { store, kept: await store.load() };
    } catch (error) {
      store?.close();
      if (error instanceof FencedError) throw error;
      console.warn(`What this browser keeps cannot be opened: ${error.message}`);
    }
    this.#isUnopened = true;
    store = new MemoryStore();
    return { store, kept: await store.load() };
  }

  /** @throws where this device may be in already, with blocks that others have not seen: new ones would contradict them */
  #checkOpened() {
    if (!this.#isUnopened) return;
    throw new CallError('storage', 'What this browser keeps for this site cannot be opened, and this device may be in already. '
      + 'Close other tabs or make room on this device, and load the page again. Where that does not help, remove this site’s '
      + 'data in the browser’s settings: what was written here and has not reached the node is lost then.');
  }

  /** @returns {Promise<{key?: string, error?: Error}>} */
  #findKey() {
    return lookUp(this.#start.origin, this.#environment.fetch).then((key) => ({ key }), (error) => ({ error }));
  }

  /** Opens the hypha that was found, or asks again after a while. */
  async #follow(first) {
    let found = first;
    for (let failures = 1; !this.#isClosed && !this.#node && this.#phase !== 'failed'; failures += 1) {
      if (!this.#isBusy) {
        if (found.key) return this.#openFound(found.key);
        this.#setPhase(found.error ? 'unreachable' : 'uninitialised');
      }
      found = await this.#findKeyLater(failures);
    }
  }

  async #findKeyLater(failures) {
    const wait = Math.min(limits.lastRetryMilliseconds, limits.firstRetryMilliseconds * 2 ** failures);
    await new Promise((resolve) => {
      this.#wakeLookUp = resolve;
      this.#lookUpTimer = setTimeout(resolve, wait);
    });
    clearTimeout(this.#lookUpTimer);
    return this.#findKey();
  }

  /** A set-up that was cut short has succeeded if the node says so, and else was none. */
  async #settleSetUp({ files, state }, first) {
    let found = first;
    for (let failures = 1; found.error && !this.#isClosed; failures += 1) {
      this.#setPhase('unreachable');
      found = await this.#findKeyLater(failures);
    }
    if (this.#isClosed) return;
    if (found.key === state.get('node').key) {
      await this.#store.commit({ forgets: ['setUp'] });
      state.delete('setUp');
      return;
    }
    await this.#forgetSetUp(this.#store);
    files.clear();
    state.clear();
  }

  #forgetSetUp(store) {
    return store.commit({ drops: [''], forgets: ['setUp', 'node', 'here', 'locked', 'whole', 'heldElsewhere'] });
  }

  async #openFound(key) {
    this.#setPhase('starting', { what: 'load' });
    const node = this.#makeNode(new Map());
    await node.open({
      key: fromHex(key), files: new Map(),
      change: { drops: [''], state: { node: { key, role: 'reader', deviceName: '' } } },
    });
    this.#adopt(node);
    node.connect();
  }

  async #openKept({ files, state }) {
    const { key, role } = state.get('node');
    const here = state.get('here');
    let secrets;
    if (role !== 'reader' && here) {
      secrets = await unsealHere(here, key).catch((error) => {
        console.warn(`The secrets that are kept here cannot be opened: ${error.message}`);
      });
    }
    const node = this.#makeNode(state);
    await node.open({ key: fromHex(key), files, secrets });
    this.#adopt(node);
    node.connect();
  }

  #makeNode(state) {
    if (this.#isClosed) throw new CallError('interrupted', 'Another tab has taken over.');
    this.#made = new PageNode({
      module: this.#start.core, store: this.#store, state, url: `${this.#socketOrigin}/hypha`,
      makeSocket: this.#environment.makeSocket,
      on: {
        changed: () => this.#changed(),
        failed: (error) => this.#fail(error),
      },
    });
    return this.#made;
  }

  #adopt(node) {
    if (this.#isClosed) return;
    this.#node = node;
    this.#key = node.state.get('node').key;
    this.#setPhase('open');
  }

  #compareKey({ key }) {
    if (!key || key === this.#key) return;
    this.#fail(new CallError('otherHypha', `${this.#start.host} now keeps another hypha, dat://${key}, than the one that this `
      + `browser knows it by, dat://${this.#key}. If that is right, remove this site’s data in the browser’s settings.`));
  }

  get #socketOrigin() { return this.#start.origin.replace(/^http/, 'ws'); }

  #fail(error) {
    if (this.#isClosed) return;
    if (error instanceof FencedError) {
      this.close();
      this.#on.lost();
      return;
    }
    console.error(error);
    this.#made?.close();
    this.#node = undefined;
    this.#error = describe(error);
    this.#setPhase('failed');
  }

  /** Lets go of everything: another tab goes on. */
  close() {
    this.#isClosed = true;
    // Who waits for it to open waits no longer.
    this.#begin();
    clearTimeout(this.#stateTimer);
    clearTimeout(this.#lookUpTimer);
    this.#wakeLookUp?.();
    this.#made?.close();
    this.#made?.store.close();
    this.#store?.close();
  }

  /** The network is there, or a person looks: connects now. */
  wake() {
    this.#node?.wake();
    this.#wakeLookUp?.();
    if (this.#node) this.#findKey().then((found) => this.#compareKey(found));
    this.#environment.isPersisted().then((persisted) => {
      this.#persisted = persisted;
      this.#changed();
    }, () => {});
  }

  /** The network is gone. */
  sleep() { this.#node?.drop(); }

  // State

  #setPhase(phase, progress) {
    this.#phase = phase;
    if (phase !== 'starting') this.#begin();
    this.#progress = progress;
    this.tell();
  }

  #setProgress(what) {
    this.#progress = what && { what };
    this.tell();
  }

  #changed() {
    if (this.#stateTimer || this.#isClosed) return;
    const wait = Math.max(0, this.#stateTime + limits.stateMilliseconds - performance.now());
    this.#stateTimer = setTimeout(() => this.tell(), wait);
  }

  /** Says how things stand, if that is news. */
  tell(isAsked = false) {
    clearTimeout(this.#stateTimer);
    this.#stateTimer = undefined;
    if (this.#isClosed) return;
    this.#stateTime = performance.now();
    let state;
    try { state = this.#state(); } catch (error) {
      // The core starts again, and says more then.
      if (error.code !== 'interrupted') console.error(error);
      return;
    }
    const told = JSON.stringify(state);
    if (told === this.#told && !isAsked) return;
    this.#told = told;
    this.#on.state(state);
  }

  #state() {
    const state = {
      phase: this.#phase, progress: this.#progress, error: this.#error, host: this.#start.host, key: this.#key,
      ownKey: undefined, deviceName: '', access: 'reader', isOrigin: false, network: 'offline',
      storage: this.#isUnopened ? 'unopened' : (this.#node?.store ?? this.#store)?.isMemory ? 'memory' : 'kept',
      persisted: this.#persisted, unkept: false, revision: this.#revision, length: 0, ownRequest: undefined, requests: [],
      devices: [],
    };
    return this.#phase === 'open' ? { ...state, ...this.#node.use((core) => this.#nodeState(core)) } : state;
  }

  #nodeState(core) {
    const status = core.status();
    const lengths = status.lengths.map(({ length }) => length).join();
    if (lengths !== this.#lengths) this.#revision += 1;
    this.#lengths = lengths;
    const network = this.#network(status);
    const isFetching = network === 'catchingUp' && status.knownBlocks > status.heldBlocks;
    return {
      ...openState(core, status, this.#node.state, this.#node.hasSecrets), network, revision: this.#revision,
      progress: isFetching ? { what: 'sync', done: status.heldBlocks, of: status.knownBlocks } : this.#progress,
    };
  }

  /** A block that comes while all else is here is no catching up. */
  #network({ isCurrent }) {
    if (!this.#node.isConnected) {
      this.#current = 0;
      return 'offline';
    }
    const now = performance.now();
    if (isCurrent) this.#current = now;
    return this.#current > 0 && now - this.#current < limits.currentMilliseconds ? 'live' : 'catchingUp';
  }

  // Calls

  /** @returns a promise of the call's value */
  async call(name, args = {}) {
    if (!Object.hasOwn(Leader.#calls, name)) throw new CallError('badRequest', `there is no call ${name}`);
    if (readingCalls.has(name)) return Leader.#calls[name].call(this, args);
    try {
      return await Leader.#calls[name].call(this, args);
    } finally {
      this.tell();
    }
  }

  static #calls = {
    async posts({ limit, before = '' }) {
      const { posts, more } = (await this.#ready()).use((core) =>
        core.posts(Math.min(Math.max(Number(limit) || 0, 1), limits.posts), pageText(before, 'before')));
      return { posts: posts.map(pagePost), more };
    },
    newPassphrase() { return this.#help((core) => core.newPassphrase()); },
    checkPassphrase({ text }) { return this.#help((core) => core.checkPassphrase(pageText(text, 'text'))); },

    setUp(args) { return this.#alone(() => this.#setUp(args)); },
    signIn(args) { return this.#alone(() => this.#signIn(args)); },
    signOut() { return this.#alone(() => this.#signOut()); },
    lock() { return this.#alone(() => this.#lock()); },
    unlock(args) { return this.#alone(() => this.#unlock(args)); },

    requestAgain() {
      return this.#write((core) => pageRequest(core.request(this.#node.state.get('node').deviceName)));
    },
    post({ text }) {
      return this.#write((core) => pagePost(core.post(pageText(text, 'text'), this.#node.state.get('node').deviceName)));
    },
    deletePost({ id }) { return this.#write((core) => core.deletePost(pageText(id, 'id'))); },
    approve({ id }) {
      return this.#write((core) => {
        core.approve(pageText(id, 'id'), this.#node.state.get('node').deviceName);
      });
    },
    deny({ id }) {
      return this.#write((core) => { core.deny(pageText(id, 'id'), this.#node.state.get('node').deviceName); });
    },
    async rename({ writer, name }) {
      const node = await this.#ready();
      const record = node.state.get('node');
      await this.#write((core) => core.rename(pageKey(writer), pageText(name, 'name')),
        writer === record.writer ? { state: { node: { ...record, deviceName: name } } } : {});
    },
    revoke({ writer }) { return this.#write((core) => core.revoke(pageKey(writer))); },
    restore({ writer }) { return this.#write((core) => core.restore(pageKey(writer))); },

    async retry() { this.wake(); },
  };

  async #ready() {
    await this.#begun;
    if (this.#isClosed) throw new CallError('interrupted', 'Another tab has taken over.');
    if (this.#phase !== 'open') throw new CallError('notOpen', 'No hypha is open here.');
    await this.#node.ready();
    return this.#node;
  }

  /** Changes something, and returns once that is kept. */
  async #write(change, kept) {
    const node = await this.#ready();
    node.checkMayWrite();
    const value = node.use(change);
    this.#revision += 1;
    await node.commit(kept);
    return value;
  }

  /** Carries out what nothing else of its kind may come between. */
  async #alone(work) {
    if (this.#isBusy) throw new CallError('busy', 'Something else is under way: wait until it is done.');
    this.#isBusy = true;
    try {
      return await work();
    } finally {
      this.#isBusy = false;
      this.#progress = undefined;
    }
  }

  /** Asks a core that has no hypha. One that failed is not asked again. */
  async #help(ask) {
    this.#helper ??= Core.instantiate(this.#start.core);
    try { return ask(await this.#helper); } catch (error) {
      this.#helper = undefined;
      throw error;
    }
  }

  /** Derives the keys in a core of its own, of which nothing is left. */
  async #derive(passphrase) {
    this.#helper = undefined;
    this.#setProgress('keys');
    this.#on.busy(limits.deriveMilliseconds);
    // So that what was just said leaves first.
    await new Promise(later);
    const core = await Core.instantiate(this.#start.core);
    try {
      return core.deriveKeys(pageText(passphrase, 'passphrase'), this.#start.host);
    } finally {
      this.#on.busy(0);
    }
  }

  async #sealed(secrets, atRestKey, key) {
    return { here: await sealHere(secrets, key), locked: await sealLocked(secrets, atRestKey, key) };
  }

  async #setUp({ code, passphrase, deviceName }) {
    this.#checkOpened();
    // The page keeps the words that it has shown, and goes on with them.
    if (this.#phase === 'unreachable') throw new CallError('offline', 'The node does not answer now: try again in a moment.');
    if (this.#phase !== 'uninitialised') throw new CallError('alreadyInitialised', 'This node has a hypha already.');
    const name = pageText(deviceName, 'deviceName');
    const { publicKey, secretKey, channelKey, atRestKey } = await this.#derive(passphrase);
    const key = toHex(publicKey);
    const secrets = { secretKey, channelKey };
    const sealed = await this.#sealed(secrets, atRestKey, key);
    wipe(atRestKey);
    this.#setProgress('sign-up');
    const node = this.#makeNode(new Map());
    let accepted;
    try {
      accepted = await signUp(`${this.#socketOrigin}/sign-up/${key}`, pageText(code, 'code'), this.#environment.makeSocket);
      // Kept before anybody else sees it.
      await node.open({
        key: publicKey, files: new Map(), secrets, isNew: true, prepare: (core) => core.rename(publicKey, name),
        change: {
          drops: [''],
          state: { ...sealed, setUp: true, whole: true, node: { key, role: 'origin', writer: key, deviceName: name } },
        },
      });
      node.connect(accepted.socket, accepted.received);
      await this.#untilHeld(node);
      await node.commit({ forgets: ['setUp'] });
    } catch (error) {
      accepted?.socket.close();
      node.close();
      wipe(secretKey, channelKey);
      // What a tab that lost the lead has begun is settled by the one that leads now.
      if (!this.#isClosed) await this.#forgetSetUp(node.store).catch((failure) => console.warn(failure));
      throw error;
    }
    this.#store = node.store;
    this.#adopt(node);
  }

  /** Waits until another node has all that this one wrote. */
  async #untilHeld(node) {
    const end = performance.now() + limits.setUpMilliseconds;
    while (node.use((core) => core.status().keptBy) === 0) {
      if (performance.now() > end) throw new CallError('offline', 'The node did not take the hypha in time: try again.');
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
  }

  async #signIn({ passphrase, deviceName, asOrigin = false }) {
    this.#checkOpened();
    const node = await this.#ready();
    const before = node.state.get('node');
    const { isRevoked, isForked } = node.use((core) => core.status());
    // Who may never write again with the keys that are here gets others.
    if (before.role !== 'reader' && !isRevoked && !isForked) {
      throw new CallError('alreadySignedIn', 'This browser has signed in already: sign out first.');
    }
    const name = pageText(deviceName, 'deviceName');
    const { publicKey, secretKey, channelKey, atRestKey } = await this.#derive(passphrase);
    if (toHex(publicKey) !== before.key) {
      wipe(secretKey, channelKey, atRestKey);
      throw new CallError('wrongPassphrase', `That is not the passphrase of this hypha, or it was made with another domain `
        + `than ${this.#start.host}.`);
    }
    await this.#signOut();
    const writer = asOrigin ? { publicKey, secretKey } : await this.#help((core) => core.newWriter());
    if (!asOrigin) wipe(secretKey);
    const secrets = { secretKey: writer.secretKey, channelKey };
    const sealed = await this.#sealed(secrets, atRestKey, before.key);
    wipe(atRestKey);
    const role = asOrigin ? 'origin' : 'device';
    const record = { ...before, role, writer: toHex(writer.publicKey), deviceName: name };
    await node.reopen({
      key: fromHex(before.key), secrets, isNew: !asOrigin, prepare: asOrigin ? undefined : (core) => { core.request(name); },
      change: { state: { ...sealed, node: record, ...asOrigin ? {} : { whole: true } }, drops: ['membership'] },
    });
  }

  async #signOut() {
    const node = await this.#ready();
    const { key, writer } = node.state.get('node');
    if (!writer) return;
    // The feed of a device that was never let in is nobody's.
    const isDevice = node.use((core) => core.devices()).some((device) => toHex(device.writer) === writer);
    await node.reopen({
      key: fromHex(key),
      change: {
        state: { node: { key, role: 'reader', deviceName: '' } }, forgets: ['here', 'locked', 'whole', 'heldElsewhere'],
        drops: isDevice ? ['membership'] : ['membership', `${writer}/`],
      },
    });
  }

  async #lock() {
    const node = await this.#ready();
    const { key, role } = node.state.get('node');
    if (role === 'reader') throw new CallError('readOnly', 'There is nothing to lock: this browser has not signed in.');
    await node.reopen({ key: fromHex(key), change: { forgets: ['here'] } });
  }

  async #unlock({ passphrase }) {
    const node = await this.#ready();
    const { key } = node.state.get('node');
    const locked = node.state.get('locked');
    if (!locked) throw new CallError('readOnly', 'There is nothing to unlock: this browser has not signed in.');
    const { publicKey, secretKey, channelKey, atRestKey } = await this.#derive(passphrase);
    wipe(secretKey, channelKey);
    let secrets;
    try { secrets = await unsealLocked(locked, atRestKey, key); } catch {
      throw new CallError('wrongPassphrase', toHex(publicKey) === key
        ? 'What was locked was altered, and cannot be opened: sign out, and sign in anew.'
        : 'That is not the passphrase of this hypha.');
    } finally {
      wipe(atRestKey);
    }
    await node.reopen({ key: fromHex(key), secrets, change: { state: { here: await sealHere(secrets, key) } } });
  }
}
