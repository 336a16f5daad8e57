import { CallError, describe } from './errors.mjs';
import { Leader } from './leader.mjs';
import { openStore } from './storage.mjs';
import { Tabs } from './tabs.mjs';

function whatIsMissing(scope) {
  if (!scope.isSecureContext) return 'Only over https can this page keep secrets: open it with https://.';
  if (!scope.navigator.locks || typeof BroadcastChannel !== 'function') return 'This browser is too old.';
  return undefined;
}

/** Answers a page's messages. */
function serve(scope) {
  let tabs;
  let isVisible = true;

  const begin = (start) => {
    const missing = whatIsMissing(scope);
    if (missing) {
      scope.postMessage({ state: { phase: 'failed', host: start.host, error: { code: 'unsupported', message: missing } } });
      return;
    }
    const environment = {
      openStore: () => openStore(start.host, scope),
      makeSocket: (url) => new WebSocket(url),
      fetch: (...request) => fetch(...request),
      isPersisted: async () => {
        try { return await scope.navigator.storage.persisted(); } catch { return false; }
      },
    };
    tabs = new Tabs({
      locks: scope.navigator.locks,
      channel: new BroadcastChannel('hypha'),
      makeLeader: (on) => new Leader(start, environment, on),
      show: (state) => scope.postMessage({ state }),
    });
    tabs.start();
    tabs.setVisible(isVisible);
    scope.addEventListener('online', () => tabs.wake());
    scope.addEventListener('offline', () => tabs.sleep());
  };

  const answer = async ({ id, call, args }) => {
    try {
      if (!tabs) throw new CallError('notOpen', 'The page has not started its worker.');
      scope.postMessage({ id, value: await tabs.call(call, args) });
    } catch (error) {
      if (typeof error?.code !== 'string') console.error(error);
      scope.postMessage({ id, error: describe(error) });
    }
  };

  scope.onmessage = ({ data }) => {
    if (data.start && !tabs) begin(data.start);
    if (data.visible !== undefined) {
      isVisible = data.visible;
      tabs?.setVisible(isVisible);
    }
    if (data.call !== undefined) answer(data);
  };
}

if (typeof WorkerGlobalScope === 'function' && globalThis instanceof WorkerGlobalScope) serve(globalThis);
