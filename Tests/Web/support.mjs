import { readFileSync } from 'node:fs';
import { webcrypto } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { Core, Writer, journalRecords } from '../../Web/core.mjs';

// Node 18 has it in a module only.
globalThis.crypto ??= webcrypto;

const root = fileURLToPath(new URL('../../', import.meta.url));
const vectors = process.env.HYPHA_VECTORS || `${root}../shared/vectors`;

export const programs = process.env.HYPHA_PROGRAMS || `${root}.build/debug`;

const compiled = new Map();

function compile(name) {
  if (!compiled.has(name)) {
    compiled.set(name, new WebAssembly.Module(readFileSync(`${root}.build/wasm/${name}.wasm`)));
  }
  return compiled.get(name);
}

/** The core, compiled. */
export const coreModule = () => compile('hypha');

/** A core as a page has it. */
export const newCore = () => Core.instantiate(compile('hypha'));

/** A core with the further exports of Tests/Web/Exports. */
export async function newTestCore() {
  const core = await Core.instantiate(compile('tests'));
  return (method, request) => core.call(method, request, 'call_test');
}

export const hex = (text) => Uint8Array.from(Buffer.from(text, 'hex'));
export const toHex = (bytes) => Buffer.from(bytes).toString('hex');
export const utf8 = (bytes) => Buffer.from(bytes).toString();
export const vectorFile = (path) => {
  try { return new Uint8Array(readFileSync(`${vectors}/${path}`)); } catch (error) {
    if (error.code === 'ENOENT') return new Uint8Array();
    throw error;
  }
};
export const vectorJSON = (path) => JSON.parse(readFileSync(`${vectors}/${path}`, 'utf8'));
export const request = () => new Writer();

/** What a page keeps: files, to which commits are carried out in order. */
export class Kept {
  files = new Map();

  apply(journal) {
    for (const record of journalRecords(journal)) {
      const before = this.files.get(record.name) ?? new Uint8Array();
      const size = record.bytes ? Math.max(before.length, record.offset + record.bytes.length) : record.size;
      const after = new Uint8Array(size);
      after.set(before.subarray(0, size));
      if (record.bytes) after.set(record.bytes, record.offset);
      this.files.set(record.name, after);
    }
  }

  commit(core) {
    this.apply(core.commit());
    core.committed();
  }

  loadInto(core) {
    for (const [name, bytes] of this.files) core.load(name, bytes);
  }
}

/** Carries what two connected cores say to each other until both are silent. */
export function exchange(a, b, id) {
  let isSilent = false;
  while (!isSilent) {
    isSilent = true;
    for (const [from, to] of [[a, b], [b, a]]) {
      for (let bytes = from.core.output(id); bytes.length > 0; bytes = from.core.output(id)) {
        to.core.receive(id, bytes);
        isSilent = false;
      }
    }
    for (const side of [a, b]) {
      if (side.core.status().needsCommit) {
        side.kept.commit(side.core);
        isSilent = false;
      }
    }
  }
}
