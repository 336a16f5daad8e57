// The parts of the page's worker: what is kept and how, secrets, the connection, and tabs that share one hypha.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { journalRecords } from '../../Web/core.mjs';
import { Connection, retryDelay } from '../../Web/worker/connection.mjs';
import { FencedError } from '../../Web/worker/errors.mjs';
import { limits } from '../../Web/worker/limits.mjs';
import { lookUp, signUp } from '../../Web/worker/lookup.mjs';
import { sealHere, sealLocked, unsealHere, unsealLocked } from '../../Web/worker/secrets.mjs';
import { MemoryStore, openStore } from '../../Web/worker/storage.mjs';
import { Tabs } from '../../Web/worker/tabs.mjs';
import { TestIndexedDB } from './indexeddb.mjs';
import { Kept, request } from './support.mjs';
import { until } from './daemon.mjs';

// Random numbers that are the same each time.
function seeded(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
}

function journal(records) {
  const writer = request();
  for (const { name, offset, size, bytes = new Uint8Array() } of records) {
    writer.byte(size === undefined ? 0 : 1).text(name).number(size ?? offset).data(bytes);
  }
  const all = new Uint8Array(writer.size);
  writer.copyTo(all);
  return all;
}

test('pages hold what was written to files, whatever is written where', async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const random = seeded(seed);
    const model = new Kept();
    let store = new MemoryStore();
    for (let commit = 0; commit < 30; commit += 1) {
      const records = Array.from({ length: 1 + random(6) }, () => {
        const name = `${random(2)}/data`;
        const place = random(5 * limits.pageBytes);
        if (random(4) === 0) return { name, size: random(3) === 0 ? Math.floor(place / limits.pageBytes) * limits.pageBytes : place };
        return { name, offset: place, bytes: new Uint8Array(random(2 * limits.pageBytes)).fill(1 + random(255)) };
      });
      const bytes = journal(records);
      assert.equal([...journalRecords(bytes)].length, records.length);
      model.apply(bytes);
      await store.commit({ journal: bytes });
      const { files } = await store.load();
      assert.deepEqual([...files].filter(([, contents]) => contents.length > 0).sort(([a], [b]) => a.localeCompare(b)),
        [...model.files].filter(([, contents]) => contents.length > 0).sort(([a], [b]) => a.localeCompare(b)));
      if (random(10) === 0) store = new MemoryStore(await store.load());
    }
  }
});

test('files are dropped by how their names begin, before what is written in the same commit', async () => {
  const store = new MemoryStore();
  const bytes = Uint8Array.of(1, 2, 3);
  await store.commit({
    journal: journal([{ name: 'a/data', offset: 0, bytes }, { name: 'b/data', offset: 0, bytes }]), state: { node: 1, here: 2 },
  });
  await store.commit({ drops: ['a/'], journal: journal([{ name: 'a/key', offset: 1, bytes }]), forgets: ['here'] });
  const { files, state } = await store.load();
  assert.deepEqual(Object.fromEntries(files), { 'b/data': bytes, 'a/key': Uint8Array.of(0, 1, 2, 3) });
  assert.deepEqual(Object.fromEntries(state), { node: 1 });
});

test('storage that does not open is tried again, and is not taken for one that is refused', async () => {
  const fails = (name) => { throw new DOMException(name, name); };
  const allowed = { query: async () => {} };
  const open = (indexedDB, locks = allowed) => openStore('example.org', { indexedDB, navigator: { locks } });
  const factory = new TestIndexedDB();
  let attempts = 0;
  factory.opening = () => {
    attempts += 1;
    if (attempts < limits.storageTries) fails('UnknownError');
  };
  assert.equal((await open(factory)).isMemory, false);
  factory.opening = () => fails('UnknownError');
  await assert.rejects(open(factory), { name: 'UnknownError' });
  assert.equal((await open(factory, { query: async () => fails('SecurityError') })).isMemory, true);
  factory.opening = () => fails('SecurityError');
  assert.equal((await open(factory)).isMemory, true);
  assert.equal((await open(undefined)).isMemory, true);
});

