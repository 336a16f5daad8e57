// The reference's recorded vectors, against the core as it was compiled to WebAssembly.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hex, newCore, newTestCore, request, toHex, utf8, vectorFile, vectorJSON } from './support.mjs';

const method = {
  leaf: 1, parent: 2, tree: 3, discoveryKey: 4, sign: 5, verify: 6, encodeBits: 7, decodeBits: 8, seal: 9, unseal: 10,
  recode: 11, writeFeed: 20, readFeed: 21, openDatabases: 30, put: 31, delete: 32, authorize: 33, sync: 34, get: 35, list: 36,
  feeds: 37, version: 38, checkout: 39, history: 40,
};
const fileNames = ['key', 'secret_key', 'data', 'tree', 'signatures', 'bitfield'];

test('hashes, signatures and bitfields equal the reference’s', async () => {
  const call = await newTestCore();
  const vectors = vectorJSON('crypto.json');
  const node = (writer, index, { hash, size }) => writer.number(index).data(hex(hash)).number(size);
  const hash = (name, writer) => toHex(call(method[name], writer).data());
  for (const vector of vectors.leaf) assert.equal(hash('leaf', request().data(hex(vector.data))), vector.hash);
  for (const { left, right, hash: expected } of vectors.parent) {
    assert.equal(hash('parent', node(node(request(), 0, left), 2, right)), expected);
  }
  for (const { roots, hash: expected } of vectors.tree) {
    const writer = request().count(roots.length);
    for (const root of roots) node(writer, root.index, root);
    assert.equal(hash('tree', writer), expected);
  }
  for (const { key, discoveryKey } of vectors.discoveryKey) {
    assert.equal(hash('discoveryKey', request().data(hex(key))), discoveryKey);
  }
  let signed = 0;
  for (const { publicKey, secretKey, message, signature } of vectors.sign) {
    if (message.length !== 64) continue;
    signed += 1;
    assert.equal(hash('sign', request().data(hex(secretKey)).data(hex(message))), signature);
    const verifies = (bytes) =>
      call(method.verify, request().data(hex(publicKey)).data(hex(message)).data(bytes)).flag();
    const forged = hex(signature);
    assert.equal(verifies(forged), true);
    forged[5] ^= 1;
    assert.equal(verifies(forged), false);
  }
  assert.ok(signed > 0);
  for (const { bits, encoded } of vectors.bitfieldRle) {
    assert.equal(hash('encodeBits', request().data(hex(bits))), encoded);
    const decoded = hash('decodeBits', request().data(hex(encoded)));
    assert.equal(decoded.padEnd(bits.length, '0'), bits);
  }
});

test('sealed messages equal the reference’s, both ways', async () => {
  const call = await newTestCore();
  for (const { key, nonce, plaintext, encoded } of vectorJSON('secure-ephemeral.json')) {
    const text = new TextEncoder().encode(plaintext);
    const sealed = call(method.seal, request().data(hex(key)).data(hex(nonce)).data(text)).data();
    assert.equal(toHex(sealed), encoded);
    assert.equal(utf8(call(method.unseal, request().data(hex(key)).data(sealed)).data()), plaintext);
    sealed[sealed.length - 1] ^= 1;
    assert.throws(
      () => call(method.unseal, request().data(hex(key)).data(sealed)), { code: 'unopened' });
  }
});

test('keys equal those computed with another implementation of Argon2id and BLAKE2b', async () => {
  const core = await newCore();
  const phrase = 'abacus zoom t-shirt yo-yo lunchbox dolphin unicycle parsnip';
  const keys = core.deriveKeys(phrase.toUpperCase(), 'Example.ORG.');
  assert.equal(toHex(keys.publicKey), 'd5c74d118c41b368619b282f02f7db793be21bb0be92108c68cfd0ee5b8a1a81');
  assert.equal(toHex(keys.channelKey), 'e923d956a32e5780396d05c1dbbf6c3ce7275a3567ee0ab70e00cf7ee7fcc03f');
  assert.equal(toHex(keys.atRestKey), '42df419b21fd5137456c16c55b7860d116aa1d05e4c054c7feae5f7659ea82ec');
  assert.throws(() => core.deriveKeys(phrase.replace('dolphin', 'dolphn'), 'example.org'), (error) =>
    error.code === 'badPassphrase' && error.message.includes('word 6') && !error.message.includes('dolphn'));
});

