import { limits } from './limits.mjs';

/** Milliseconds until the next attempt to connect: ever longer, and not the same for all that lost a node together. */
export function retryDelay(failures, random = Math.random()) {
  const longest = Math.min(limits.lastRetryMilliseconds, limits.firstRetryMilliseconds * 2 ** (failures - 1));
  return longest * (0.5 + random / 2);
}

/**
 * The connection to the always-on node, opened again whenever it ends.
 *
 * `opened(id)`, `received(bytes)` and `closed(id)` are called for one connection after the other, each with a number of
 * its own.
 */
export class Connection {
  #url;
  #makeSocket;
  #on;
  #socket;
  #id = 0;
  #isOpen = false;
  #failures = 0;
  #timer;
  #isStopped = true;

  constructor(url, makeSocket, on) {
    this.#url = url;
    this.#makeSocket = makeSocket;
    this.#on = on;
  }

  /**
   * @param socket one that is open, to begin with
   * @param received what came on it
   */
  start(socket, received = []) {
    this.#isStopped = false;
    if (!socket) return this.#connect();
    this.#use(socket, true);
    for (const bytes of received) this.#on.received(bytes);
  }

  stop() {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    this.close();
  }

  /** Connects now, if it waits to. */
  wake() {
    if (this.#isStopped || this.#socket) return;
    this.#failures = 0;
    this.#connect();
  }

  /** Ends the connection that there is; another follows. */
  close() {
    const socket = this.#socket;
    if (!socket) return;
    this.#ended(socket);
    socket.close();
  }

  get isOpen() { return this.#isOpen; }
  get id() { return this.#id; }
  get unsent() { return this.#socket?.bufferedAmount ?? 0; }

  send(bytes) { this.#socket.send(bytes); }

  #connect() {
    clearTimeout(this.#timer);
    let socket;
    try { socket = this.#makeSocket(this.#url); } catch { return this.#retry(); }
    this.#use(socket, false);
  }

  #use(socket, isOpen) {
    this.#socket = socket;
    this.#id += 1;
    socket.binaryType = 'arraybuffer';
    const tooLate = setTimeout(() => { if (this.#socket === socket && !this.#isOpen) this.close(); },
      limits.openingMilliseconds);
    let steady;
    const opened = () => {
      if (this.#socket !== socket) return;
      this.#isOpen = true;
      steady = setTimeout(() => { if (this.#socket === socket) this.#failures = 0; }, limits.steadyMilliseconds);
      this.#on.opened(this.#id);
    };
    socket.onopen = opened;
    socket.onmessage = ({ data }) => {
      if (this.#socket === socket && typeof data !== 'string') this.#on.received(new Uint8Array(data));
    };
    socket.onclose = () => {
      clearTimeout(tooLate);
      clearTimeout(steady);
      this.#ended(socket);
    };
    if (isOpen) opened();
  }

  #ended(socket) {
    if (this.#socket !== socket) return;
    const wasOpen = this.#isOpen;
    this.#socket = undefined;
    this.#isOpen = false;
    if (wasOpen) this.#on.closed(this.#id);
    this.#retry();
  }

  #retry() {
    if (this.#isStopped) return;
    this.#failures += 1;
    this.#timer = setTimeout(() => this.#connect(), retryDelay(this.#failures));
  }
}
