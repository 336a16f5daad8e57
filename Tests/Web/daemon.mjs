import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { promisify } from 'node:util';
import { programs } from './support.mjs';

const run = promisify(execFile);

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Waits for a condition, up to 20 seconds. */
export async function until(what, condition) {
  for (let tries = 0; tries < 400; tries += 1) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`waited in vain until ${what}`);
}

/** The daemon that the same build made, with a folder and a port of its own, until the test ends. */
export async function startDaemon(t) {
  const folder = mkdtempSync('/tmp/hypha-');
  const socket = `${folder}/control`;
  const port = await freePort();
  writeFileSync(`${folder}/hyphad.toml`, `[node]\nstate_folder = "${folder}/state"\n`
    + `[http]\naddress = "127.0.0.1:${port}"\n[control]\nsocket = "${socket}"\n`);
  let daemon;
  const stop = async () => {
    if (daemon.exitCode !== null) return;
    daemon.kill();
    await once(daemon, 'exit');
  };
  t.after(async () => {
    await stop();
    rmSync(folder, { recursive: true });
  });
  const control = async (...args) =>
    JSON.parse((await run(`${programs}/hyphactl`, [...args, '--socket', socket, '--json'])).stdout);
  const start = async () => {
    daemon = spawn(`${programs}/hyphad`, ['--config', `${folder}/hyphad.toml`], { stdio: 'ignore' });
    // 2: there is no daemon.
    await until('the daemon answers', () => control('status').then(() => true, ({ code }) => code !== 2));
  };
  await start();
  return { port, control, start, stop };
}
