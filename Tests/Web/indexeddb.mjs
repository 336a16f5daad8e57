// As much of IndexedDB as the page's worker uses: one database, in memory. It can be made to fail as browsers do.

globalThis.IDBKeyRange ??= { bound: (lower, upper) => ({ lower, upper }) };

const compared = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

function comparedKeys(a, b) {
  if (!Array.isArray(a)) return compared(a, b);
  for (let place = 0; place < Math.min(a.length, b.length); place += 1) {
    const order = compared(a[place], b[place]);
    if (order !== 0) return order;
  }
  return a.length - b.length;
}

/** Records by key, in order. */
class Records {
  constructor(entries = []) { this.entries = [...entries]; }

  get(key) { return this.entries.find(([other]) => comparedKeys(other, key) === 0)?.[1]; }
  all() { return [...this.entries].sort(([a], [b]) => comparedKeys(a, b)); }

  put(key, value) {
    this.delete(key);
    this.entries.push([key, value]);
  }

  delete(keys) {
    const { lower = keys, upper = keys } = keys;
    this.entries = this.entries.filter(([key]) => comparedKeys(key, lower) < 0 || comparedKeys(key, upper) > 0);
  }
}

class Transaction {
  error = null;
  #connection;
  #requests = [];
  #isEnded = false;

  constructor(connection, before) {
    this.#connection = connection;
    this.ended = before.then(() => this.#run());
  }

  objectStore(name) {
    const records = () => this.#stores.get(name);
    const { factory } = this.#connection;
    return {
      get: (key) => this.#ask(() => records().get(key)),
      getAll: () => this.#ask(() => records().all().map(([, value]) => value)),
      getAllKeys: () => this.#ask(() => records().all().map(([key]) => key)),
      delete: (keys) => this.#ask(() => records().delete(keys)),
      put: (value, key) => this.#ask(() => {
        factory.putting(key);
        records().put(key, value);
      }),
    };
  }

  #stores;

  #ask(work) {
    if (this.#isEnded) throw new DOMException('The transaction has finished.', 'TransactionInactiveError');
    const request = {};
    this.#requests.push({ request, work });
    return request;
  }

  async #run() {
    const { factory } = this.#connection;
    this.#stores = new Map([...factory.stores].map(([name, { entries }]) => [name, new Records(entries)]));
    for (;;) {
      // Whoever was answered asks on.
      await new Promise(setImmediate);
      if (this.#isEnded) return;
      const next = this.#requests.shift();
      if (!next) break;
      try {
        this.#connection.use();
        next.request.result = next.work();
        next.request.onsuccess?.();
      } catch (error) {
        next.request.error = error;
        next.request.onerror?.();
        this.error = error;
        this.abort();
      }
    }
    this.#isEnded = true;
    factory.stores = this.#stores;
    this.oncomplete?.();
  }

  abort() {
    if (this.#isEnded) throw new DOMException('The transaction has finished.', 'InvalidStateError');
    this.#isEnded = true;
    setImmediate(() => this.onabort?.());
  }
}

class Connection {
  isLost = false;
  #isClosed = false;

  constructor(factory) { this.factory = factory; }

  use() { if (this.isLost) throw new DOMException('Connection to Indexed Database server lost.', 'UnknownError'); }
  close() { this.#isClosed = true; }
  createObjectStore(name) { this.factory.stores.set(name, new Records()); }

  transaction() {
    if (this.#isClosed) throw new DOMException('The connection is closing.', 'InvalidStateError');
    this.use();
    const transaction = new Transaction(this, this.factory.last);
    this.factory.last = transaction.ended;
    return transaction;
  }
}

export class TestIndexedDB {
  stores;
  last = Promise.resolve();
  #connections = [];
  /** Called before a connection is opened, and before a record is put; throws what that is to fail with. */
  opening = () => {};
  putting = () => {};

  open() {
    const request = {};
    setImmediate(() => {
      try { this.opening(); } catch (error) {
        request.error = error;
        request.onerror();
        return;
      }
      request.result = new Connection(this);
      this.#connections.push(request.result);
      if (!this.stores) {
        this.stores = new Map();
        request.onupgradeneeded();
      }
      request.onsuccess();
    });
    return request;
  }

  /** Ends all connections, as a browser does to those of a page in the background. */
  lose() { for (const connection of this.#connections) connection.isLost = true; }

  /** Somebody removes the site's data. */
  remove() {
    for (const connection of this.#connections) connection.onversionchange?.();
    this.stores = undefined;
  }

  /** What is in `state`. */
  get records() { return Object.fromEntries(this.stores.get('state').entries); }
}
