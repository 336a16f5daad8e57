// The page's worker against the daemon that the same build made: setting up, signing in, reloading, losing what was kept.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Core, CoreError } from '../../Web/core.mjs';
import { FencedError } from '../../Web/worker/errors.mjs';
import { Leader } from '../../Web/worker/leader.mjs';
import { limits } from '../../Web/worker/limits.mjs';
import { MemoryStore, openStore } from '../../Web/worker/storage.mjs';
import { startDaemon, until } from './daemon.mjs';
import { TestIndexedDB } from './indexeddb.mjs';
import { coreModule } from './support.mjs';
import { BrowserSocket } from './websocket.mjs';

/** A browser's storage, which outlasts the page. */
class Disk extends MemoryStore {
  isMemory = false;
  epoch = 0;
  /** Called before each commit. */
  check = () => {};

  /** For a tab, which takes the lead. */
  open() {
    this.epoch += 1;
    return new OpenDisk(this, this.epoch);
  }

  /** What is in `state`. */
  async records() { return Object.fromEntries((await this.load()).state); }
}

/** The storage as one tab has it open: of no use once it is closed, and only read once another tab leads. */
class OpenDisk {
  isMemory = false;
  #disk;
  #epoch;
  #isClosed = false;

  constructor(disk, epoch) {
    this.#disk = disk;
    this.#epoch = epoch;
  }

  async #use() { if (this.#isClosed) throw new DOMException('The connection is closing.', 'InvalidStateError'); }

  async load() {
    await this.#use();
    return this.#disk.load();
  }

