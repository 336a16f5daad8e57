import { announce, element, sentence, setText, template } from './elements.mjs';
import { suggestedDeviceName } from './device-name.mjs';
import { keepStorage } from './memory.mjs';

/** Takes the setup code from the address, where a link from the server has it, and out of the address. */
export function takeSetupCode() {
  const code = /^#setup=(.+)$/.exec(location.hash)?.[1];
  if (!code) return undefined;
  history.replaceState(null, '', '/');
  try { return decodeURIComponent(code); } catch {
    // It is no code, then: the page asks for it.
    return undefined;
  }
}

/** The way from an empty node to one's own: setup code, passphrase, two words of it back, and off it goes. */
export class Setup {
  #link;
  #show;
  #code;
  #passphrase;
  #deviceName = suggestedDeviceName();
  /** Whether keys are being made or handed over: the page then stays where it is, whatever the node's state. */
  isUnderWay = false;
  stage;

  /** @param show called with a stage's name and its view, where that is to change. */
  constructor(link, show) {
    this.#link = link;
    this.#show = show;
    this.#code = takeSetupCode();
  }

  begin() {
    if (this.stage) return;
    if (this.#code) this.#words(); else this.#askCode();
  }

  /** Forgets what this page knows: the node is somebody's. */
  end() {
    this.stage = undefined;
    this.#passphrase = undefined;
  }

  #go(stage, node, update) {
    this.stage = stage;
    this.#show(`setup-${stage}`, { node, update: update ?? (() => {}) });
  }

  #askCode(message) {
    const node = template('view-setup-code');
    const input = node.querySelector('#setup-code');
    const error = node.querySelector('#error');
    node.querySelector('form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#code = input.value.trim();
      if (!this.#code) {
        setText(error, 'Type the setup code that the server shows.');
        input.focus();
      } else if (this.#passphrase) {
        this.#finish();
      } else {
        this.#words();
      }
    });
    this.#go('code', node);
    if (message) {
      input.value = this.#code;
      input.setAttribute('aria-invalid', 'true');
      setText(error, message);
      input.focus();
    }
  }

  async #words() {
    const node = template('view-setup-words');
    const list = node.querySelector('#words');
    const fill = async () => {
      this.#passphrase ??= await this.#link.call('newPassphrase');
      list.replaceChildren(...this.#passphrase.split(' ').map((word) => element('li', { textContent: word })));
      // For password managers.
      node.querySelector('[name=username]').value = location.hostname;
      node.querySelector('[name=new-password]').value = this.#passphrase;
    };
    node.querySelector('#another').addEventListener('click', async () => {
      this.#passphrase = undefined;
      await fill();
      announce(`Another passphrase: ${this.#passphrase}`);
    });
    const copy = node.querySelector('#copy');
    copy.addEventListener('click', async () => {
      await navigator.clipboard.writeText(this.#passphrase);
      setText(copy, 'Copied');
      announce('Copied');
    });
    node.querySelector('form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#confirm();
    });
    await fill();
    this.#go('words', node);
  }

  #confirm() {
    const words = this.#passphrase.split(' ');
    const node = template('view-setup-confirm');
    const error = node.querySelector('#error');
    const name = node.querySelector('#device-name');
    const places = [Math.floor(Math.random() * 4), 4 + Math.floor(Math.random() * (words.length - 4))];
    const inputs = Array.from(node.querySelectorAll('.asked'));
    inputs.forEach((input, number) => {
      input.dataset.place = places[number] + 1;
      setText(node.querySelector(`[for=${input.id}]`), `Word ${places[number] + 1}`);
    });
    name.value = this.#deviceName;
    node.querySelector('#back').addEventListener('click', () => this.#words());
    node.querySelector('form').addEventListener('submit', (event) => {
      event.preventDefault();
      const wrong = inputs.filter((input, number) => input.value.trim().toLowerCase() !== words[places[number]]);
      for (const input of inputs) input.setAttribute('aria-invalid', wrong.includes(input));
      if (wrong.length > 0) {
        setText(error, `Word ${wrong[0].dataset.place} is another one. Look at what you saved.`);
        wrong[0].focus();
        return;
      }
      if (!name.value.trim()) {
        setText(error, 'Give this device a name.');
        name.focus();
        return;
      }
      this.#deviceName = name.value.trim();
      this.#finish();
    });
    this.#go('confirm', node);
  }

  async #finish() {
    const node = template('view-setup-progress');
    const stages = Array.from(node.querySelectorAll('[data-stage]'));
    this.isUnderWay = true;
    this.#go('progress', node, (state) => {
      const now = stages.findIndex((stage) => stage.dataset.stage === (state.progress?.what ?? 'keys'));
      stages.forEach((stage, place) => {
        stage.classList.toggle('done', place < now);
        stage.classList.toggle('current', place === now);
      });
    });
    try {
      await this.#link.call('setUp', { code: this.#code, passphrase: this.#passphrase, deviceName: this.#deviceName });
      this.isUnderWay = false;
      this.end();
      keepStorage(this.#link);
      announce('This place is yours now');
      this.#show();
    } catch (error) {
      this.isUnderWay = false;
      this.#askCode(sentence(error.message));
    }
  }
}
