import { announce, byID, perform, sentence, setText, template } from './elements.mjs';
import { DevicesView } from './devices.mjs';
import { Link } from './link.mjs';
import { Setup } from './setup.mjs';
import { SignInView, WaitingView, showStanding } from './sign-in.mjs';
import { SignOutView } from './sign-out.mjs';
import { StreamView } from './stream.mjs';
import { refreshTimes } from './times.mjs';
import { followUpdates } from './updates.mjs';

const networkNames = { live: 'Live', catchingUp: 'Catching up', offline: 'Offline' };

const main = byID('main');
const link = new Link();
const setup = new Setup(link, (name, view) => {
  if (view) show(name, view, true); else render();
});
/** The view that is shown, and the one with the posts, which keeps its place while another is shown. */
let view;
let stream;
let streamTop = 0;
let state = { phase: 'starting' };

function show(name, next, isFresh = false) {
  if (main.dataset.view === name && !isFresh) return;
  const isFirst = main.dataset.view === 'starting';
  if (main.dataset.view === 'stream') streamTop = scrollY;
  view = next;
  main.replaceChildren(next.node);
  main.dataset.view = name;
  next.update(state);
  scrollTo({ top: name === 'stream' ? streamTop : 0 });
  if (isFirst && name === 'stream') return;
  const first = name === 'stream' ? undefined : next.node.querySelector('input:not([tabindex="-1"]):not([type=checkbox])');
  const target = first ?? next.node.querySelector('h1') ?? main;
  if (target.matches('h1')) target.tabIndex = -1;
  target.focus({ preventScroll: true });
}

const simple = (id, prepare = () => {}) => () => {
  const node = template(id);
  prepare(node);
  return { node, update: (now) => setText(node.querySelector('#error'), now.error ? sentence(now.error.message) : '') };
};

const views = {
  unreachable: simple('view-unreachable', (node) => {
    const button = node.querySelector('#retry');
    button.addEventListener('click', () => perform(button, undefined, () => link.call('retry')));
  }),
  failed: simple('view-failed', (node) => {
    node.querySelector('#reload').addEventListener('click', () => location.reload());
  }),
  stream: () => stream ??= new StreamView(link),
  'sign-in': () => new SignInView(link, false),
  unlock: () => new SignInView(link, true),
  'sign-out': () => new SignOutView(link),
  waiting: () => new WaitingView(link),
  forked: simple('view-forked', (node) => {
    node.querySelector('#sign-in-again').addEventListener('click', () => { location.hash = '#sign-in'; });
  }),
  devices: () => new DevicesView(link),
};

/** The view that the node's state and the address ask for. */
function wanted() {
  const { phase, access } = state;
  if (phase !== 'open') return phase;
  if (location.hash === '#sign-in' && ['reader', 'revoked', 'forked'].includes(access)) return 'sign-in';
  if (location.hash === '#unlock' && access === 'locked') return 'unlock';
  if (location.hash === '#sign-out' && ['locked', 'behind'].includes(access)) return 'sign-out';
  if (location.hash === '#devices' && access === 'authorised') return 'devices';
  if (access === 'forked' && location.hash !== '#read') return 'forked';
  if (['waiting', 'denied', 'expired'].includes(access) && location.hash !== '#read') return 'waiting';
  return 'stream';
}

function render() {
  showBar();
  if (setup.isUnderWay) return view.update(state);
  const name = wanted();
  // A node that does not answer for a while, or a tab that takes over, takes nobody's passphrase away: it may be saved.
  if (name === 'uninitialised' || (setup.stage && ['starting', 'unreachable'].includes(name))) return setup.begin();
  setup.end();
  if (name === 'starting') return showProgress();
  if (main.dataset.view === name) view.update(state); else show(name, views[name]());
}

function showBar() {
  const { phase, access, host, network, progress, requests = [], storage, key } = state;
  const isOpen = phase === 'open';
  setText(byID('host'), host ?? location.hostname);
  const badge = byID('network');
  badge.dataset.network = isOpen ? network : '';
  setText(badge, isOpen ? networkNames[network] : '');
  const sync = byID('sync');
  sync.hidden = progress?.what !== 'sync' || !progress.of;
  if (!sync.hidden) sync.value = progress.done / progress.of;
  byID('open-sign-in').hidden = !isOpen || access !== 'reader' || storage === 'unopened';
  byID('open-devices').hidden = !isOpen || access !== 'authorised';
  const pending = byID('pending');
  pending.hidden = requests.length === 0;
  setText(pending.firstElementChild, String(requests.length));
  byID('storage').hidden = !isOpen || storage !== 'memory';
  byID('link-line').hidden = !key;
  showStanding(state);
  const name = host ?? location.hostname;
  document.title = requests.length > 0 && access === 'authorised' ? `(${requests.length}) ${name}` : name;
}

function showProgress() {
  const { progress } = state;
  setText(byID('starting-text'), progress?.what === 'load' ? 'Opening what is kept here…' : 'Opening…');
}

function take(next) {
  const before = state;
  state = next;
  if (before.access === 'waiting' && next.access === 'authorised') announce('This device was let in. You can post now.');
  render();
}

link.onstate = take;
addEventListener('hashchange', render);
addEventListener('online', () => link.call('retry').catch(() => {}));
setInterval(refreshTimes, 30_000);
byID('copy-link').addEventListener('click', async ({ currentTarget: button }) => {
  await navigator.clipboard.writeText(`dat://${state.key}`);
  setText(button, 'Copied');
  announce('Copied');
  setTimeout(() => setText(button, 'Copy hyphalink'), 2000);
});

try {
  await link.start();
} catch (error) {
  take({ phase: 'failed', error: { code: error.code ?? 'worker', message: error.message } });
}
followUpdates();
