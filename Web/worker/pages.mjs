import { journalRecords } from '../core.mjs';
import { limits } from './limits.mjs';

// Files are kept in pages, so that a commit writes what it changes and not whole files. A page that is nothing but zeros
// may be missing, and all but a file's last may be short of zeros at their end; where the last one ends, the file ends.

const pageCount = (size) => Math.ceil(size / limits.pageBytes);

/** A file while a journal is applied to it. */
class ChangingFile {
  /** Page number → all of its bytes. */
  pages = new Map();

  constructor(size) {
    this.size = size;
    /** How many of the pages that were there before still are. */
    this.keptPages = pageCount(size);
  }

  page(number) {
    let page = this.pages.get(number);
    if (!page) {
      page = new Uint8Array(limits.pageBytes);
      this.pages.set(number, page);
    }
    return page;
  }

  write(offset, bytes) {
    for (let done = 0; done < bytes.length;) {
      const start = (offset + done) % limits.pageBytes;
      const part = bytes.subarray(done, done + limits.pageBytes - start);
      this.page(Math.floor((offset + done) / limits.pageBytes)).set(part, start);
      done += part.length;
    }
    this.size = Math.max(this.size, offset + bytes.length);
  }

  resize(size) {
    const count = pageCount(size);
    if (size < this.size) {
      for (const number of [...this.pages.keys()]) if (number >= count) this.pages.delete(number);
      this.keptPages = Math.min(this.keptPages, count);
      if (size % limits.pageBytes > 0) this.page(count - 1).fill(0, size % limits.pageBytes);
    }
    this.size = size;
    // So that the end of the last page tells the size.
    if (count > 0) this.page(count - 1);
  }
}

/** The pages that a record changes. */
function* touchedPages(record) {
  if (!record.bytes) {
    if (record.size > 0) yield pageCount(record.size) - 1;
    return;
  }
  for (let number = Math.floor(record.offset / limits.pageBytes); number < pageCount(record.offset + record.bytes.length);
    number += 1) yield number;
}

/**
 * Works out what a commit's journal does to pages.
 *
 * @param {Uint8Array} journal as the core gave it.
 * @param {Map<string, number>} sizes of all files.
 * @param read (file, number) → a promise of the page's bytes, or of undefined.
 * @returns `puts`: `{file, number, bytes}`; `cuts`: `{file, number}`, from which on there are no pages any more, to be
 *   carried out before; `sizes` of the files that are changed.
 */
export async function changedPages(journal, sizes, read) {
  const records = [...journalRecords(journal)];
  const files = new Map();
  const reads = [];
  for (const record of records) {
    let file = files.get(record.name);
    if (!file) {
      file = new ChangingFile(sizes.get(record.name) ?? 0);
      files.set(record.name, file);
    }
    for (const number of touchedPages(record)) {
      if (number >= file.keptPages || file.pages.has(number)) continue;
      const page = file.page(number);
      reads.push(read(record.name, number).then((bytes) => { if (bytes) page.set(bytes); }));
    }
  }
  await Promise.all(reads);
  for (const record of records) {
    const file = files.get(record.name);
    if (record.bytes) file.write(record.offset, record.bytes); else file.resize(record.size);
  }
  const changes = { puts: [], cuts: [], sizes: new Map() };
  for (const [name, file] of files) {
    changes.sizes.set(name, file.size);
    if (file.keptPages < pageCount(sizes.get(name) ?? 0)) changes.cuts.push({ file: name, number: file.keptPages });
    for (const [number, page] of file.pages) {
      changes.puts.push({ file: name, number, bytes: page.slice(0, file.size - number * limits.pageBytes) });
    }
  }
  return changes;
}

/** Puts files together again. @param pages `[file, number, bytes]`, those of a file in order. */
export function joinPages(pages) {
  const sizes = new Map();
  for (const [file, number, bytes] of pages) sizes.set(file, number * limits.pageBytes + bytes.length);
  const files = new Map();
  for (const [file, size] of sizes) files.set(file, new Uint8Array(size));
  for (const [file, number, bytes] of pages) files.get(file).set(bytes, number * limits.pageBytes);
  return files;
}

/** @returns {[number, Uint8Array][]} the pages of a file */
export function splitPages(bytes) {
  return Array.from({ length: pageCount(bytes.length) }, (_, number) =>
    [number, bytes.slice(number * limits.pageBytes, (number + 1) * limits.pageBytes)]);
}
