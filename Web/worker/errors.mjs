/** What a call could not do: `code` for programs, `message` for people. */
export class CallError extends Error {
  constructor(code, message) {
    super(message);
    this.name = 'CallError';
    this.code = code;
  }
}

/** Another tab has taken over what is kept here. */
export class FencedError extends CallError {
  constructor() {
    super('interrupted', 'Another tab has taken over.');
  }
}

/** An error as the page gets it. */
export function describe(error) {
  return { code: typeof error?.code === 'string' ? error.code : 'internal', message: String(error?.message ?? error) };
}