for (const name of ['plain', 'plain-live', 'encrypted', 'hyperdb-two-writers-live']) {
  test(`connection ${name} decodes to the reference’s messages, and encodes to its bytes`, async () => {
    const call = await newTestCore();
    const { key, encrypt, chunks, decoded } = vectorJSON(`wire/${name}.json`);
    for (const [side, messages] of Object.entries(decoded)) {
      const sent = chunks.filter(({ from }) => from === side).map((chunk) => chunk.hex).join('');
      for (const size of [1, 7, 1 << 20]) {
        const reader = call(method.recode, request().data(hex(key)).byte(encrypt ? 1 : 0).data(hex(sent)).count(size));
        const bytes = toHex(reader.data());
        const kinds = reader.list(() => ({ channel: reader.count(), type: reader.text() }));
        assert.deepEqual(kinds, messages.map(({ channel, type }) => ({ channel, type })), side);
        // The reference ends some connections with keep-alives or half a frame.
        assert.ok(sent.startsWith(bytes) && sent.length - bytes.length < 16, side);
      }
    }
  });
}

for (const vector of vectorJSON('feeds/index.json')) {
  test(`feed ${vector.name} reads as the reference wrote it`, async () => {
    const call = await newTestCore();
    const writer = request().data(hex(vector.key));
    for (const name of fileNames) writer.data(vectorFile(`feeds/${vector.name}/${name}`));
    const reader = call(method.readFeed, writer);
    assert.equal(reader.number(), vector.length);
    const byteLength = reader.number();
    if (vector.byteLength !== undefined) assert.equal(byteLength, vector.byteLength);
    assert.equal(reader.flag(), vector.secretKey !== undefined);
    const roots = reader.list(() => ({ index: reader.number(), hash: toHex(reader.data()), size: reader.number() }));
    if (vector.roots) assert.deepEqual(roots, vector.roots);
    const signature = toHex(reader.data());
    if (vector.lastSignature) assert.equal(signature, vector.lastSignature);
    const blocks = new Map();
    for (let index = 0; index < vector.length; index += 1) {
      if (reader.flag()) blocks.set(index, toHex(reader.data()));
    }
    if (vector.has) assert.deepEqual([...blocks.keys()], vector.has);
    else assert.equal(blocks.size, vector.length);
    for (const [place, block] of (vector.blocks ?? []).entries()) {
      assert.equal(blocks.get(block.index ?? place), block.value ?? block);
    }
  });

  if (vector.kind !== 'source') continue;
  test(`feed ${vector.name} appended anew has the same bytes`, async () => {
    const call = await newTestCore();
    const writer = request().data(hex(vector.secretKey)).count(vector.batches.length);
    for (const batch of vector.batches) {
      writer.count(batch.length);
      for (const block of batch) writer.data(hex(block));
    }
    const reader = call(method.writeFeed, writer);
    for (const name of fileNames) {
      assert.equal(toHex(reader.data()), toHex(vectorFile(`feeds/${vector.name}/${name}`)), name);
    }
  });
}

const readEntry = (reader) => {
  const key = reader.text();
  const hasValue = reader.flag();
  const value = reader.text();
  return {
    key, value: hasValue ? value : null, feed: toHex(reader.data()), seq: reader.number(),
    clock: reader.list(() => reader.number()),
  };
};
const byValue = (entries) => entries.map(({ value }) => value ?? '').sort();
const databases = ['one-writer', 'two-writers', 'three-writers', ...Array.from({ length: 8 }, (_, n) => `random-${n}`)];

