// A page's node in memory: what it keeps, what it sends, and how devices are let in.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Kept, exchange, newCore, newTestCore, request, toHex } from './support.mjs';

const channelKey = new Uint8Array(32).fill(7);

async function origin() {
  const core = await newCore();
  const writer = core.newWriter();
  core.open(writer.publicKey, { secretKey: writer.secretKey, channelKey, state: 'new' });
  const kept = new Kept();
  kept.commit(core);
  return { core, kept, writer, key: writer.publicKey };
}

async function device(key, options = {}) {
  const core = await newCore();
  const writer = core.newWriter();
  core.open(key, { secretKey: writer.secretKey, channelKey, state: 'new', ...options });
  const kept = new Kept();
  kept.commit(core);
  return { core, kept, writer };
}

function connect(a, b, id = 1) {
  a.core.connect(id);
  b.core.connect(id);
  exchange(a, b, id);
}

const texts = (core) => core.posts(100).posts.map(({ text }) => text);

test('posts are read, taken back, and there again after a reload', async () => {
  const { core, kept, writer, key } = await origin();
  const first = core.post('one', 'laptop', 1000);
  core.post('two \u{1f33f} <b>', 'laptop', 2000);
  core.post('three', 'laptop', 3000);
  assert.deepEqual(texts(core), ['three', 'two \u{1f33f} <b>', 'one']);
  core.deletePost(first.id);
  assert.throws(() => core.deletePost(first.id), { code: 'unknownPost' });
  assert.throws(() => core.post(' ', 'laptop'), { code: 'textEmpty' });
  const page = core.posts(1);
  assert.equal(page.more, true);
  assert.deepEqual(core.posts(1, page.posts[0].id).posts.map(({ text }) => text), ['two \u{1f33f} <b>']);
  assert.equal(core.status().needsCommit, true);
  kept.commit(core);
  assert.equal(core.status().needsCommit, false);

  const again = await newCore();
  kept.loadInto(again);
  again.open(key, { secretKey: writer.secretKey, channelKey });
  assert.deepEqual(again.posts(100), core.posts(100));
  again.post('four', 'laptop');
  kept.commit(again);
  assert.deepEqual(texts(again), ['four', 'three', 'two \u{1f33f} <b>']);
});

test('what was not committed is gone after a reload, and no peer has seen it', async () => {
  const a = await origin();
  const reader = await device(a.key, { secretKey: undefined });
  a.core.post('kept', 'laptop');
  a.kept.commit(a.core);
  connect(a, reader);
  a.core.post('lost', 'laptop');
  const journal = a.core.commit();
  assert.throws(() => a.core.commit(), { code: 'busy' });
  for (const id of [1, 2]) {
    if (id === 2) { a.core.connect(2); reader.core.connect(2); }
    for (let bytes; (bytes = a.core.output(id)).length > 0;) reader.core.receive(id, bytes);
    for (let bytes; (bytes = reader.core.output(id)).length > 0;) a.core.receive(id, bytes);
    for (let bytes; (bytes = a.core.output(id)).length > 0;) reader.core.receive(id, bytes);
  }
  assert.deepEqual(texts(reader.core), ['kept']);
  a.kept.apply(journal);
  a.core.committed();
  exchange(a, reader, 1);
  assert.deepEqual(texts(reader.core), ['lost', 'kept']);
});

test('each commit is a state that opens', async () => {
  const { core, kept, writer, key } = await origin();
  const states = [];
  for (let number = 0; number < 20; number += 1) {
    core.post(`post ${number}`, 'laptop');
    kept.commit(core);
    states.push(new Map(kept.files));
  }
  for (const [number, files] of states.entries()) {
    const again = await newCore();
    for (const [name, bytes] of files) again.load(name, bytes);
    again.open(key, { secretKey: writer.secretKey });
    assert.equal(again.posts(100).posts.length, number + 1);
  }
});

test('a writer whose storage is gone does not write again, and a new one takes no storage for its own', async () => {
  const { core, kept, writer, key } = await origin();
  core.post('one', 'laptop');
  kept.commit(core);
  const empty = await newCore();
  assert.throws(() => empty.open(key, { secretKey: writer.secretKey }), { code: 'storageLost' });
  const again = await newCore();
  kept.loadInto(again);
  assert.throws(() => again.open(key, { secretKey: writer.secretKey, state: 'new' }), { code: 'alreadyWritten' });
});

