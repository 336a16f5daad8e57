import { announce, byID, element, perform, setText, template } from './elements.mjs';
import { suggestedDeviceName } from './device-name.mjs';
import { keepStorage } from './memory.mjs';

const passphraseWords = 8;

/** A passphrase's words are checked while they are typed, the last one once it is left. */
function checkWords(link, input, hint) {
  let number = 0;
  const check = async (isDone) => {
    number += 1;
    const mine = number;
    const text = isDone ? input.value : input.value.replace(/[^\s-]+$/, '');
    const { wrong } = await link.call('checkPassphrase', { text });
    if (mine !== number) return;
    const words = input.value.split(/[\s-]+/).filter(Boolean).length;
    const first = wrong[0];
    input.setAttribute('aria-invalid', first !== undefined);
    hint.classList.toggle('error', first !== undefined);
    setText(hint, first
      ? `Word ${first.place} is not on the word list.${first.hint ? ` Is it “${first.hint}”?` : ''}`
      : words === 0 ? 'Eight words' : words < passphraseWords ? `${words} of eight words` : `${words} words`);
  };
  input.addEventListener('input', () => check(false));
  input.addEventListener('change', () => check(true));
}

/** The form for the passphrase: to let this device in, or to unlock it. */
export class SignInView {
  node = template('view-sign-in');

  /** @param isUnlock the device is in already, and locked. */
  constructor(link, isUnlock) {
    const find = (id) => this.node.querySelector(`#${id}`);
    const form = find('sign-in');
    const input = find('passphrase');
    const name = find('device-name');
    const origin = find('as-origin');
    const submit = form.querySelector('[type=submit]');
    const error = find('error');
    if (isUnlock) {
      form.id = 'unlock';
      setText(find('sign-in-title'), 'Unlock');
      setText(find('sign-in-text'), 'This device is locked. Its keys open with your passphrase.');
      setText(submit, 'Unlock');
      find('device-part').remove();
      find('leave').hidden = false;
    } else {
      name.value = suggestedDeviceName();
      origin.addEventListener('change', () => setText(submit, origin.checked ? 'Become the first device' : 'Sign in'));
    }
    form.querySelector('[name=username]').value = location.hostname;
    checkWords(link, input, find('passphrase-check'));
    const show = find('show');
    show.addEventListener('click', () => {
      const isShown = input.type === 'password';
      input.type = isShown ? 'text' : 'password';
      setText(show, isShown ? 'Hide' : 'Show');
      show.setAttribute('aria-pressed', isShown);
    });
    find('cancel').addEventListener('click', () => history.back());
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      perform(submit, error, async () => {
        const passphrase = input.value;
        try {
          if (isUnlock) {
            await link.call('unlock', { passphrase });
          } else {
            await link.call('signIn', { passphrase, deviceName: name.value.trim(), asOrigin: origin.checked });
          }
        } catch (failure) {
          if (['badPassphrase', 'wrongPassphrase'].includes(failure.code)) input.focus();
          throw failure;
        }
        input.value = '';
        keepStorage(link);
        if (isUnlock) announce('Unlocked');
        location.replace('#');
      });
    });
  }

  update({ progress }) {
    setText(this.node.querySelector('#sign-in-progress'), progress?.what === 'keys' ? 'Making keys of the passphrase…' : '');
  }
}

/** A device that has asked to be let in. */
export class WaitingView {
  node = template('view-waiting');

  constructor(link) {
    const error = this.node.querySelector('#error');
    const again = this.node.querySelector('#ask-again');
    again.addEventListener('click', () => perform(again, error, () => link.call('requestAgain')));
    const giveUp = this.node.querySelector('#give-up');
    giveUp.addEventListener('click', () => perform(giveUp, error, () => link.call('signOut')));
  }

  update({ access, ownRequest, network, deviceName }) {
    const find = (id) => this.node.querySelector(`#${id}`);
    const isWaiting = access === 'waiting';
    setText(find('waiting-title'), isWaiting ? 'Waiting to be let in'
      : access === 'denied' ? 'This device was not let in' : 'Nobody answered in time');
    find('waiting-text').replaceChildren(...(isWaiting
      ? ['Open this page on a device that is in. It shows ', element('bdi', { textContent: `“${deviceName}”` }),
        ' and these words. If they are the same there, let this device in.']
      : access === 'denied' ? ['A device that is in said no. If that was a mistake, ask again: the words will be new.']
        : ['A request can be answered for seven days. Ask again: the words will be new.']));
    find('own-words').hidden = !isWaiting;
    setText(find('own-words'), isWaiting ? ownRequest?.words ?? '' : '');
    setText(find('waiting-more'), !isWaiting ? '' : network === 'offline'
      ? 'The node cannot be reached now: the request goes out as soon as it can.'
      : 'You can close this page, and come back later.');
    find('ask-again').hidden = isWaiting;
  }
}

/** What is said at the top of the page about what this device may do. */
export function showStanding({ access, network, unkept, phase, storage }) {
  const banner = byID('standing');
  const link = (text, href) => element('a', { textContent: text, href });
  const parts = phase !== 'open' ? []
    : storage === 'unopened' ? ['What this browser keeps for this site cannot be opened, so this page can only read. '
      + 'Close other tabs or make room on this device, and load the page again.']
    : access === 'locked' ? ['This device is locked. ', link('Unlock', '#unlock')]
      : access === 'revoked' ? ['This device was revoked: it can only read. ', link('Sign in again', '#sign-in')]
        : access === 'behind' ? ['This device fetches what it wrote before. It can post as soon as all of that is here. If no node has it any more: ',
            link('Sign out', '#sign-out')]
          : access === 'waiting' && location.hash === '#read' ? ['This device waits to be let in. ', link('Show the words', '#')]
            : access === 'forked' && location.hash === '#read' ? ['This device can only read. ', link('What happened', '#')]
              : unkept && network === 'offline' ? [storage === 'kept'
                ? 'What you wrote is kept on this device, and goes out when the node can be reached.'
                : 'What you wrote is in this tab alone: leave it open until the node can be reached.']
                : [];
  const text = parts.map((part) => part.textContent ?? part).join('');
  if (banner.textContent !== text) banner.replaceChildren(...parts);
  banner.hidden = parts.length === 0;
}
