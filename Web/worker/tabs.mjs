import { CallError, describe } from './errors.mjs';
import { readingCalls } from './leader.mjs';
import { limits } from './limits.mjs';

const lockName = 'hypha';

/**
 * The tabs of one browser that show one hypha. The one that holds the lock leads: it has the core, the storage and the
 * connection. The others ask it over a channel, and show its state.
 */
export class Tabs {
  #id = crypto.randomUUID();
  #locks;
  #channel;
  #makeLeader;
  #show;
  #every;
  #leader;
  /** What that said last; not always what is shown. */
  #leaderState;
  /** Which tab leads, as far as this one knows. */
  #leaderID;
  #state;
  #calls = new Map();
  #nextCall = 1;
  #answering = new Map();
  #isVisible = true;
  #unanswered = 0;
  #pausedUntil = 0;
  #lastPing = 0;
  #queued;
  #release;
  #isAlone = false;

  /**
   * @param locks as `navigator.locks`
   * @param channel a BroadcastChannel
   * @param makeLeader on → Leader
   * @param show takes each state of the leader, and whether that is this tab
   * @param every as `setInterval`
   */
  constructor({ locks, channel, makeLeader, show, every = (work, milliseconds) => setInterval(work, milliseconds) }) {
    this.#locks = locks;
    this.#channel = channel;
    this.#makeLeader = makeLeader;
    this.#show = show;
    this.#every = every;
    channel.onmessage = ({ data }) => this.#heard(data);
  }

  start() {
    this.#queue();
    this.#say({ hello: true });
    this.#every(() => this.#watch(), limits.pingMilliseconds);
  }