test('a writer that is opened with an older copy fetches what it published since, and goes on behind that', async () => {
  const a = await origin();
  const older = new Kept();
  older.files = new Map(a.kept.files);
  a.core.post('one', 'laptop');
  a.core.post('two', 'laptop');
  a.kept.commit(a.core);
  const relay = await device(a.key, { secretKey: undefined });
  connect(a, relay);

  for (const state of ['kept', 'behind']) {
    const again = { core: await newCore(), kept: new Kept() };
    again.kept.files = new Map(state === 'kept' ? older.files : []);
    again.kept.loadInto(again.core);
    again.core.open(a.key, { secretKey: a.writer.secretKey, channelKey, state });
    assert.equal(again.core.status().isBehind, state === 'behind');
    if (state === 'behind') assert.throws(() => again.core.post('too early', 'laptop'), { code: 'behind' });
    connect(again, relay, state === 'kept' ? 2 : 3);
    assert.equal(again.core.status().isBehind, false);
    again.core.post(`after ${state}`, 'laptop');
    exchange(again, relay, state === 'kept' ? 2 : 3);
    assert.equal(texts(relay.core)[0], `after ${state}`);
    assert.deepEqual(texts(again.core), texts(relay.core));
  }
  assert.deepEqual(texts(relay.core), ['after behind', 'after kept', 'two', 'one']);
});

test('blocks of another device that nobody has keep no writer behind, and no page from being current', async () => {
  const a = await origin();
  const relay = await device(a.key, { secretKey: undefined, channelKey: undefined });
  const b = await device(a.key);
  const { words } = b.core.request('phone');
  b.kept.commit(b.core);
  connect(b, relay, 2);
  connect(a, relay, 1);
  a.core.approve(words, 'laptop');
  for (const [side, id] of [[a, 1], [b, 2]]) exchange(side, relay, id);
  b.core.post('from the phone', 'phone');
  exchange(b, relay, 2);
  assert.deepEqual(texts(relay.core), ['from the phone']);

  // Of what the phone posts on its way, one block arrives.
  for (const side of [b, relay]) side.core.disconnect(2);
  for (const text of ['one', 'two', 'three']) b.core.post(text, 'phone');
  b.kept.commit(b.core);
  for (const side of [b, relay]) side.core.connect(3);
  const before = relay.core.status().heldBlocks;
  const isHere = () => relay.core.status().heldBlocks > before;
  for (let round = 0; round < 20 && !isHere(); round += 1) {
    for (let bytes; (bytes = relay.core.output(3)).length > 0;) b.core.receive(3, bytes);
    for (let bytes; !isHere() && (bytes = b.core.output(3)).length > 0;) {
      for (let place = 0; place < bytes.length && !isHere(); place += 1) {
        relay.core.receive(3, bytes.subarray(place, place + 1));
      }
    }
  }
  relay.core.disconnect(3);
  relay.kept.commit(relay.core);
  assert.equal(relay.core.status().heldBlocks, before + 1);
  assert.ok(relay.core.status().knownBlocks > before + 1);

  const again = { core: await newCore(), kept: new Kept() };
  again.core.open(a.key, { secretKey: a.writer.secretKey, channelKey, state: 'behind' });
  connect(again, relay, 4);
  const { isBehind, isCurrent, heldBlocks } = again.core.status();
  assert.deepEqual([isBehind, isCurrent, heldBlocks], [false, true, before + 1]);
  again.core.post('after', 'laptop');
  exchange(again, relay, 4);
  assert.ok(texts(relay.core).includes('after'));
});

