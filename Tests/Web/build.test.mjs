// What is in .build/web holds together: the page names everything that it loads, by a hash that is right.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';

const folder = fileURLToPath(new URL('../../.build/web/', import.meta.url));
const read = (file) => readFileSync(folder + file);
const manifest = JSON.parse(read('integrity.json'));
const page = read('index.html').toString();
const digest = (algorithm, bytes, encoding) => createHash(algorithm).update(bytes).digest(encoding);
const integrity = (bytes) => `sha384-${digest('sha384', bytes, 'base64')}`;
const bytesOf = (path) => read(manifest.files[path].file);

test('the manifest lists every file with its size and hash', () => {
  assert.equal(manifest.format, 1);
  const files = new Set(['integrity.json']);
  for (const { file, size, sha256, type, encodings } of Object.values(manifest.files)) {
    const bytes = read(file);
    assert.equal(bytes.length, size);
    assert.equal(digest('sha256', bytes, 'hex'), sha256);
    assert.ok(type, file);
    files.add(file);
    for (const [encoding, hash] of Object.entries(encodings)) {
      const copy = `${file}.${encoding === 'br' ? 'br' : 'gz'}`;
      assert.equal(digest('sha256', read(copy), 'hex'), hash);
      assert.deepEqual((encoding === 'br' ? brotliDecompressSync : gunzipSync)(read(copy)), bytes);
      files.add(copy);
    }
  }
  const there = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  assert.equal(there.length, files.size);
});

test('the page loads nothing without a hash, and nothing from elsewhere', () => {
  const loading = page.match(/<(script|link|img|iframe|object|embed)\b[^>]*>/g);
  const checked = loading.filter((tag) => /^<script|rel="(stylesheet|part)"/.test(tag));
  assert.equal(checked.length, 4);
  for (const tag of checked) {
    const path = /(?:src|href)="([^"]+)"/.exec(tag)[1];
    assert.equal(/integrity="([^"]+)"/.exec(tag)?.[1], integrity(bytesOf(path)), tag);
  }
  for (const [, url] of page.matchAll(/\b(?:src|href)="([^"]*)"/g)) {
    assert.ok(url.startsWith('#') || manifest.files[url] || ['/feed.json', '/feed.atom'].includes(url), url);
  }
  assert.doesNotMatch(page, /<style|\bstyle=|\son\w+=|<script(?![^>]*\bsrc=)/);
});

test('the service worker keeps every file but itself, by the same hashes', () => {
  const script = read('service-worker.js').toString();
  const files = JSON.parse(/^const files = (\{[^}]*\});/m.exec(script)[1]);
  const paths = Object.keys(manifest.files).filter((path) => path !== '/service-worker.js');
  assert.deepEqual(Object.keys(files).sort(), paths.sort());
  for (const path of paths) assert.equal(files[path], integrity(bytesOf(path)));
});
