/** Bounds of the worker. */
export const limits = {
  /** Bytes of a page of a kept file. */
  pageBytes: 16384,
  /** Milliseconds between two commits of what others wrote. */
  commitMilliseconds: 250,
  /** How often storage is tried to be opened, and milliseconds in between. */
  storageTries: 3,
  storageRetryMilliseconds: 500,
  /** Milliseconds between two states that the page gets unasked. */
  stateMilliseconds: 100,
  /** Milliseconds after which one that still lacks something is catching up: what is new takes a moment. */
  currentMilliseconds: 500,
  /** Milliseconds of replication at a stretch: a call waits no longer. */
  sliceMilliseconds: 10,
  /** Bytes that the core takes at once. */
  chunkBytes: 65536,
  /** Bytes received that wait for the core; the core itself asks for a quarter of that at most. */
  receivedBytes: 16 << 20,
  /** Bytes handed to a socket that have not left. */
  unsentBytes: 1 << 20,
  /** Milliseconds until such bytes are looked at again: a socket does not say when they have left. */
  unsentMilliseconds: 20,
  /** Milliseconds until a connection must be open, and between attempts to open one. */
  openingMilliseconds: 15_000,
  firstRetryMilliseconds: 1000,
  lastRetryMilliseconds: 30_000,
  /** Milliseconds of silence after which a connection is given up when a person comes back to the page. */
  silentMilliseconds: 10_000,
  /** Milliseconds after which a connection counts as one that works. */
  steadyMilliseconds: 5000,
  /** Of the answer that names the hypha. */
  lookUpMilliseconds: 10_000,
  lookUpBytes: 4096,
  /** Milliseconds in which an always-on node must take a new hypha. */
  setUpMilliseconds: 60_000,
  /** Milliseconds between two questions whether the leading tab is there, and how many it may leave unanswered. */
  pingMilliseconds: 1000,
  unansweredPings: 4,
  /** Milliseconds in which a tab that derives keys need not answer. */
  deriveMilliseconds: 30_000,
  /** Calls of one tab that wait for their answers. */
  waitingCalls: 256,
  /** Posts in one answer. */
  posts: 1000,
  /** Times that the core may be made anew within so many milliseconds. */
  traps: 3,
  trapMilliseconds: 60_000,
};
