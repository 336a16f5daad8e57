// The core replicates with the daemon that the same build made, over WebSocket on loopback.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startDaemon, until } from './daemon.mjs';
import { Kept, newCore, toHex } from './support.mjs';
import { WebSocketClient } from './websocket.mjs';

const channelKey = new Uint8Array(32).fill(9);

/** A page's node and its one connection, driven as a worker drives it. */
class Page {
  kept = new Kept();

  static async open(key, options) {
    const page = new Page();
    page.core = await newCore();
    page.core.open(key, options);
    page.commit();
    return page;
  }

  commit() {
    if (this.core.status().needsCommit) this.kept.commit(this.core);
    this.pump();
  }

  pump() {
    if (!this.socket) return;
    for (let bytes; (bytes = this.core.output(1, this.socket.bufferedAmount)).length > 0;) this.socket.send(bytes);
  }

  async connect(port, path, setupCode) {
    const socket = await WebSocketClient.open(port, path);
    if (setupCode) {
      socket.sendText(JSON.stringify({ setupCode }));
      assert.deepEqual(JSON.parse(await socket.next()), { accepted: true });
    }
    this.socket = socket;
    this.core.connect(1);
    socket.onframe = (contents, opcode) => {
      if (opcode !== 2) return;
      this.core.receive(1, contents);
      this.commit();
    };
    this.pump();
  }

  close() {
    this.socket.close();
    this.core.disconnect(1);
  }
}

test('an origin in a page signs up an always-on node; readers and devices replicate through it', async (t) => {
  const { port, control } = await startDaemon(t);
  const { code } = await control('setup-code');
  const keys = (await newCore()).newWriter();
  const origin = await Page.open(keys.publicKey, { secretKey: keys.secretKey, channelKey, state: 'new' });
  t.after(() => origin.close());
  for (let number = 0; number < 100; number += 1) origin.core.post(`post ${number}`, 'page');
  origin.commit();
  await origin.connect(port, `/sign-up/${toHex(keys.publicKey)}`, code);
  await until('the node has all', () => origin.core.status().keptBy === 1);
  assert.equal((await control('posts', '--limit', '200')).posts.length, 100);

  const reader = await Page.open(keys.publicKey);
  t.after(() => reader.close());
  await reader.connect(port, '/hypha');
  await until('the reader has all', () => reader.core.posts(200).posts.length === 100);
  assert.deepEqual(reader.core.posts(200), origin.core.posts(200));

  const own = (await newCore()).newWriter();
  const device = await Page.open(keys.publicKey, { secretKey: own.secretKey, channelKey, state: 'new' });
  t.after(() => device.close());
  const { words } = device.core.request('phone');
  device.commit();
  await device.connect(port, '/hypha');
  await until('the request is there', () => origin.core.requests().length === 1);
  assert.equal(origin.core.requests()[0].words, words);
  origin.core.approve(words, 'page');
  origin.commit();
  await until('the device may post', () => device.core.status().canPost);
  device.core.post('from the phone', 'phone');
  device.commit();
  await until('the reader sees it', () => reader.core.posts(1).posts[0].text === 'from the phone');
  assert.equal((await control('posts', '--limit', '1')).posts[0].text, 'from the phone');
});
