import { announce, perform, setText, template } from './elements.mjs';

export const signOutText = (isOrigin) => isOrigin
  ? 'Takes the keys off this device. What it wrote stays. With the passphrase, and once no other device is left, it can come back as the first one.'
  : 'Takes the keys off this device. What it wrote stays. To write again it must be let in anew.';

/** Has a button lock this device or sign it out. @param said once that is done */
export function leavesWith(button, error, link, call, said) {
  button.addEventListener('click', () => perform(button, error, async () => {
    await link.call(call);
    announce(said);
    location.replace('#');
  }));
}

/** For a device that is locked or behind, which may never be anything else. */
export class SignOutView {
  node = template('view-sign-out');

  constructor(link) {
    leavesWith(this.node.querySelector('#sign-out'), this.node.querySelector('#error'), link, 'signOut', 'Signed out');
  }

  update({ isOrigin }) { setText(this.node.querySelector('#sign-out-text'), signOutText(isOrigin)); }
}
