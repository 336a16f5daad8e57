import { FencedError } from './errors.mjs';
import { limits } from './limits.mjs';
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
  #before;

  /** @param kept what another store had, and what is done there `before` each commit, given that: it may throw a FencedError */
  constructor({ files = new Map(), state = new Map(), before = async () => {} } = {}) {
    this.#state = new Map(state);
    this.#before = before;
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
    await this.#before({ state, forgets });
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

async function openDatabase(name, indexedDB) {
  const request = indexedDB.open(name, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore('pages');
    request.result.createObjectStore('state');
  };
  const database = await answered(request);
  // Somebody removes the site's data: to hold on would keep that from happening.
  database.onversionchange = () => database.close();
  return database;
}

/** Takes the lead of what is kept. */
async function takeLead(database) {
  const transaction = database.transaction('state', 'readwrite');
  const end = ended(transaction);
  const state = transaction.objectStore('state');
  const epoch = (await answered(state.get('epoch')) ?? 0) + 1;
  state.put(epoch, 'epoch');
  await end;
  return epoch;
}

/** Tries more than once: the storage of a browser that starts or wakes up may not be ready. */
async function patiently(work) {
  for (let tries = 1; ; tries += 1) {
    try { return await work(); } catch (error) {
      if (tries >= limits.storageTries) throw error;
    }
    await new Promise((resolve) => { setTimeout(resolve, limits.storageRetryMilliseconds); });
  }
}

/** In IndexedDB. */
export class IndexedStore {
  isMemory = false;
  #name;
  #indexedDB;
  /** A promise of the database. */
  #connection;
  #epoch;
  #sizes = new Map();
  #isClosed = false;

  constructor(name, indexedDB, database, epoch) {
    this.#name = name;
    this.#indexedDB = indexedDB;
    this.#connection = Promise.resolve(database);
    this.#epoch = epoch;
  }

  /** Opens what is kept under a name, and takes the lead of it. */
  static async open(name, indexedDB) {
    const database = await openDatabase(name, indexedDB);
    try { return new IndexedStore(name, indexedDB, database, await takeLead(database)); } catch (error) {
      database.close();
      throw error;
    }
  }

  /** Carries something out, once more over a new connection where that fails: browsers end those of a page that nobody sees. */
  async #reliably(work) {
    const connection = this.#connection;
    try { return await work(await connection); } catch (error) {
      if (this.#isClosed || error instanceof FencedError) throw error;
      console.warn(`The storage is opened anew: ${error.message}`);
      if (this.#connection === connection) this.#connection = this.#connectAgain(connection);
      return work(await this.#connection);
    }
  }

  /** That takes the lead from no other tab. */
  async #connectAgain(before) {
    before.then((database) => database.close(), () => {});
    const database = await patiently(() => openDatabase(this.#name, this.#indexedDB));
    try {
      // What failed may be there all the same, and files have other sizes then.
      await this.#load(database);
    } catch (error) {
      database.close();
      throw error;
    }
    return database;
  }

  /** @throws {FencedError} where another tab has the lead, or all was removed: then it begins anew with what is there */
  #check(epoch) { if (epoch !== this.#epoch) throw new FencedError(); }

  /** @throws {FencedError} where another tab has the lead */
  async checkLead() {
    this.#check(await this.#reliably((database) =>
      answered(database.transaction('state', 'readonly').objectStore('state').get('epoch'))));
  }

  /** @returns files by name, and the records of `state` @throws {FencedError} where another tab has the lead */
  load() { return this.#reliably((database) => this.#load(database)); }

  async #load(database) {
    const transaction = database.transaction(['pages', 'state'], 'readonly');
    const [pages, state] = [transaction.objectStore('pages'), transaction.objectStore('state')];
    const [keys, values, names, records] = await Promise.all(
      [pages.getAllKeys(), pages.getAll(), state.getAllKeys(), state.getAll()].map(answered));
    const kept = new Map(names.map((name, place) => [name, records[place]]));
    this.#check(kept.get('epoch'));
    const files = joinPages(keys.map(([file, number], place) => [file, number, values[place]]));
    this.#sizes = new Map([...files].map(([name, bytes]) => [name, bytes.length]));
    return { files, state: kept };
  }

  /** @param {Change} change @throws {FencedError} where another tab has the lead */
  commit(change) { return this.#reliably((database) => this.#commit(database, change)); }

  async #commit(database, { journal = new Uint8Array(), drops = [], state = {}, forgets = [], isOwn = false }) {
    const transaction = database.transaction(
      ['pages', 'state'], 'readwrite', { durability: isOwn ? 'strict' : 'relaxed' });
    const end = ended(transaction);
    // It is waited for below; until then it may fail unheard.
    end.catch(() => {});
    try {
      const [pages, records] = [transaction.objectStore('pages'), transaction.objectStore('state')];
      this.#check(await answered(records.get('epoch')));
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

  close() {
    this.#isClosed = true;
    this.#connection.then((database) => database.close(), () => {});
  }
}

/** IndexedDB alone does not say why it does not open. A browser that refuses storage refuses locks, too. */
const isRefused = (locks) => locks.query().then(() => false, ({ name }) => name === 'SecurityError');

/**
 * Opens what is kept under a name: in memory, where the browser keeps nothing for this site.
 *
 * @throws where something may be kept, but cannot be opened now
 */
export async function openStore(name, { indexedDB, navigator }) {
  const open = () => IndexedStore.open(name, indexedDB);
  try { return await open(); } catch (error) {
    if (indexedDB && error.name !== 'SecurityError' && !await isRefused(navigator.locks)) return patiently(open);
    console.warn(`This browser keeps nothing: ${error.message}`);
    return new MemoryStore();
  }
}