test('secrets open only with their own key, for their own hypha, unaltered', async () => {
  const secrets = { secretKey: new Uint8Array(64).fill(1), channelKey: new Uint8Array(32).fill(2) };
  const atRestKey = new Uint8Array(32).fill(3);
  const here = await sealHere(secrets, 'hypha');
  assert.equal(here.key.extractable, false);
  assert.deepEqual(await unsealHere(here, 'hypha'), secrets);
  await assert.rejects(unsealHere(here, 'other'));
  const locked = await sealLocked(secrets, atRestKey, 'hypha');
  assert.deepEqual(await unsealLocked(locked, atRestKey, 'hypha'), secrets);
  await assert.rejects(unsealLocked(locked, new Uint8Array(32), 'hypha'));
  await assert.rejects(unsealHere({ ...locked, key: here.key }, 'hypha'));
  locked.sealed[5] ^= 1;
  await assert.rejects(unsealLocked(locked, atRestKey, 'hypha'));
  assert.ok(!Buffer.from(here.sealed).includes(Buffer.from(secrets.channelKey)));
});

test('attempts to connect come ever later, up to half a minute, and not all at once', () => {
  assert.equal(retryDelay(1, 1), limits.firstRetryMilliseconds);
  assert.equal(retryDelay(1, 0), limits.firstRetryMilliseconds / 2);
  assert.equal(retryDelay(4, 1), 8 * limits.firstRetryMilliseconds);
  assert.equal(retryDelay(40, 1), limits.lastRetryMilliseconds);
});

test('a connection that ends is opened again at once when asked, and only the last one is heard', () => {
  const sockets = [];
  const heard = [];
  const connection = new Connection('wss://example.org/hypha', (url) => {
    const socket = { url, close() {}, send() {}, bufferedAmount: 0 };
    sockets.push(socket);
    return socket;
  }, {
    opened: (id) => heard.push(`opened ${id}`), closed: (id) => heard.push(`closed ${id}`),
    received: (bytes) => heard.push(`received ${bytes.length}`),
  });
  connection.start();
  connection.wake();
  assert.equal(sockets.length, 1);
  sockets[0].onopen();
  sockets[0].onmessage({ data: new ArrayBuffer(3) });
  sockets[0].onclose({});
  connection.wake();
  sockets[0].onmessage({ data: new ArrayBuffer(4) });
  sockets[1].onopen();
  connection.close();
  sockets[1].onclose({});
  connection.stop();
  connection.wake();
  assert.deepEqual(heard, ['opened 1', 'received 3', 'closed 1', 'opened 2', 'closed 2']);
  assert.equal(sockets.length, 2);
});

test('of the answer that names the hypha only the beginning is read', async () => {
  const key = 'ab'.repeat(32);
  const encoder = new TextEncoder();
  let isCancelled = false;
  const endless = (first) => async () => new Response(new ReadableStream({
    start(controller) { controller.enqueue(encoder.encode(first)); },
    pull(controller) { controller.enqueue(new Uint8Array(1000).fill(32)); },
    cancel() { isCancelled = true; },
  }));
  assert.equal(await lookUp('https://example.org', endless(`dat://${key}\nTTL=3600\n`)), key);
  assert.equal(isCancelled, true);
  await assert.rejects(lookUp('https://example.org', endless('nothing')), { code: 'offline' });
  // In pieces, cut anywhere.
  const pieces = async () => new Response(new ReadableStream({
    start(controller) {
      for (const byte of encoder.encode(`dat://${key}/\n`)) controller.enqueue(Uint8Array.of(byte));
      controller.close();
    },
  }));
  assert.equal(await lookUp('https://example.org', pieces), key);
  assert.equal(await lookUp('https://example.org', async () => new Response(null, { status: 404 })), undefined);
});

test('a node that is offered a hypha and sends without end is given up', async () => {
  let isClosed = false;
  const socket = { close() { isClosed = true; }, send() {} };
  const signing = signUp('wss://example.org/sign-up/key', 'code', () => socket);
  const refused = assert.rejects(signing, { code: 'offline' });
  for (let bytes = 0; bytes <= limits.receivedBytes; bytes += 1 << 20) socket.onmessage({ data: new ArrayBuffer(1 << 20) });
  await refused;
  assert.equal(isClosed, true);

  const taken = signUp('wss://example.org/sign-up/key', 'code', () => socket);
  socket.onmessage({ data: new ArrayBuffer(3) });
  socket.onmessage({ data: '{"accepted":true}' });
  assert.deepEqual((await taken).received, [new Uint8Array(3)]);
});

/** As much of `navigator.locks` as tabs use, for one name. */
class Locks {
  #holder;
  #waiting = [];