  async commit(change) {
    await this.#disk.check(change);
    await this.#use();
    if (this.#epoch !== this.#disk.epoch) throw new FencedError();
    await this.#disk.commit(change);
  }

  async checkLead() { if (!this.#isClosed && this.#epoch !== this.#disk.epoch) throw new FencedError(); }
  close() { this.#isClosed = true; }
}

/** The same in IndexedDB. */
class IndexedDisk {
  indexedDB = new TestIndexedDB();

  open() { return openStore('example.org', { indexedDB: this.indexedDB, navigator: { locks: { query: async () => {} } } }); }
  async records() { return this.indexedDB.records; }
}

/** One profile of a browser, with one tab. */
class Browser {
  disk = new Disk();
  states = [];
  lost = 0;
  /** Connections that it has opened. */
  sockets = 0;

  constructor(t, port, host = 'example.org') {
    this.start = { origin: `http://127.0.0.1:${port}`, host, core: coreModule() };
    t.after(() => this.leader?.close());
  }

  get state() { return this.states.at(-1); }

  open(environment = {}) {
    this.leader?.close();
    this.states = [];
    this.leader = new Leader(this.start, {
      openStore: async () => this.disk.open(), fetch, isPersisted: async () => false,
      makeSocket: (url) => {
        this.sockets += 1;
        return new BrowserSocket(url);
      },
      ...environment,
    }, { state: (state) => this.states.push(state), busy: () => {}, lost: () => { this.lost += 1; } });
    this.leader.run();
  }

  call(name, args) { return this.leader.call(name, args); }
  until(what, condition) { return until(what, () => this.state && condition(this.state)); }
  async texts() { return (await this.call('posts', { limit: 100 })).posts.map(({ text }) => text); }
}

async function setUp(t, disk = new Disk()) {
  const daemon = await startDaemon(t);
  const origin = new Browser(t, daemon.port);
  origin.disk = disk;
  origin.open();
  await origin.until('nothing is there', ({ phase }) => phase === 'uninitialised');
  const passphrase = await origin.call('newPassphrase');
  const { code } = await daemon.control('setup-code');
  return { daemon, origin, passphrase, code };
}

async function setUpOrigin(t, disk) {
  const all = await setUp(t, disk);
  await all.origin.call('setUp', { code: all.code, passphrase: all.passphrase, deviceName: 'laptop' });
  return all;
}

test('a hypha is set up with the right code, and kept only then', async (t) => {
  const { daemon, origin, passphrase, code } = await setUp(t);
  const { deriveKeys } = Core.prototype;
  t.after(() => { Core.prototype.deriveKeys = deriveKeys; });
  let keys;
  Core.prototype.deriveKeys = function derive(...words) {
    keys = deriveKeys.apply(this, words);
    return keys;
  };
  await assert.rejects(origin.call('posts', { limit: 1 }), { code: 'notOpen' });
  await assert.rejects(origin.call('setUp', { code: 'WRONG-WRONG', passphrase, deviceName: 'laptop' }),
    { code: 'refused', message: /setup code is wrong/ });
  assert.deepEqual(await origin.disk.records(), {});
  for (const name of ['secretKey', 'channelKey', 'atRestKey']) assert.ok(keys[name].every((byte) => byte === 0), name);
  await assert.rejects(origin.call('setUp', { code, passphrase: 'too short', deviceName: 'laptop' }), { code: 'badPassphrase' });
  const settingUp = origin.call('setUp', { code, passphrase, deviceName: 'laptop' });
  await assert.rejects(origin.call('setUp', { code, passphrase, deviceName: 'laptop' }), { code: 'busy' });
  await settingUp;
  const { phase, access, isOrigin, unkept, devices } = origin.state;
  assert.deepEqual([phase, access, isOrigin, unkept], ['open', 'authorised', true, false]);
  assert.deepEqual(devices.map(({ name, isOwn }) => [name, isOwn]), [['laptop', true]]);
  const kept = await origin.disk.records();
  assert.equal(kept.whole, true);
  const post = await origin.call('post', { text: 'one' });
  await until('the node has it', async () => (await daemon.control('posts')).posts[0]?.id === post.id);
  assert.deepEqual(await origin.call('checkPassphrase', { text: `${passphrase} abacuss` }),
    { words: 9, wrong: [{ place: 9, hint: 'abacus' }] });

  origin.open();
  await origin.until('it is there again', ({ phase, access }) => phase === 'open' && access === 'authorised');
  assert.deepEqual(await origin.texts(), ['one']);
});

test('a set-up that the node did not finish leaves nothing behind, also where the page was closed meanwhile', async (t) => {
  const { daemon, origin, passphrase, code } = await setUp(t);
  const silent = (url) => {
    const socket = new BrowserSocket(url);
    const send = socket.send.bind(socket);
    socket.send = (data) => { if (typeof data === 'string') send(data); };
    return socket;
  };
  const before = limits.setUpMilliseconds;
  limits.setUpMilliseconds = 500;
  t.after(() => { limits.setUpMilliseconds = before; });
  origin.open({ makeSocket: silent });
  await origin.until('nothing is there', ({ phase }) => phase === 'uninitialised');
  await assert.rejects(origin.call('setUp', { code, passphrase, deviceName: 'laptop' }), { code: 'offline' });
  assert.deepEqual(await origin.disk.records(), {});

  limits.setUpMilliseconds = before;
  const cut = origin.call('setUp', { code, passphrase, deviceName: 'laptop' });
  cut.catch(() => {});
  await until('it is kept', async () => 'setUp' in await origin.disk.records());
  const copy = await origin.disk.load();
  origin.leader.close();
  await until('the node has given up', async () => (await daemon.control('setup-code')).code === code);
  origin.disk = new Disk(copy);
  origin.open();
  await origin.until('it begins anew', ({ phase }) => phase === 'uninitialised');
  assert.deepEqual(await origin.disk.records(), {});
  await origin.call('setUp', { code, passphrase, deviceName: 'laptop' });
  assert.equal(origin.state.access, 'authorised');
  assert.equal('setUp' in await origin.disk.records(), false);

  // The node took it, and the page did not live to hear of it.
  await origin.disk.commit({ state: { setUp: true } });
  origin.open();
  await origin.until('it is open', ({ access }) => access === 'authorised');
  assert.equal('setUp' in await origin.disk.records(), false);
});

test('a device asks, is let in, is locked and unlocked, revoked and signed out', async (t) => {
  const { daemon, origin, passphrase } = await setUpOrigin(t);
  const phone = new Browser(t, daemon.port);
  phone.open();
  await phone.until('it reads', ({ network, access }) => network === 'live' && access === 'reader');
  await assert.rejects(phone.call('post', { text: 'too early' }), { code: 'readOnly' });
  await assert.rejects(phone.call('signIn', { passphrase: Array(8).fill('abacus').join(' '), deviceName: 'phone' }),
    { code: 'wrongPassphrase' });
  await phone.call('signIn', { passphrase, deviceName: 'phone' });
  assert.equal(phone.state.access, 'waiting');
  await assert.rejects(phone.call('signIn', { passphrase, deviceName: 'phone' }), { code: 'alreadySignedIn' });
  const { words } = phone.state.ownRequest;
  phone.open();
  await phone.until('it still waits', ({ access, ownRequest }) => access === 'waiting' && ownRequest.words === words);
  await origin.until('the request is there', ({ requests }) => requests[0]?.words === words);
  await origin.call('approve', { id: origin.state.requests[0].id });
  assert.deepEqual(origin.state.requests, []);
  await phone.until('it is let in', ({ access }) => access === 'authorised');
  await phone.call('post', { text: 'from the phone' });
  await until('the origin sees it', async () => (await origin.texts())[0] === 'from the phone');

  await phone.call('lock');
  assert.equal(phone.state.access, 'locked');
  assert.equal('here' in await phone.disk.records(), false);
  phone.open();
  await phone.until('it is still locked', ({ access }) => access === 'locked');
  await assert.rejects(phone.call('post', { text: 'locked' }), { code: 'readOnly' });
  await assert.rejects(phone.call('unlock', { passphrase: Array(8).fill('abacus').join(' ') }), { code: 'wrongPassphrase' });
  await phone.call('unlock', { passphrase });
  assert.equal(phone.state.access, 'authorised');
  await phone.call('post', { text: 'unlocked' });
  await until('the origin sees it', async () => (await origin.texts())[0] === 'unlocked');

  const writer = phone.state.ownKey;
  await origin.call('rename', { writer, name: 'old phone' });
  await origin.call('revoke', { writer });
  await phone.until('it is revoked', ({ access, devices }) => access === 'revoked' && devices[1].name === 'old phone');
  await assert.rejects(phone.call('post', { text: 'no longer' }), { code: 'revoked' });
  await phone.call('signIn', { passphrase, deviceName: 'phone again' });
  assert.equal(phone.state.access, 'waiting');
  assert.notEqual(phone.state.ownKey, writer);
  await phone.call('signOut');
  assert.equal(phone.state.access, 'reader');
  assert.deepEqual(Object.keys(await phone.disk.records()), ['node']);
  assert.deepEqual(await phone.texts(), ['unlocked', 'from the phone']);
});

test('what is written offline is kept, and goes out later', async (t) => {
  const { daemon, origin } = await setUpOrigin(t);
  await origin.until('it is live', ({ network }) => network === 'live');
  await daemon.stop();
  await origin.until('it is offline', ({ network }) => network === 'offline');
  await origin.call('post', { text: 'offline' });
  assert.equal(origin.state.unkept, true);
  origin.open();
  await origin.until('it opens without the node', ({ phase, unkept }) => phase === 'open' && unkept);
  assert.deepEqual(await origin.texts(), ['offline']);
  const reader = new Browser(t, daemon.port);
  reader.open();
  await reader.until('it has nothing', ({ phase }) => phase === 'unreachable');
  await assert.rejects(reader.call('setUp', { code: '', passphrase: '', deviceName: '' }), { code: 'offline' });
  await daemon.start();
  await origin.call('retry');
  await origin.until('the node has it', ({ unkept, network }) => !unkept && network === 'live');
  await reader.call('retry');
  await reader.until('it reads', ({ network }) => network === 'live');
  assert.deepEqual(await reader.texts(), ['offline']);
});

test('a writer that lost its feed writes only once that is back, and contradicts nothing', async (t) => {
  const { daemon, origin, passphrase } = await setUpOrigin(t);
  await origin.call('post', { text: 'one' });
  await origin.until('the node has it', ({ unkept }) => !unkept);
  origin.leader.close();
  await origin.disk.commit({ drops: [''] });
  await daemon.stop();
  origin.open();
  await origin.until('it lacks it', ({ phase, access }) => phase === 'open' && access === 'behind');
  await assert.rejects(origin.call('post', { text: 'two' }), { code: 'behind' });
  await daemon.start();
  await origin.call('retry');
  await origin.until('it is back', ({ access }) => access === 'authorised');
  await origin.call('post', { text: 'two' });
  await origin.until('the node has it', ({ unkept }) => !unkept);
  assert.equal((await origin.disk.records()).whole, true);

  const other = new Browser(t, daemon.port);
  other.open();
  await other.until('it reads', ({ network }) => network === 'live');
  await origin.call('signOut');
  await other.call('signIn', { passphrase, deviceName: 'laptop again', asOrigin: true });
  await other.until('it is the origin', ({ access, isOrigin }) => isOrigin && access === 'authorised');
  await other.call('post', { text: 'three' });
  await until('all have it', async () => (await origin.texts())[0] === 'three');
  assert.equal((await daemon.control('posts')).posts[0].text, 'three');
});

test('a device that is locked or behind signs out, and signs in anew', async (t) => {
  const { origin, passphrase } = await setUpOrigin(t);
  await origin.call('post', { text: 'one' });
  await origin.until('the node has it', ({ unkept }) => !unkept);
  await origin.call('lock');
  origin.leader.close();
  const { locked } = await origin.disk.records();
  locked.sealed[0] ^= 1;
  await origin.disk.commit({ state: { locked } });
  origin.open();
  await origin.until('it is locked', ({ access }) => access === 'locked');
  await assert.rejects(origin.call('unlock', { passphrase }), { code: 'wrongPassphrase', message: /altered/ });
  await origin.call('signOut');
  assert.equal(origin.state.access, 'reader');
  await origin.call('signIn', { passphrase, deviceName: 'laptop', asOrigin: true });
  await origin.until('it may write', ({ access }) => access === 'authorised');

  origin.leader.close();
  await origin.disk.commit({ drops: [''] });
  origin.open({ makeSocket: () => { throw new Error('offline'); } });
  await origin.until('it lacks what it wrote', ({ access }) => access === 'behind');
  await origin.call('signOut');
  assert.equal(origin.state.access, 'reader');
  assert.deepEqual(Object.keys(await origin.disk.records()), ['node']);
  origin.open();
  await origin.until('it reads', ({ network }) => network === 'live');
  assert.deepEqual(await origin.texts(), ['one']);
  await origin.call('signIn', { passphrase, deviceName: 'laptop', asOrigin: true });
  await origin.until('it may write', ({ access }) => access === 'authorised');
});

test('a device that lost its request before it was let in asks anew', async (t) => {
  const { daemon, origin, passphrase } = await setUpOrigin(t);
  const phone = new Browser(t, daemon.port);
  phone.open();
  await phone.until('it reads', ({ network }) => network === 'live');
  await phone.call('signIn', { passphrase, deviceName: 'phone' });
  const { id } = phone.state.ownRequest;
  phone.leader.close();
  await phone.disk.commit({ drops: [''] });
  phone.open();
  await phone.until('it waits again', ({ access, ownRequest }) => access === 'waiting' && ownRequest && ownRequest.id !== id);
  await origin.until('the request is there', ({ requests }) => requests.some((one) => one.id === phone.state.ownRequest.id));
  await origin.call('approve', { id: phone.state.ownRequest.id });
  await phone.until('it is let in', ({ access }) => access === 'authorised');
  await phone.call('post', { text: 'from the phone' });
  await phone.until('the node has it', ({ unkept }) => !unkept);
});

test('a device whose feed was signed in two versions says so for good, and signs in with a new one', async (t) => {
  const { daemon, origin, passphrase } = await setUpOrigin(t);
  const phone = new Browser(t, daemon.port);
  phone.open();
  await phone.until('it reads', ({ network }) => network === 'live');
  await phone.call('signIn', { passphrase, deviceName: 'phone' });
  await origin.until('the request is there', ({ requests }) => requests.length === 1);
  await origin.call('approve', { id: origin.state.requests[0].id });
  await phone.until('it is let in', ({ access }) => access === 'authorised');
  await phone.call('post', { text: 'in both' });
  await phone.until('the node has it', ({ unkept }) => !unkept);
  const copy = new Browser(t, daemon.port);
  copy.disk = new Disk(await phone.disk.load());
  for (const text of ['in the original', 'and more']) await phone.call('post', { text });
  await phone.until('the node has it', ({ unkept }) => !unkept);
  phone.leader.close();

  await daemon.stop();
  copy.open();
  await copy.until('it does not know yet', ({ access }) => access === 'authorised');
  await copy.call('post', { text: 'in the copy' });
  await daemon.start();
  await copy.call('retry');
  await copy.until('it knows', ({ access }) => access === 'forked');
  await assert.rejects(copy.call('post', { text: 'no longer' }), { code: 'forked' });
  assert.equal(copy.states.some(({ access }) => access === 'waiting'), false);
  const name = `forks/${copy.state.ownKey}`;
  await until('it is kept', async () => (await copy.disk.load()).files.has(name));
  await daemon.stop();
  copy.open();
  await copy.until('it still knows', ({ access }) => access === 'forked');

  // Also where its feeds are lost, and fetched anew.
  copy.leader.close();
  await copy.disk.commit({ drops: [`${copy.state.key}/`, `${copy.state.ownKey}/`] });
  copy.open();
  await copy.until('it still knows', ({ access }) => access === 'forked');
  await daemon.start();
  await copy.call('retry');
  await copy.until('it has the feeds', ({ network }) => network === 'live');
  assert.equal(copy.state.access, 'forked');
  const writer = copy.state.ownKey;
  await copy.call('signIn', { passphrase, deviceName: 'phone again' });
  assert.equal(copy.state.access, 'waiting');
  await origin.until('the request is there', ({ requests }) => requests.length === 1);
  await origin.call('approve', { id: origin.state.requests[0].id });
  await copy.until('it is let in', ({ access }) => access === 'authorised');
  await copy.call('post', { text: 'with a new feed' });
  await until('the origin sees it', async () => (await origin.texts())[0] === 'with a new feed');
  assert.notEqual(copy.state.ownKey, writer);
});

test('where nothing can be stored any more it goes on in memory, and is behind after a reload', async (t) => {
  const { daemon, origin } = await setUpOrigin(t);
  await origin.call('post', { text: 'kept' });
  origin.disk.check = ({ journal }) => { if (journal?.length > 0) throw new DOMException('full', 'QuotaExceededError'); };
  await origin.call('post', { text: 'in memory' });
  assert.equal(origin.state.storage, 'memory');
  assert.equal('whole' in await origin.disk.records(), false);
  await origin.until('the node has it', ({ unkept }) => !unkept);
  origin.disk.check = () => {};
  origin.open();
  await origin.until('it is back', ({ access, storage }) => access === 'authorised' && storage === 'kept');
  assert.deepEqual(await origin.texts(), ['in memory', 'kept']);

  // Not even that it is behind could be kept: what is written could contradict it.
  await origin.until('it is live', ({ network }) => network === 'live');
  origin.disk.check = () => { throw new DOMException('broken', 'UnknownError'); };
  await assert.rejects(origin.call('post', { text: 'lost' }), { code: 'storage' });
  assert.deepEqual([origin.state.phase, origin.state.error.code], ['failed', 'storage']);
  assert.equal((await daemon.control('posts')).posts[0].text, 'in memory');
  origin.disk.check = () => {};
  origin.open();
  await origin.until('it is back', ({ access }) => access === 'authorised');
  assert.deepEqual(await origin.texts(), ['in memory', 'kept']);
});

test('a tab that goes on in memory writes nothing once another tab leads', async (t) => {
  const { daemon, origin } = await setUpOrigin(t);
  origin.disk.check = ({ journal }) => { if (journal?.length > 0) throw new DOMException('full', 'QuotaExceededError'); };
  await origin.call('post', { text: 'in memory' });
  assert.equal(origin.state.storage, 'memory');
  await origin.until('the node has it', ({ unkept }) => !unkept);
  origin.disk.open();
  await assert.rejects(origin.call('post', { text: 'too late' }), { code: 'interrupted' });
  assert.equal(origin.lost, 1);
  assert.deepEqual((await daemon.control('posts')).posts.map(({ text }) => text), ['in memory']);
});

test('where no storage is to be had it says so, and works', async (t) => {
  const { daemon, passphrase } = await setUpOrigin(t);
  const guest = new Browser(t, daemon.port);
  guest.disk = new IndexedDisk();
  guest.disk.indexedDB.opening = () => { throw new DOMException('refused', 'SecurityError'); };
  guest.open();
  await guest.until('it reads', ({ network }) => network === 'live');
  assert.equal(guest.state.storage, 'memory');
  await guest.call('signIn', { passphrase, deviceName: 'guest' });
  assert.equal(guest.state.access, 'waiting');
});

test('a tab whose place another has taken writes nothing', async (t) => {
  const { origin } = await setUpOrigin(t);
  origin.disk.check = () => { throw new FencedError(); };
  await assert.rejects(origin.call('post', { text: 'too late' }), { code: 'interrupted' });
  assert.equal(origin.lost, 1);
  origin.disk.check = () => {};
  origin.open();
  await origin.until('it opens', ({ access }) => access === 'authorised');
  assert.deepEqual(await origin.texts(), []);
});

test('what is asked of a tab that loses the lead while it starts is answered', async (t) => {
  const browser = new Browser(t, 1);
  const held = holdUp(browser.disk, 'load');
  browser.open();
  await until('it is held up', () => held.isHeld);
  const calls = [browser.call('posts', { limit: 1 }), browser.call('post', { text: 'too late' }), browser.call('lock')];
  browser.leader.close();
  for (const call of calls) await assert.rejects(call, { code: 'interrupted' });
  held.letGo();
});

test('where what is kept cannot be read a person is told, and the connection goes on', async (t) => {
  const { origin } = await setUpOrigin(t);
  await origin.until('it is live', ({ network }) => network === 'live');
  origin.disk.load = async () => breaks();
  await assert.rejects(origin.call('lock'), { code: 'storage' });
  await origin.until('it is live again', ({ network, access }) => network === 'live' && access === 'authorised');
  origin.disk.load = async () => { throw new FencedError(); };
  await assert.rejects(origin.call('lock'), { code: 'interrupted' });
  assert.equal(origin.lost, 1);
});

/** Holds up the first that comes to `object[name]`, until it is let go; what comes later passes. */
function holdUp(object, name) {
  const usual = object[name];
  const held = { isHeld: false };
  const isLetGo = new Promise((resolve) => { held.letGo = resolve; });
  object[name] = async (...args) => {
    object[name] = usual;
    held.isHeld = true;
    await isLetGo;
    return usual(...args);
  };
  return held;
}

/** Another tab takes the lead from one that is held up. What that one still does must change nothing. */
async function takeOver(t, slow, port, held, isOpen) {
  await until('it is held up', () => held.isHeld);
  const next = new Browser(t, port);
  next.disk = slow.disk;
  next.open();
  await next.until('the next one has begun', isOpen);
  slow.leader.close();
  const { epoch } = slow.disk;
  const { sockets } = slow;
  held.letGo();
  await new Promise((resolve) => { setTimeout(resolve, 300); });
  assert.equal(slow.sockets, sockets);
  assert.equal(slow.disk.epoch, epoch);
  assert.equal(next.lost, 0);
  return next;
}

for (const [where, hold] of [
  ['makes its core', () => holdUp(WebAssembly, 'instantiate')],
  ['keeps what it opened', ({ disk }) => holdUp(disk, 'check')],
]) {
  const isAuthorised = ({ access }) => access === 'authorised';
  const isReading = ({ network, access }) => network === 'live' && access === 'reader';

  test(`a tab that loses the lead while it ${where} leaves the writer to the next one`, async (t) => {
    const { daemon, origin } = await setUpOrigin(t);
    origin.leader.close();
    const held = hold(origin);
    origin.open();
    const next = await takeOver(t, origin, daemon.port, held, isAuthorised);
    assert.equal((await next.disk.records()).whole, true);
    await next.call('post', { text: 'by the next one' });
    assert.deepEqual(await next.texts(), ['by the next one']);
  });

  test(`a tab that loses the lead while it ${where}, of a hypha that it found, drops nothing`, async (t) => {
    const { daemon, passphrase } = await setUpOrigin(t);
    const phone = new Browser(t, daemon.port);
    const held = hold(phone);
    phone.open();
    const next = await takeOver(t, phone, daemon.port, held, isReading);
    await next.call('signIn', { passphrase, deviceName: 'phone' });
    assert.equal(next.state.access, 'waiting');
  });

  test(`a tab that loses the lead while it ${where}, of a hypha that it sets up, leaves that to the next one`, async (t) => {
    const { daemon, origin, passphrase, code } = await setUp(t);
    let held;
    origin.open({
      makeSocket: (url) => {
        // From here on the keys are there.
        held = hold(origin);
        return new BrowserSocket(url);
      },
    });
    await origin.until('nothing is there', ({ phase }) => phase === 'uninitialised');
    const settingUp = origin.call('setUp', { code, passphrase, deviceName: 'laptop' });
    settingUp.catch(() => {});
    await until('the node is asked', () => held);
    const next = await takeOver(t, origin, daemon.port, held, ({ phase }) => phase === 'uninitialised');
    await assert.rejects(settingUp, { code: 'interrupted' });
    await until('the node has given up', async () => (await daemon.control('setup-code')).code === code);
    await next.call('setUp', { code, passphrase, deviceName: 'laptop' });
    assert.equal(next.state.access, 'authorised');
  });
}

test('a tab that loses the lead while it asks what became of a set-up leaves that to the next one', async (t) => {
  const { daemon, origin } = await setUpOrigin(t);
  origin.leader.close();
  await origin.disk.commit({ state: { setUp: true } });
  origin.open({ fetch: async () => { throw new TypeError('offline'); } });
  await origin.until('it asks', ({ phase }) => phase === 'unreachable');
  const next = await takeOver(t, origin, daemon.port, { isHeld: true, letGo: () => {} }, ({ access }) => access === 'authorised');
  await next.call('post', { text: 'by the next one' });
  assert.equal((await next.disk.records()).whole, true);
});

/** Has cores that are made from here on trap once, at the first call for which `when` is true. */
function trapCores(t) {
  const trap = { when: () => false };
  const { instantiate } = WebAssembly;
  WebAssembly.instantiate = async (...module) => {
    const { exports } = await instantiate(...module);
    return {
      exports: {
        ...exports,
        call: (...request) => {
          if (!trap.when(...request)) return exports.call(...request);
          trap.when = () => false;
          throw new WebAssembly.RuntimeError('unreachable');
        },
      },
    };
  };
  t.after(() => { WebAssembly.instantiate = instantiate; });
  return trap;
}

const breaks = () => { throw new DOMException('broken', 'UnknownError'); };
const isFull = () => { throw new DOMException('full', 'QuotaExceededError'); };

test('a connection to the storage that the browser has ended is made anew, and all is kept', async (t) => {
  const { daemon, origin, passphrase } = await setUpOrigin(t, new IndexedDisk());
  const { indexedDB } = origin.disk;
  const trap = trapCores(t);
  origin.open();
  await origin.until('it is live', ({ network }) => network === 'live');
  await daemon.stop();
  await origin.until('it is offline', ({ network }) => network === 'offline');
  indexedDB.lose();
  await origin.call('post', { text: 'one' });
  // The first attempts fail, too.
  let attempts = 0;
  indexedDB.opening = () => {
    attempts += 1;
    if (attempts < limits.storageTries) breaks();
  };
  indexedDB.lose();
  await origin.call('post', { text: 'two' });
  assert.equal(attempts, limits.storageTries);
  assert.equal(origin.state.storage, 'kept');
  assert.equal((await origin.disk.records()).whole, true);

  indexedDB.lose();
  trap.when = () => true;
  await assert.rejects(origin.call('post', { text: 'lost' }), { code: 'interrupted' });
  assert.deepEqual(await origin.texts(), ['two', 'one']);
  indexedDB.lose();
  await origin.call('lock');
  indexedDB.lose();
  await origin.call('unlock', { passphrase });
  assert.deepEqual(await origin.texts(), ['two', 'one']);
  origin.open();
  await origin.until('it opens', ({ access, storage }) => access === 'authorised' && storage === 'kept');
  assert.deepEqual(await origin.texts(), ['two', 'one']);
});

test('where the storage is full and the connection to it ended, what is shown stays, and another tab’s lead is seen', async (t) => {
  const { daemon, origin, passphrase } = await setUpOrigin(t, new IndexedDisk());
  const { indexedDB } = origin.disk;
  await origin.call('post', { text: 'kept' });
  indexedDB.lose();
  indexedDB.putting = isFull;
  await origin.call('post', { text: 'in memory' });
  assert.equal(origin.state.storage, 'memory');
  assert.equal('whole' in await origin.disk.records(), false);
  await origin.call('lock');
  assert.equal('here' in await origin.disk.records(), false);
  await origin.call('unlock', { passphrase });
  assert.deepEqual(await origin.texts(), ['in memory', 'kept']);
  await origin.until('the node has it', ({ unkept }) => !unkept);

  indexedDB.putting = () => {};
  indexedDB.lose();
  await origin.disk.open();
  await assert.rejects(origin.call('post', { text: 'too late' }), { code: 'interrupted' });
  assert.equal(origin.lost, 1);
  assert.deepEqual((await daemon.control('posts')).posts.map(({ text }) => text), ['in memory', 'kept']);
});

for (const [where, putting, role] of [
  ['is full', (key) => { if (Array.isArray(key)) isFull(); }, 'reader'],
  ['has room for nothing', isFull, 'origin'],
]) {
  test(`who signs out where the storage ${where} leaves no keys there, and nothing to sign with`, async (t) => {
    const { origin } = await setUpOrigin(t, new IndexedDisk());
    const { indexedDB } = origin.disk;
    await origin.call('post', { text: 'kept' });
    await until('it is kept that the node has it', async () => 'heldElsewhere' in await origin.disk.records());
    indexedDB.putting = putting;
    await origin.call('post', { text: 'in memory' });
    assert.equal(origin.state.storage, 'memory');
    await origin.until('the node has it', ({ unkept }) => !unkept);
    await origin.call('signOut');
    assert.equal(origin.state.access, 'reader');
    const { epoch, node, ...others } = await origin.disk.records();
    assert.equal(node.role, role);
    assert.deepEqual(others, {});

    indexedDB.putting = () => {};
    origin.open();
    await origin.until('it opens', ({ phase }) => phase === 'open');
    await origin.call('signOut');
    await origin.until('it reads', ({ network, access }) => network === 'live' && access === 'reader');
    assert.deepEqual(await origin.texts(), ['in memory', 'kept']);
  });
}

test('a reader whose storage cannot be opened again says so, and does not go on from nothing', async (t) => {
  const { daemon, origin } = await setUpOrigin(t);
  await origin.call('post', { text: 'one' });
  const reader = new Browser(t, daemon.port);
  reader.disk = new IndexedDisk();
  reader.open();
  await reader.until('it reads', ({ network, length }) => network === 'live' && length > 0);
  reader.disk.indexedDB.opening = breaks;
  reader.disk.indexedDB.lose();
  await origin.call('post', { text: 'two' });
  await reader.until('it says so', ({ phase, error }) => phase === 'failed' && error.code === 'storage');
});

test('where what is kept cannot be opened it only reads, and signs nothing in the place of what is kept', async (t) => {
  const { daemon, origin, passphrase } = await setUpOrigin(t, new IndexedDisk());
  const { indexedDB } = origin.disk;
  await origin.until('it is live', ({ network }) => network === 'live');
  await daemon.stop();
  await origin.until('it is offline', ({ network }) => network === 'offline');
  await origin.call('post', { text: 'unsent' });
  await daemon.start();
  const unreadable = { load: async () => breaks(), close: () => {} };
  for (const [hook, fails, environment] of [
    ['opening', breaks], ['putting', isFull], ['opening', () => {}, { openStore: async () => unreadable }],
  ]) {
    origin.leader.close();
    indexedDB[hook] = fails;
    origin.open(environment);
    await origin.until('it reads', ({ network }) => network === 'live');
    assert.deepEqual([origin.state.storage, origin.state.access], ['unopened', 'reader']);
    await assert.rejects(origin.call('signIn', { passphrase, deviceName: 'laptop', asOrigin: true }), { code: 'storage' });
    assert.equal(origin.state.access, 'reader');
    indexedDB[hook] = () => {};
  }
  origin.open();
  await origin.until('it is back', ({ access, storage }) => access === 'authorised' && storage === 'kept');
  await origin.until('the node has it', ({ unkept, network }) => !unkept && network === 'live');
  assert.deepEqual((await daemon.control('posts')).posts.map(({ text }) => text), ['unsent']);
});

test('a tab whose storage is opened anew, or was removed, takes the lead from nobody', async (t) => {
  const { daemon, origin } = await setUpOrigin(t, new IndexedDisk());
  const next = new Browser(t, daemon.port);
  next.disk = origin.disk;
  next.open();
  await next.until('the next one leads', ({ access }) => access === 'authorised');
  origin.disk.indexedDB.lose();
  await assert.rejects(origin.call('post', { text: 'too late' }), { code: 'interrupted' });
  assert.equal(origin.lost, 1);
  await next.call('post', { text: 'by the next one' });
  assert.equal(next.lost, 0);
  assert.deepEqual(await next.texts(), ['by the next one']);

  next.disk.indexedDB.remove();
  await assert.rejects(next.call('post', { text: 'too late' }), { code: 'interrupted' });
  assert.equal(next.lost, 1);
});

test('a core that traps is made anew from what was kept', async (t) => {
  const { origin } = await setUpOrigin(t);
  await origin.call('post', { text: 'kept' });
  const trap = trapCores(t);
  origin.open();
  await origin.until('it opens', ({ network }) => network === 'live');
  trap.when = () => true;
  await assert.rejects(origin.call('post', { text: 'lost' }), { code: 'interrupted' });
  assert.deepEqual(await origin.texts(), ['kept']);
  await origin.call('post', { text: 'after' });
  await origin.until('the node has it', ({ unkept }) => !unkept);

  // What is kept is not said to have failed, though the core does not live to hear of it.
  const committed = 13;
  trap.when = (method) => method === committed;
  await origin.call('post', { text: 'kept all the same' });
  assert.deepEqual(await origin.texts(), ['kept all the same', 'after', 'kept']);
  await origin.until('the node has it', ({ unkept, network }) => network === 'live' && !unkept);
});

test('a core that gives words and checks them is made anew where there was no room for it', async (t) => {
  const { instantiate } = WebAssembly;
  t.after(() => { WebAssembly.instantiate = instantiate; });
  const browser = new Browser(t, 1);
  browser.open({ fetch: async () => { throw new TypeError('offline'); } });
  WebAssembly.instantiate = async () => { throw new RangeError('no memory'); };
  await assert.rejects(browser.call('newPassphrase'), RangeError);
  WebAssembly.instantiate = instantiate;
  const passphrase = await browser.call('newPassphrase');
  assert.deepEqual(await browser.call('checkPassphrase', { text: passphrase }), { words: 8, wrong: [] });
});

test('a host that names another hypha than before is not followed', async (t) => {
  const { origin } = await setUpOrigin(t);
  const { key } = origin.state;
  origin.open({ fetch: async () => new Response(`dat://${'ab'.repeat(32)}\nTTL=3600\n`) });
  await origin.until('it says so', ({ phase, error }) => phase === 'failed' && error.code === 'otherHypha');
  assert.equal((await origin.disk.records()).node.key, key);
});

test('errors of the core keep their codes', async (t) => {
  const { origin } = await setUpOrigin(t);
  for (const [name, args, code] of [
    ['post', { text: ' ' }, 'textEmpty'], ['deletePost', { id: 'none' }, 'badID'], ['approve', { id: 'nobody' }, 'unknownRequest'],
    ['post', {}, 'badRequest'], ['revoke', { writer: 'x' }, 'badRequest'], ['nothing', {}, 'badRequest'],
  ]) await assert.rejects(origin.call(name, args), { code });
  await assert.rejects(origin.call('post', { text: ' ' }), CoreError);
});
