import { FencedError } from './errors.mjs';
import { changedPages, joinPages, splitPages } from './pages.mjs';

// What a browser keeps of a hypha: the pages of the core's files, and a few records in `state`:
//
//   epoch          a number that grows with each tab that takes the lead: who has another one writes nothing
//   node           {key, role: 'reader' | 'device' | 'origin', writer?, deviceName}, keys in hexadecimal
//   setUp          true until an always-on node has the new hypha
//   here, locked   the writer's secrets, sealed (see secrets.mjs)
//   whole          true where the files have all that the own writer ever signed
//   heldElsewhere  blocks of the own feed that another node had

/**
 * @typedef {object} Change one transaction, all of it or nothing
 * @property {Uint8Array} [journal] of the core
 * @property {string[]} [drops] files whose names begin so are removed, before the journal is applied
 * @property {object} [state] records to set
 * @property {string[]} [forgets] records to remove
 * @property {boolean} [isOwn] has what this device wrote: done only once it survives a loss of power
 */

const isDropped = (name, drops) => drops.some((start) => name.startsWith(start));

/** In memory alone. */
export class MemoryStore {
  isMemory = true;
  /** File → page number → bytes. */
  #pages = new Map();
  #sizes = new Map();
  #state;
  #checkLead;

  /** @param kept what another store had, and what throws a FencedError once another tab has the lead of that */
  constructor({ files = new Map(), state = new Map(), checkLead = async () => {} } = {}) {
    this.#state = new Map(state);
    this.#checkLead = checkLead;
    for (const [name, bytes] of files) {
      this.#sizes.set(name, bytes.length);
      this.#pages.set(name, new Map(splitPages(bytes)));
    }
  }

  async load() {
    const pages = [];
    for (const [name, numbered] of this.#pages) {
      for (const number of [...numbered.keys()].sort((a, b) => a - b)) pages.push([name, number, numbered.get(number)]);
    }
    return { files: joinPages(pages), state: new Map(this.#state) };
  }

  /** @param {Change} change @throws {FencedError} where another tab has the lead */
  async commit({ journal = new Uint8Array(), drops = [], state = {}, forgets = [] }) {
    await this.#checkLead();
    for (const name of [...this.#pages.keys()]) {
      if (!isDropped(name, drops)) continue;
      this.#pages.delete(name);
      this.#sizes.delete(name);
    }
    const changes = await changedPages(journal, this.#sizes, async (name, number) => this.#pages.get(name)?.get(number));
    for (const [name, size] of changes.sizes) {
      this.#sizes.set(name, size);
      if (!this.#pages.has(name)) this.#pages.set(name, new Map());
    }
    for (const { file, number } of changes.cuts) {
      const numbered = this.#pages.get(file);
      for (const other of [...numbered.keys()]) if (other >= number) numbered.delete(other);
    }
    for (const { file, number, bytes } of changes.puts) this.#pages.get(file).set(number, bytes);
    for (const key of forgets) this.#state.delete(key);
    for (const [key, value] of Object.entries(state)) this.#state.set(key, value);
  }

  close() {}
}

const answered = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

const ended = (transaction) => new Promise((resolve, reject) => {
  transaction.oncomplete = () => resolve();
  transaction.onabort = () => reject(transaction.error ?? new DOMException('The transaction was aborted.', 'AbortError'));
});

function openDatabase(name, indexedDB) {
  const request = indexedDB.open(name, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore('pages');
    request.result.createObjectStore('state');
  };
  return answered(request);
}

async function setEpoch(database, next) {
  const transaction = database.transaction('state', 'readwrite');
  const end = ended(transaction);
  const state = transaction.objectStore('state');
  const epoch = next(await answered(state.get('epoch')));
  state.put(epoch, 'epoch');
  await end;
  return epoch;
}

/** In IndexedDB. */
export class IndexedStore {
  isMemory = false;
  #database;
  #indexedDB;
  #epoch;
  #sizes = new Map();

  constructor(database, indexedDB, epoch) {
    this.#database = database;
    this.#indexedDB = indexedDB;
    this.#epoch = epoch;
    // Somebody removes the site's data: to hold on would keep that from happening.
    database.onversionchange = () => database.close();
  }

  /** Opens what is kept under a name, and takes the lead of it. */
  static async open(name, { indexedDB } = globalThis) {
    const database = await openDatabase(name, indexedDB);
    return new IndexedStore(database, indexedDB, await setEpoch(database, (before = 0) => before + 1));
  }

  /** The same opened once more, with the lead that this one has or had: that takes it from no other tab. */
  async reopened() {
    const database = await openDatabase(this.#database.name, this.#indexedDB);
    // Where all was removed nobody leads.
    await setEpoch(database, (before = this.#epoch) => before);
    return new IndexedStore(database, this.#indexedDB, this.#epoch);
  }

  /** @throws {FencedError} where another tab has the lead; where that cannot be told, nothing */
  async checkLead() {
    let epoch;
    try {
      epoch = await answered(this.#database.transaction('state', 'readonly').objectStore('state').get('epoch'));
    } catch {
      return;
    }
    if (epoch !== undefined && epoch !== this.#epoch) throw new FencedError();
  }

  /** @returns files by name, and the records of `state` */
  async load() {
    const transaction = this.#database.transaction(['pages', 'state'], 'readonly');
    const [pages, state] = [transaction.objectStore('pages'), transaction.objectStore('state')];
    const [keys, values, names, records] = await Promise.all(
      [pages.getAllKeys(), pages.getAll(), state.getAllKeys(), state.getAll()].map(answered));
    const files = joinPages(keys.map(([file, number], place) => [file, number, values[place]]));
    this.#sizes = new Map([...files].map(([name, bytes]) => [name, bytes.length]));
    return { files, state: new Map(names.map((name, place) => [name, records[place]])) };
  }

  /** @param {Change} change @throws {FencedError} where another tab has the lead */
  async commit({ journal = new Uint8Array(), drops = [], state = {}, forgets = [], isOwn = false }) {
    const transaction = this.#database.transaction(
      ['pages', 'state'], 'readwrite', { durability: isOwn ? 'strict' : 'relaxed' });
    const end = ended(transaction);
    // It is waited for below; until then it may fail unheard.
    end.catch(() => {});
    try {
      const [pages, records] = [transaction.objectStore('pages'), transaction.objectStore('state')];
      if (await answered(records.get('epoch')) !== this.#epoch) throw new FencedError();
      const sizes = new Map([...this.#sizes].filter(([name]) => !isDropped(name, drops)));
      for (const start of drops) pages.delete(IDBKeyRange.bound([start], [`${start}\uffff`]));
      const changes = await changedPages(journal, sizes, (name, number) => answered(pages.get([name, number])));
      for (const { file, number } of changes.cuts) pages.delete(IDBKeyRange.bound([file, number], [file, Infinity]));
      for (const { file, number, bytes } of changes.puts) pages.put(bytes, [file, number]);
      for (const key of forgets) records.delete(key);
      for (const [key, value] of Object.entries(state)) records.put(value, key);
      await end;
      for (const [name, size] of changes.sizes) sizes.set(name, size);
      this.#sizes = sizes;
    } catch (error) {
      try { transaction.abort(); } catch { /* It has ended. */ }
      throw error;
    }
  }

  close() { this.#database.close(); }
}
