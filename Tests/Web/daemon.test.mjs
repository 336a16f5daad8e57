// The core replicates with the daemon that the same build made, over WebSocket on loopback.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { Kept, newCore, programs, toHex } from './support.mjs';
import { WebSocketClient } from './websocket.mjs';

const run = promisify(execFile);
const channelKey = new Uint8Array(32).fill(9);

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

async function until(what, condition) {
  for (let tries = 0; tries < 400; tries += 1) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`waited in vain until ${what}`);
}

async function startDaemon(t) {
  const folder = mkdtempSync('/tmp/hypha-');
  const socket = `${folder}/control`;
  const port = await freePort();
  writeFileSync(`${folder}/hyphad.toml`, `[node]\nstate_folder = "${folder}/state"\n`
    + `[http]\naddress = "127.0.0.1:${port}"\n[control]\nsocket = "${socket}"\n`);
  const daemon = spawn(`${programs}/hyphad`, ['--config', `${folder}/hyphad.toml`], { stdio: 'ignore' });
  t.after(async () => {
    if (daemon.exitCode === null) {
      daemon.kill();
      await once(daemon, 'exit');
    }
    rmSync(folder, { recursive: true });
  });
  const control = async (...args) =>
    JSON.parse((await run(`${programs}/hyphactl`, [...args, '--socket', socket, '--json'])).stdout);
  await until('the daemon answers', () => control('setup-code').then(() => true, () => false));
  return { port, control };
}

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
