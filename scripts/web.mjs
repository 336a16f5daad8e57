#!/usr/bin/env node
// Makes the web client in .build/web of Web/ and the compiled core: two scripts, each one file of its modules, because
// what a module of a worker imports could not be checked by the browser; hashes of everything from the one page; and
// compressed copies. The same sources always give the same bytes.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

const root = fileURLToPath(new URL('..', import.meta.url));
const web = join(root, 'Web');
const out = join(root, '.build/web');

const types = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  wasm: 'application/wasm',
  webmanifest: 'application/manifest+json',
  svg: 'image/svg+xml',
  png: 'image/png',
};

/** One script of a module and all that it imports, each behind those that it imports. */
function assemble(entry) {
  const done = new Set();
  const parts = [];
  const add = (file) => {
    if (done.has(file)) return;
    done.add(file);
    const lines = readFileSync(file, 'utf8').split('\n');
    const body = [];
    for (const line of lines) {
      const from = /^import \{ [\w, ]+ \} from '(\.[^']+)';$/.exec(line);
      if (from) {
        add(resolve(dirname(file), from[1]));
      } else if (/^(import\b|export (default|\{|\*))/.test(line)) {
        throw new Error(`${file}: “${line}” cannot be assembled: import { names } from './file.mjs'; only`);
      } else {
        body.push(line.replace(/^export /, ''));
      }
    }
    parts.push(body.join('\n').trim());
  };
  add(join(web, entry));
  return Buffer.from(`${parts.join('\n\n')}\n`);
}

const digest = (algorithm, bytes, encoding) => createHash(algorithm).update(bytes).digest(encoding);
const integrity = (bytes) => `sha384-${digest('sha384', bytes, 'base64')}`;

const assets = {
  'page.js': assemble('page/main.mjs'),
  'worker.js': assemble('worker/main.mjs'),
  'style.css': readFileSync(join(web, 'style.css')),
  'hypha.wasm': readFileSync(join(root, '.build/wasm/hypha.wasm')),
};
for (const name of readdirSync(join(web, 'assets')).sort()) assets[name] = readFileSync(join(web, 'assets', name));

const build = digest('sha256', Object.entries(assets).map(([name, bytes]) => `${name} ${integrity(bytes)}\n`).join(''), 'hex')
  .slice(0, 16);

/** Fills in `{{url NAME}}` and `{{integrity NAME}}` of an asset. */
const fill = (text) => text.replace(/\{\{(url|integrity) ([\w.-]+)\}\}/g, (_, what, name) => {
  if (!assets[name]) throw new Error(`there is no asset ${name}`);
  return what === 'url' ? `/assets/${build}/${name}` : integrity(assets[name]);
});

const files = { '/': Buffer.from(fill(readFileSync(join(web, 'index.html'), 'utf8'))) };
for (const [name, bytes] of Object.entries(assets)) files[`/assets/${build}/${name}`] = bytes;
const kept = Object.entries(files).map(([path, bytes]) => [path, integrity(bytes)]);
files['/service-worker.js'] = Buffer.from(
  `const build = '${build}';\nconst files = ${JSON.stringify(Object.fromEntries(kept), null, 2)};\n\n`
    + readFileSync(join(web, 'service-worker.js'), 'utf8'));

const version = /^\S+ \(([^)-]+)/.exec(readFileSync(join(root, 'debian/changelog'), 'utf8'))[1];
const manifest = { format: 1, version, files: {} };
const fresh = `${out}.new`;
rmSync(fresh, { recursive: true, force: true });
for (const path of Object.keys(files).sort()) {
  const bytes = files[path];
  const file = path === '/' ? 'index.html' : path.slice(1);
  const target = join(fresh, file);
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, bytes);
  const smaller = {
    br: brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }),
    gzip: gzipSync(bytes, { level: 9 }),
  };
  const encodings = {};
  for (const [encoding, copy] of Object.entries(smaller)) {
    if (copy.length >= bytes.length * 0.95) continue;
    writeFileSync(`${target}.${encoding === 'br' ? 'br' : 'gz'}`, copy);
    encodings[encoding] = digest('sha256', copy, 'hex');
  }
  manifest.files[path] = {
    file, type: types[file.split('.').pop()], size: bytes.length, sha256: digest('sha256', bytes, 'hex'), encodings,
  };
}
writeFileSync(join(fresh, 'integrity.json'), `${JSON.stringify(manifest, null, 2)}\n`);
// What is the same stays, for a node that reads it just now.
const isSame = readdirSync(fresh, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).every((entry) => {
  const path = join(entry.parentPath ?? entry.path, entry.name);
  const other = join(out, relative(fresh, path));
  return existsSync(other) && readFileSync(other).equals(readFileSync(path));
});
if (isSame) {
  rmSync(fresh, { recursive: true });
} else {
  rmSync(out, { recursive: true, force: true });
  renameSync(fresh, out);
}

const sent = Object.entries(files).filter(([path]) => /\.(js|css|wasm)$|^\/$/.test(path))
  .reduce((sum, [, bytes]) => sum + brotliCompressSync(bytes).length, 0);
console.log(`.build/web: version ${version}, build ${build}, ${Math.ceil(sent / 1024)} KiB to start, compressed`);
