import { announce, element, perform, setText, template } from './elements.mjs';
import { RequestList } from './requests.mjs';
import { leavesWith, signOutText } from './sign-out.mjs';
import { ago } from './times.mjs';

/** The devices that ask to be let in, those that may write, and what this one can do about itself. */
export class DevicesView {
  node = template('view-devices');
  #call;
  #requests;

  constructor(link) {
    this.#call = (call, args) => link.call(call, args);
    this.#requests = new RequestList(this.node.querySelector('#requests'), this.#call);
    const error = this.node.querySelector('#error');
    leavesWith(this.node.querySelector('#lock'), error, link, 'lock', 'Locked');
    leavesWith(this.node.querySelector('#sign-out'), error, link, 'signOut', 'Signed out');
  }

  update({ devices, isOrigin, storage, persisted, requests }) {
    this.#requests.update(requests);
    const list = this.node.querySelector('#devices');
    const there = new Map(Array.from(list.children, (row) => [row.dataset.writer, row]));
    for (const device of devices) {
      let row = there.get(device.writer);
      there.delete(device.writer);
      if (!row) list.append(row = this.#row(device));
      this.#fill(row, device);
    }
    for (const row of there.values()) row.remove();
    setText(this.node.querySelector('#persisted'), storage === 'memory'
      ? 'This browser keeps nothing for this site: signing in lasts until this tab is closed.'
      : persisted ? 'This browser keeps what is here until you take it away.'
        : 'This browser may throw away what is here when its disk is full. The node has it all the same.');
    setText(this.node.querySelector('#sign-out-text'), signOutText(isOrigin));
  }

  #row(device) {
    const row = template('part-device');
    const find = (name) => row.querySelector(name);
    const { writer } = device;
    row.dataset.writer = writer;
    const error = this.node.querySelector('#error');
    const naming = find('.naming');
    const asking = find('.asking');
    const open = (form, focus) => {
      naming.hidden = form !== naming;
      asking.hidden = form !== asking;
      focus.focus();
    };
    find('.rename').addEventListener('click', () => {
      const input = find('.new-name');
      input.value = find('.name').textContent;
      open(naming, input);
      input.select();
    });
    const submit = naming.querySelector('[type=submit]');
    naming.addEventListener('submit', (event) => {
      event.preventDefault();
      perform(submit, error, async () => {
        const name = find('.new-name').value.trim();
        await this.#call('rename', { writer, name });
        announce(`Renamed to ${name}`);
        open(undefined, find('.rename'));
      });
    });
    find('.revoke').addEventListener('click', () => {
      if (row.isRevoked) {
        perform(find('.revoke'), error, () => this.#call('restore', { writer }));
        return;
      }
      const name = element('bdi', { textContent: `“${find('.name').textContent}”` });
      asking.firstElementChild.replaceChildren(
        name, ' will not be able to post or let others in any more. What it wrote so far stays.');
      open(asking, find('.really'));
    });
    const really = find('.really');
    really.addEventListener('click', () => perform(really, error, async () => {
      await this.#call('revoke', { writer });
      announce('Revoked');
      open(undefined, find('.revoke'));
    }));
    for (const leave of row.querySelectorAll('.leave')) {
      leave.addEventListener('click', () => open(undefined, find('.rename')));
    }
    return row;
  }

  #fill(row, { name, writer, isOwn, isOrigin, approved, revoked }) {
    const isRevoked = revoked !== undefined;
    row.isRevoked = isRevoked;
    setText(row.querySelector('.name'), name || `Device ${writer.slice(0, 8)}`);
    setText(row.querySelector('.tag'), [isOwn && 'this device', isOrigin && 'the first one'].filter(Boolean).join(', '));
    setText(row.querySelector('.hint'), isRevoked ? `Revoked ${revoked ? ago(revoked) : ''}`
      : approved ? `Let in ${ago(approved)}` : '');
    row.querySelector('.rename').hidden = isRevoked;
    const revoke = row.querySelector('.revoke');
    revoke.hidden = isOwn || isOrigin;
    setText(revoke, isRevoked ? 'Take it back' : 'Revoke');
  }
}