test('a device asks, the words are the same on both, is let in, posts, and is revoked', async () => {
  const a = await origin();
  const b = await device(a.key);
  assert.throws(() => b.core.post('too early', 'phone'), { code: 'readOnly' });
  const own = b.core.request('phone');
  b.kept.commit(b.core);
  connect(a, b);
  assert.deepEqual(a.core.events().filter((event) => event === 'requested'), ['requested']);
  const [received] = a.core.requests();
  assert.equal(received.words, own.words);
  assert.equal(own.words.split(' ').length, 4);
  assert.deepEqual(received.writer, b.writer.publicKey);
  a.core.approve(own.words, 'laptop');
  exchange(a, b, 1);
  assert.equal(b.core.ownRequest().state, 'authorised');
  assert.ok(b.core.events().includes('ownAnswered'));
  b.core.post('from the phone', 'phone');
  exchange(a, b, 1);
  assert.deepEqual(texts(a.core), ['from the phone']);
  a.core.rename(b.writer.publicKey, 'old phone');
  exchange(a, b, 1);
  assert.deepEqual(b.core.devices().map(({ name, isOrigin }) => [name, isOrigin]), [['', true], ['old phone', false]]);
  a.core.revoke(b.writer.publicKey);
  exchange(a, b, 1);
  assert.throws(() => b.core.post('no longer', 'phone'), { code: 'revoked' });
  assert.ok(a.core.devices()[1].revoked > 0);

  // The request that was answered is not asked again after a reload.
  const again = await newCore();
  b.kept.loadInto(again);
  again.open(a.key, { secretKey: b.writer.secretKey, channelKey });
  assert.deepEqual(texts(again), ['from the phone']);
});

test('a denied device learns of it; a reader without the channel key passes requests on unopened', async () => {
  const a = await origin();
  const relay = await device(a.key, { secretKey: undefined, channelKey: undefined });
  const b = await device(a.key);
  const own = b.core.request('phone');
  b.kept.commit(b.core);
  connect(b, relay, 1);
  connect(relay, a, 2);
  assert.deepEqual(relay.core.requests(), []);
  a.core.deny(own.id, 'laptop');
  exchange(a, relay, 2);
  exchange(relay, b, 1);
  assert.equal(b.core.ownRequest().state, 'denied');
});

test('a request that was made during a commit goes out only with the next one', async () => {
  const a = await origin();
  const b = await device(a.key);
  connect(a, b);
  const relay = () => {
    for (let bytes; (bytes = b.core.output(1)).length > 0;) a.core.receive(1, bytes);
    return a.core.requests().length;
  };
  b.core.tick();
  const first = b.core.commit();
  b.core.request('phone');
  assert.equal(relay(), 0);
  b.kept.apply(first);
  b.core.committed();
  assert.equal(relay(), 0);
  b.kept.commit(b.core);
  assert.equal(relay(), 1);
});

test('a writer that is shown another version of its feed writes no more, also after a reload, and was let in all the same', async () => {
  const a = await origin();
  const relay = await device(a.key, { secretKey: undefined, channelKey: undefined });
  const b = await device(a.key);
  b.core.request('phone');
  b.kept.commit(b.core);
  connect(a, b, 1);
  a.core.approve('phone', 'laptop');
  exchange(a, b, 1);
  b.core.post('in both', 'phone');
  exchange(a, b, 1);
  const copy = { core: await newCore(), kept: new Kept(), writer: b.writer };
  copy.kept.files = new Map(b.kept.files);
  copy.kept.loadInto(copy.core);
  copy.core.open(a.key, { secretKey: b.writer.secretKey, channelKey });
  copy.core.post('in the copy', 'phone');
  copy.kept.commit(copy.core);
  for (const text of ['in the original', 'and more']) b.core.post(text, 'phone');
  exchange(a, b, 1);
  connect(a, relay, 2);
  // What comes does not verify; when the node comes again, it is asked for proof.
  assert.throws(() => connect(copy, relay, 3), { code: 'peer' });
  for (const side of [copy, relay]) side.core.disconnect(3);
  assert.equal(copy.core.status().isForked, false);
  copy.core.tick();
  copy.core.events();
  connect(copy, relay, 4);
  assert.equal(copy.core.status().isForked, true);
  assert.throws(() => copy.core.post('no longer', 'phone'), { code: 'forked' });
  assert.deepEqual(texts(copy.core), ['in both']);
  copy.core.tick();
  assert.equal(copy.core.ownRequest().state, 'authorised');
  assert.deepEqual(copy.core.events().filter((event) => event === 'ownAnswered'), []);

  const secrets = { secretKey: copy.writer.secretKey, channelKey };
  const again = await newCore();
  copy.kept.loadInto(again);
  again.open(a.key, secrets);
  assert.equal(again.status().isForked, true);
  assert.throws(() => again.post('no longer', 'phone'), { code: 'forked' });
  assert.deepEqual(texts(again), ['in both']);
  // Others’ nodes that know of it read no further either.
  const reader = await newCore();
  copy.kept.loadInto(reader);
  reader.open(a.key);
  assert.deepEqual(texts(reader), ['in both']);

  const name = `forks/${toHex(copy.writer.publicKey)}`;
  const evidence = copy.kept.files.get(name);
  for (const damaged of [evidence.slice(0, -1), evidence.map((byte, place) => place === 100 ? byte ^ 1 : byte), new Uint8Array()]) {
    copy.kept.files.set(name, damaged);
    const refused = await newCore();
    copy.kept.loadInto(refused);
    assert.throws(() => refused.open(a.key, secrets), { code: 'damaged' });
  }
});