  request(name, options, callback) {
    return new Promise((resolve, reject) => {
      const wanted = { callback, resolve, reject };
      options.signal?.addEventListener('abort', () => {
        if (!this.#waiting.includes(wanted)) return;
        this.#waiting = this.#waiting.filter((other) => other !== wanted);
        reject(new DOMException('given up', 'AbortError'));
      });
      if (options.steal) {
        this.#waiting.unshift(wanted);
        this.#holder?.reject(new DOMException('stolen', 'AbortError'));
        this.#holder = undefined;
      } else {
        this.#waiting.push(wanted);
      }
      this.#grant();
    });
  }

  #grant() {
    if (this.#holder || this.#waiting.length === 0) return;
    const holder = this.#waiting.shift();
    this.#holder = holder;
    Promise.resolve().then(() => holder.callback()).then((value) => {
      if (this.#holder !== holder) return;
      this.#holder = undefined;
      holder.resolve(value);
      this.#grant();
    });
  }

  /** The tab that holds it is closed. */
  drop() {
    this.#holder = undefined;
    this.#grant();
  }
}

/** Channels between tabs of one browser; one that is closed neither says nor hears anything. */
class Channels {
  #channels = [];

  open() {
    const channel = {
      isClosed: false,
      close: () => { channel.isClosed = true; },
      postMessage: (message) => {
        const copy = structuredClone(message);
        setTimeout(() => {
          for (const other of this.#channels) {
            if (other !== channel && !other.isClosed && !channel.isClosed) other.onmessage({ data: copy });
          }
        });
      },
    };
    this.#channels.push(channel);
    return channel;
  }
}

/** A leader that answers each call with its own name, those that `wait` for it or for any when told or closed. */
class TestLeader {
  isClosed = false;
  waiting = [];
  refusing = [];

  constructor(name, on, state) {
    this.name = name;
    this.on = on;
    this.state = state;
  }

  run() { this.tell(); }
  tell() { this.on.state({ phase: 'open', revision: this.name, ...this.state }); }
  wake() {}
  close() {
    this.isClosed = true;
    for (const reject of this.refusing) reject(new FencedError());
  }

  call(name, args) {
    if ([true, this.name].includes(args?.wait)) {
      return new Promise((resolve, reject) => {
        this.waiting.push(() => resolve(`${this.name} waited`));
        this.refusing.push(reject);
      });
    }
    if (name === 'fail') return Promise.reject(new FencedError());
    return Promise.resolve(`${this.name} ${name}`);
  }
}

function openTabs(t) {
  const locks = new Locks();
  const channels = new Channels();
  const timers = [];
  t.after(() => timers.forEach(clearInterval));
  limits.pingMilliseconds = 50;
  return {
    locks,
    open: (name, state) => {
      const tab = { channel: channels.open(), leaders: [], states: [] };
      tab.tabs = new Tabs({
        locks, channel: tab.channel,
        makeLeader: (on) => {
          const leader = new TestLeader(name, on, state);
          tab.leaders.push(leader);
          return leader;
        },
        show: (state) => tab.states.push(state),
        every: (work, milliseconds) => timers.push(setInterval(work, milliseconds)),
      });
      tab.tabs.start();
      return tab;
    },
  };
}

test('the second tab shows the first one’s state and asks it; closed, the second takes its place', async (t) => {
  const browser = openTabs(t);
  const one = browser.open('one');
  await until('the first leads', () => one.tabs.isLeader);
  const two = browser.open('two');
  two.tabs.setVisible(false);
  await until('the second shows it', () => two.states.length > 0);
  assert.deepEqual(two.states.at(-1), { phase: 'open', revision: 'one', isLeader: false });
  assert.equal(await two.tabs.call('post'), 'one post');
  await assert.rejects(two.tabs.call('fail'), { code: 'interrupted' });

  const reading = two.tabs.call('posts', { wait: true });
  const writing = two.tabs.call('post', { wait: true });
  await until('the calls are there', () => one.leaders[0].waiting.length === 2);
  one.channel.isClosed = true;
  browser.locks.drop();
  await assert.rejects(writing, { code: 'interrupted' });
  await until('the second leads', () => two.tabs.isLeader);
  // What only reads is asked again.
  await until('it is asked again', () => two.leaders[0].waiting.length === 1);
  two.leaders[0].waiting[0]();
  assert.equal(await reading, 'two waited');
  assert.equal(two.states.at(-1).isLeader, true);
});

test('a visible tab takes over from one that does not answer, unless that said it is busy', async (t) => {
  const browser = openTabs(t);
  const one = browser.open('one');
  await until('the first leads', () => one.tabs.isLeader);
  const two = browser.open('two');
  await until('the second shows it', () => two.states.length > 0);
  one.leaders[0].on.busy(600);
  await new Promise((resolve) => { setTimeout(resolve, 20); });
  const hear = one.channel.onmessage;
  one.channel.onmessage = () => {};
  await new Promise((resolve) => { setTimeout(resolve, 400); });
  assert.equal(two.tabs.isLeader, false);
  await until('the second leads', () => two.tabs.isLeader);
  await until('the first has stepped down', () => one.leaders[0].isClosed);
  assert.equal(one.tabs.isLeader, false);
  one.channel.onmessage = hear;
  assert.equal(await one.tabs.call('post'), 'two post');
});

test('where a browser gives no locks, each tab leads itself', async (t) => {
  const browser = openTabs(t);
  browser.locks.request = async () => { throw new DOMException('refused', 'SecurityError'); };
  const [one, two] = [browser.open('one'), browser.open('two')];
  await until('both lead', () => one.tabs.isLeader && two.tabs.isLeader);
  assert.equal(await two.tabs.call('posts'), 'two posts');
});

test('a leader whose storage another tab has taken steps down, and leads again with what is kept', async (t) => {
  const browser = openTabs(t);
  const one = browser.open('one');
  await until('it leads', () => one.tabs.isLeader);
  one.leaders[0].on.lost();
  await until('it leads again', () => one.leaders.length === 2 && one.tabs.isLeader);
  assert.equal(one.leaders[0].isClosed, true);
});

test('what a tab asked of its own leader is asked of the next one, unless it writes', { timeout: 20_000 }, async (t) => {
  const browser = openTabs(t);
  const one = browser.open('one');
  await until('the first leads', () => one.tabs.isLeader);
  const two = browser.open('two');
  await until('the second shows it', () => two.states.length > 0);
  const [reading, writing] = [one.tabs.call('posts', { wait: 'one' }), one.tabs.call('post', { wait: 'one' })];
  const refused = assert.rejects(writing, { code: 'interrupted' });
  one.leaders[0].on.lost();
  await refused;
  assert.equal(await reading, 'two posts');
});

test('a leader that starts after one that failed is not taken for that one', async (t) => {
  const browser = openTabs(t);
  const one = browser.open('one');
  await until('the first leads', () => one.tabs.isLeader);
  const two = browser.open('two', { phase: 'starting' });
  await until('the second shows it', () => two.states.length > 0);
  one.leaders[0].on.state({ phase: 'failed' });
  await until('the second shows that it failed', () => two.states.at(-1).phase === 'failed');
  one.channel.isClosed = true;
  browser.locks.drop();
  await until('the second leads', () => two.tabs.isLeader);
  const three = browser.open('three');
  await until('the third hears of it', () => three.states.at(-1)?.phase === 'starting');
  assert.equal(two.tabs.isLeader, true);
  assert.equal(two.leaders[0].isClosed, false);
});

for (const state of [{ phase: 'failed' }, { storage: 'unopened' }]) {
  test(`a leader with ${JSON.stringify(state)} lets a tab lead that is loaded again, and shows what that one has`, async (t) => {
    const browser = openTabs(t);
    const one = browser.open('one');
    await until('it leads', () => one.tabs.isLeader);
    one.leaders[0].state = state;
    one.leaders[0].tell();
    const two = browser.open('two');
    await until('the second leads', () => two.tabs.isLeader);
    await until('the first shows it', () => one.states.at(-1).revision === 'two');
    assert.equal(one.leaders[0].isClosed, true);
    assert.equal(one.tabs.isLeader, false);
    assert.deepEqual(one.states.at(-1), { phase: 'open', revision: 'two', isLeader: false });
    assert.equal(await one.tabs.call('post'), 'two post');
    assert.deepEqual([one.leaders.length, two.leaders.length], [1, 1]);

    // In its turn.
    two.channel.isClosed = true;
    browser.locks.drop();
    await until('the first leads again', () => one.tabs.isLeader);
  });
}

test('what is asked while nobody leads is asked of the next one that does', { timeout: 20_000 }, async (t) => {
  const browser = openTabs(t);
  const one = browser.open('one');
  await until('the first leads', () => one.tabs.isLeader);
  const two = browser.open('two');
  await until('the second shows it', () => two.states.length > 0);
  // The first loses the lead to one that is still beginning, and knows no other.
  let letGo;
  browser.locks.request('hypha', { steal: true }, () => new Promise((resolve) => { letGo = resolve; })).catch(() => {});
  await until('the first has stepped down', () => one.leaders[0].isClosed);
  const [reading, writing] = [one.tabs.call('posts'), one.tabs.call('post')];
  const refused = assert.rejects(writing, { code: 'interrupted' });
  await new Promise((resolve) => { setTimeout(resolve, 20); });
  letGo();
  await until('the second leads', () => two.tabs.isLeader);
  assert.equal(await reading, 'two posts');
  await refused;
});
