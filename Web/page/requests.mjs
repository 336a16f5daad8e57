import { announce, perform, setText, template } from './elements.mjs';
import { ago } from './times.mjs';

/** Shows devices that ask to be let in; each is answered where it stands. */
export class RequestList {
  #root;
  #call;

  constructor(root, call) {
    this.#root = root;
    this.#call = call;
  }

  update(requests) {
    const there = new Map(Array.from(this.#root.children, (node) => [node.dataset.request, node]));
    for (const request of requests) {
      let node = there.get(request.id);
      there.delete(request.id);
      if (!node) {
        node = this.#make(request);
        this.#root.append(node);
        announce(`${request.name} asks to be let in`);
      }
      setText(node.querySelector('.age'), ago(request.created));
    }
    for (const node of there.values()) node.remove();
  }

  #make(request) {
    const node = template('part-request');
    node.dataset.request = request.id;
    node.querySelector('.name').textContent = request.name;
    node.querySelector('.words').textContent = request.words;
    const error = node.querySelector('.error');
    for (const [name, said] of [['approve', 'Let in'], ['deny', 'Denied']]) {
      const button = node.querySelector(`.${name}`);
      button.addEventListener('click', () => perform(button, error, async () => {
        await this.#call(name, { id: request.id });
        announce(`${said}: ${request.name}`);
      }));
    }
    return node;
  }
}