for (const name of databases) {
  test(`database ${name} gives the reference’s answers`, async () => {
    const call = await newTestCore();
    const { writers, ops, expect } = vectorJSON(`hyperdb/${name}.json`);
    const opening = request().data(hex(writers[0].publicKey)).count(writers.length);
    for (const { secretKey } of writers) opening.data(hex(secretKey));
    call(method.openDatabases, opening);
    const version = () => toHex(call(method.version, request().count(0)).data());
    for (const [place, op] of ops.entries()) {
      const to = request().count(op.writer ?? op.a);
      switch (op.op) {
        case 'put': call(method.put, to.text(op.key).data(new TextEncoder().encode(op.value))); break;
        case 'del': call(method.delete, to.text(op.key)); break;
        case 'authorize': call(method.authorize, to.data(hex(op.key))); break;
        case 'sync': call(method.sync, to.count(op.b)); break;
        default: assert.fail(op.op);
      }
      if (place + 1 === expect.checkout.afterOp) assert.equal(version(), expect.checkout.version);
    }

    const feeds = call(method.feeds, request().count(0))
      .list((reader) => ({ key: toHex(reader.data()), blocks: reader.list(() => toHex(reader.data())) }));
    for (const expected of expect.feeds) {
      const feed = feeds.find(({ key }) => key === expected.key);
      assert.equal(feed.blocks.length, expected.blocks.length);
      // With several writers, the reference does not order the pointers within a bucket.
      if (writers.length === 1) assert.deepEqual(feed.blocks, expected.blocks);
    }

    // The reference also returns values that another write of the key has seen.
    const places = feeds.map(({ key }) => key);
    const current = {};
    for (const [key, found] of Object.entries(expect.get)) {
      const newest = found.filter((value) => !found.some((other) =>
        (other.seq !== value.seq || other.feed !== value.feed) && other.clock[places.indexOf(value.feed)] > value.seq));
      current[key] = newest.some(({ value }) => value !== null) ? newest : [];
      const entries = call(method.get, request().count(0).text(key)).list(readEntry);
      assert.deepEqual(byValue(entries), byValue(current[key]), key);
    }
    for (const [prefix, listed] of Object.entries(expect.list)) {
      const lists = call(method.list, request().count(0).text(prefix)).list((reader) => reader.list(readEntry));
      const wanted = listed.map(({ key }) => key).filter((key) => current[key]?.length).sort();
      assert.deepEqual(lists.map(([entry]) => entry.key).sort(), wanted, prefix);
      for (const entries of lists) assert.deepEqual(byValue(entries), byValue(current[entries[0].key]));
    }
    const all = call(method.list, request().count(0).text('')).list((reader) => reader.list(readEntry));
    assert.deepEqual(
      all.map(([entry]) => entry.key), expect.iterationOrder.filter((key) => current[key]?.length));
    for (const [isReversed, expected] of [[false, expect.history], [true, expect.historyReverse]]) {
      const entries = call(method.history, request().count(0).byte(isReversed ? 1 : 0)).list(readEntry);
      assert.deepEqual(entries.map(({ feed, seq }) => [feed, seq]), expected);
    }
    for (const [key, expected] of Object.entries(expect.checkout.get)) {
      const entries =
        call(method.checkout, request().count(0).data(hex(expect.checkout.version)).text(key)).list(readEntry);
      for (const { value } of entries) assert.ok(value === null || expected.includes(value), key);
      if (writers.length === 1) assert.deepEqual(byValue(entries), expected.map((value) => value ?? '').sort(), key);
    }
  });
}

for (const name of ['one-writer', 'two-writers', 'three-writers']) {
  test(`files of database ${name} read as the reference wrote them`, async () => {
    const call = await newTestCore();
    const { expect } = vectorJSON(`hyperdb/${name}.json`);
    for (const [place, { key, blocks }] of expect.feeds.entries()) {
      const peer = toHex(call(method.discoveryKey, request().data(hex(key))).data());
      const folder = `hyperdb/${name}/disk/${place === 0 ? 'source' : `peers/${peer}`}`;
      const writer = request().data(hex(key));
      for (const file of fileNames) writer.data(vectorFile(`${folder}/${file}`));
      const reader = call(method.readFeed, writer);
      assert.equal(reader.number(), blocks.length);
      reader.number();
      reader.flag();
      reader.list(() => [reader.number(), reader.data(), reader.number()]);
      reader.data();
      for (const block of blocks) {
        assert.equal(reader.flag(), true);
        assert.equal(toHex(reader.data()), block);
      }
    }
  });
}
