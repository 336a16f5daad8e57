// The page's end of the link to its worker, which holds the node.

/** What the node could not do: `code` for programs, `message` for people. */
export class NodeError extends Error {
  constructor({ code, message }) {
    super(message);
    this.code = code;
  }
}

/** Names URLs that scripts may come from, where the browser asks for that (Trusted Types). */
const policy = globalThis.trustedTypes?.createPolicy('hypha', {
  createScriptURL: (url) => {
    if (url === '/service-worker.js' || url.startsWith(`blob:${location.origin}/`)) return url;
    throw new TypeError(`no script comes from ${url}`);
  },
});

/** @param {string} url @returns what `new Worker` and `register` take. */
export const scriptURL = (url) => policy?.createScriptURL(url) ?? url;

/** Fetches a part of the page that it names with its hash. */
async function part(id) {
  const { href, integrity } = document.getElementById(id);
  let answer;
  try { answer = await fetch(href, { integrity }); } catch {
    // A browser does not say which of the two it is.
    throw new NodeError({
      code: 'altered', message: `a part of this page cannot be fetched, or was altered, and is not run: ${href}`,
    });
  }
  if (!answer.ok) throw new NodeError({ code: 'missing', message: `a part of this page is missing on the server: ${href}` });
  return answer;
}

export class Link {
  #worker;
  #waiting = new Map();
  #next = 1;
  /** Called with each new state. */
  onstate = () => {};

  /** Starts the worker. Its script and the core are checked against their hashes in the page. */
  async start() {
    if (!globalThis.isSecureContext) {
      throw new NodeError({
        code: 'insecure', message: 'This page came over an unprotected connection. Open it with https:// in front.',
      });
    }
    const [script, core] = await Promise.all([
      part('worker').then((answer) => answer.text()), part('core').then(WebAssembly.compileStreaming),
    ]);
    const url = URL.createObjectURL(new Blob([script], { type: 'text/javascript' }));
    this.#worker = new Worker(scriptURL(url), { type: 'module' });
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    this.#worker.onerror = (event) => {
      this.onstate({ phase: 'failed', error: { code: 'worker', message: `The page's worker ended: ${event.message}` } });
    };
    this.#worker.postMessage({ start: { origin: location.origin, host: location.hostname, core } });
    const tellVisible = () => this.#worker.postMessage({ visible: document.visibilityState === 'visible' });
    document.addEventListener('visibilitychange', tellVisible);
    tellVisible();
  }

  #receive({ state, id, value, error }) {
    if (state) return this.onstate(state);
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) waiting?.reject(new NodeError(error)); else waiting?.resolve(value);
  }

  /** Asks the node for something: see docs/architecture.md for the calls. @throws {NodeError} */
  call(call, args = {}) {
    return new Promise((resolve, reject) => {
      const id = this.#next;
      this.#next += 1;
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, call, args });
    });
  }
}