test('a device that was let in and signs a vast feed is left out, and all else goes on', async () => {
  const far = 2 ** 40;
  for (const [blocks, bytes] of [[2 ** 28, far], [2 ** 28, 100], [2 ** 24, 100], [2 ** 21, 100], [64, far], [64, 2 ** 29]]) {
    const a = await origin();
    const [b, c] = [await device(a.key), await device(a.key)];
    for (const [number, side] of [b, c].entries()) {
      side.core.request(`phone ${number}`);
      side.kept.commit(side.core);
      connect(a, side, number + 1);
      a.core.approve(`phone ${number}`, 'laptop');
      exchange(a, side, number + 1);
    }
    c.core.post('from the other', 'phone');
    exchange(a, c, 2);
    a.core.events();
    const call = await newTestCore();
    for (const id of [3, 4]) {
      a.core.connect(id);
      const make = request().data(b.writer.secretKey).number(blocks).number(bytes).data(a.key).data(new Uint8Array());
      let answer = call(24, make);
      let wasAsked = false;
      for (let isSilent = false; !isSilent;) {
        const sent = answer.data();
        wasAsked ||= answer.flag();
        if (sent.length > 0) a.core.receive(id, sent);
        if (a.core.status().needsCommit) a.kept.commit(a.core);
        const asked = a.core.output(id);
        isSilent = asked.length === 0;
        answer = call(25, request().data(asked));
      }
      assert.equal(wasAsked, true);
      assert.deepEqual(a.core.events().filter((event) => event === 'leftOut'), id === 3 ? ['leftOut'] : []);
      assert.equal(a.core.status().isCurrent, true);
      a.core.post(`with ${blocks} blocks and ${bytes} bytes, ${id}`, 'laptop');
      exchange(a, c, 2);
      a.core.disconnect(id);
    }
    a.core.revoke(b.writer.publicKey);
    exchange(a, c, 2);
    assert.equal(texts(c.core).length, 3);
    assert.deepEqual(texts(c.core), texts(a.core));
    const size = [...a.kept.files.values()].reduce((sum, kept) => sum + kept.length, 0);
    assert.ok(size < 2 ** 20, `${size} bytes`);
    const again = await newCore();
    a.kept.loadInto(again);
    again.open(a.key, { secretKey: a.writer.secretKey, channelKey });
    assert.deepEqual(texts(again), texts(a.core));
  }
});

test('what a peer sends that is no replication ends the connection and nothing else', async () => {
  const { core } = await origin();
  core.connect(1);
  assert.throws(() => core.receive(1, new Uint8Array(100).fill(0xff)), { code: 'peer' });
  core.disconnect(1);
  core.post('still here', 'laptop');
  assert.deepEqual(texts(core), ['still here']);
});

test('requests that are cut short or name no method are refused', async () => {
  const core = await newCore();
  assert.throws(() => core.call(999), { code: 'badRequest' });
  assert.throws(() => core.post('nothing is open', 'laptop'), { code: 'badRequest' });
  const { core: open } = await origin();
  for (let method = 1; method < 60; method += 1) {
    if (method === 1 || method === 3) continue;
    try { open.call(method); } catch (error) { assert.equal(error.name, 'CoreError', `${method}: ${error.stack}`); }
  }
});

test('passphrases are random and writers’ keys their own', async () => {
  const core = await newCore();
  assert.equal(core.newPassphrase().split(' ').length, 8);
  assert.notEqual(core.newPassphrase(), core.newPassphrase());
  const [one, two] = [core.newWriter(), core.newWriter()];
  assert.notEqual(toHex(one.secretKey), toHex(two.secretKey));
  assert.equal(toHex(one.secretKey.subarray(32)), toHex(one.publicKey));
});