  get isLeader() { return this.#leader !== undefined; }

  setVisible(isVisible) {
    this.#isVisible = isVisible;
    this.#unanswered = 0;
    if (isVisible) this.wake();
  }

  wake() { if (this.#leader) this.#leader.wake(); else this.#say({ wake: true }); }
  sleep() { this.#leader?.sleep(); }

  /** Carries out a call, here or in the tab that leads. */
  call(name, args) {
    if (this.#leader) return this.#callOwn(this.#leader, name, args);
    if (this.#calls.size >= limits.waitingCalls) throw new CallError('busy', 'Too many calls wait for their answers.');
    return new Promise((resolve, reject) => {
      const id = this.#nextCall;
      this.#nextCall += 1;
      this.#calls.set(id, { name, args, resolve, reject });
      this.#say({ ask: id, name, args });
    });
  }

  /** What a leader that is gone left unanswered is asked of the next one, as other tabs do. */
  async #callOwn(leader, name, args) {
    try { return await leader.call(name, args); } catch (error) {
      if (leader === this.#leader || !readingCalls.has(name)) throw error;
      return this.call(name, args);
    }
  }

  // Who leads

  #queue() {
    this.#queued = new AbortController();
    this.#locks.request(lockName, { signal: this.#queued.signal }, () => this.#lead()).catch((error) => this.#lost(error));
  }

  #steal() {
    console.warn('The tab that leads does not answer: this one takes over.');
    this.#unanswered = 0;
    this.#queued.abort();
    this.#locks.request(lockName, { steal: true }, () => this.#lead()).catch((error) => this.#lost(error));
  }

  /** Leads until the lock is let go or taken away. */
  #lead() {
    this.#leaderID = this.#id;
    this.#leaderState = undefined;
    this.#leader = this.#makeLeader({
      state: (state) => this.#ownState(state),
      busy: (milliseconds) => this.#say({ busy: milliseconds }),
      lost: () => this.#stepDown(),
    });
    this.#leader.run();
    this.#say({ leads: true });
    this.#askAgain();
    return new Promise((resolve) => { this.#release = resolve; });
  }

  /** The lock is gone, to a tab that thought this one dead. */
  #lost(error) {
    if (error.name === 'SecurityError') {
      this.#leadAlone();
      return;
    }
    // The wait for it was given up, for a lock that was taken at once.
    if (error.name === 'AbortError' && !this.#leader) return;
    if (error.name !== 'AbortError') console.error(error);
    this.#stepDown();
  }

  /** Where a browser refuses storage it refuses locks too: tabs then have nothing in common, and each has its own core. */
  #leadAlone() {
    this.#isAlone = true;
    this.#channel.close();
    this.#lead();
  }

  #stepDown() {
    if (!this.#leader) return;
    this.#letGo();
    this.#say({ hello: true });
  }

  /** Lets the next tab that waits lead. */
  #letGo() {
    this.#leader.close();
    this.#leader = undefined;
    this.#leaderID = undefined;
    this.#release?.();
    this.#queue();
  }

  /** Another tab leads now, perhaps this one: what can be asked twice is, and the rest is given up. */
  #askAgain() {
    for (const [id, { name, args, resolve, reject }] of [...this.#calls]) {
      this.#calls.delete(id);
      if (readingCalls.has(name)) Promise.resolve().then(() => this.call(name, args)).then(resolve, reject);
      else reject(new CallError('interrupted', 'The tab that carried it out was closed: look whether it was done.'));
    }
  }

  #watch() {
    const now = performance.now();
    // Where this tab itself slept, nobody could answer it.
    const isSteady = now - this.#lastPing < 2 * limits.pingMilliseconds;
    this.#lastPing = now;
    if (this.#leader || !this.#isVisible || !isSteady || now < this.#pausedUntil) {
      this.#unanswered = 0;
      return;
    }
    if (this.#unanswered >= limits.unansweredPings) return this.#steal();
    this.#unanswered += 1;
    this.#say({ ping: true });
  }

  /** What this tab leads has failed, or could not open what is kept: another one may have more luck. */
  get #isOfNoUse() { return this.#leaderState?.phase === 'failed' || this.#leaderState?.storage === 'unopened'; }

  // The channel

  #say(message) {
    if (!this.#isAlone) this.#channel.postMessage({ ...message, from: this.#id });
  }

  #heard(message) {
    if (message.to !== undefined && message.to !== this.#id) return;
    if (this.#leader) return this.#heardAsLeader(message);
    if (message.leads || message.state || message.pong) this.#heardLeader(message.from, message.leads);
    if (message.busy !== undefined) this.#pausedUntil = performance.now() + message.busy;
    if (message.state) this.#follow(message.state);
    if (message.answer !== undefined) {
      this.#unanswered = 0;
      const call = this.#calls.get(message.answer);
      this.#calls.delete(message.answer);
      if (!call) return;
      if (message.error) call.reject(new CallError(message.error.code, message.error.message));
      else call.resolve(message.value);
    }
  }

  /** @param isNew it leads from now on: what was asked before, it did not hear */
  #heardLeader(id, isNew) {
    this.#unanswered = 0;
    if (id === this.#leaderID && !isNew) return;
    const isFirst = this.#leaderID === undefined;
    this.#leaderID = id;
    this.#pausedUntil = 0;
    if (isNew || !isFirst) this.#askAgain();
  }

  #heardAsLeader({ from, hello, wake, ping, ask, name, args }) {
    if (hello) {
      // Somebody has loaded the page again, perhaps because it said so.
      if (this.#isOfNoUse) return this.#letGo();
      this.#leader.tell(true);
    }
    if (wake) this.#leader.wake();
    if (ping) this.#say({ to: from, pong: true });
    if (ask !== undefined) this.#answer(from, ask, name, args);
  }

  async #answer(to, ask, name, args) {
    const waiting = this.#answering.get(to) ?? 0;
    this.#answering.set(to, waiting + 1);
    let answer;
    try {
      if (waiting >= limits.waitingCalls) throw new CallError('busy', 'Too many calls wait for their answers.');
      answer = { value: await this.#leader.call(name, args) };
    } catch (error) {
      answer = { error: describe(error) };
    }
    const left = this.#answering.get(to) - 1;
    if (left > 0) this.#answering.set(to, left); else this.#answering.delete(to);
    // One that leads no more says nothing: who asked has given up.
    if (this.#leader) this.#say({ to, answer: ask, ...answer });
  }

  #ownState(state) {
    this.#leaderState = state;
    this.#say({ state });
    // A tab that has shown a hypha does not start over because it takes the lead.
    if (state.phase === 'starting' && this.#state) return;
    this.#state = state;
    this.#show({ ...state, isLeader: true });
  }

  #follow(state) {
    if (state.phase === 'starting' && this.#state) return;
    this.#state = state;
    this.#show({ ...state, isLeader: false });
  }
}
