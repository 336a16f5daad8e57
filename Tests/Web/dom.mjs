// As much of a document as the page's list of posts and what is around it need. Nothing has a size: all that is not hidden is in sight.

class Part {
  children = [];
  dataset = {};
  style = {};
  classList = { toggle() {}, add() {}, remove() {} };
  hidden = false;
  textContent = '';
  parentElement = null;
  #found = {};

  get childElementCount() { return this.children.length; }
  get firstElementChild() { return this.children[0] ?? null; }
  get nextElementSibling() {
    const { children } = this.parentElement;
    return children[children.indexOf(this) + 1] ?? null;
  }

  get isConnected() { return this.parentElement !== null; }
  get content() { return { firstElementChild: new Part() }; }
  append(...parts) {
    for (const part of parts) if (part instanceof Part) this.insertBefore(part, null); else this.textContent += part;
  }

  insertBefore(part, before) {
    part.remove();
    part.parentElement = this;
    this.children.splice(before ? this.children.indexOf(before) : this.children.length, 0, part);
  }

  replaceChildren(...parts) {
    for (const child of [...this.children]) child.remove();
    this.append(...parts);
  }

  remove() {
    const siblings = this.parentElement?.children;
    siblings?.splice(siblings.indexOf(this), 1);
    this.parentElement = null;
  }

  /** Another part for each selector. */
  querySelector(selector) { return this.#found[selector] ??= new Part(); }
  querySelectorAll() { return []; }
  cloneNode() { return new Part(); }
  getBoundingClientRect() { return { top: 0 }; }
  setAttribute() {}
  contains() { return false; }
  after() {}
  focus() {}
  addEventListener() {}
}

const observers = new Set();

globalThis.IntersectionObserver = class {
  targets = new Set();
  constructor(tell) {
    this.tell = tell;
    observers.add(this);
  }

  observe(target) { this.targets.add(target); }
  unobserve(target) { this.targets.delete(target); }
};

class PageStorage {
  getItem(name) { return this[name] ?? null; }
  setItem(name, value) { this[name] = String(value); }
  removeItem(name) { delete this[name]; }
}

Object.assign(globalThis, {
  localStorage: new PageStorage(), CSS: { supports: () => true },
  document: { createElement: () => new Part(), getElementById: () => new Part(), activeElement: null },
  scrollY: 0, innerHeight: 800, scrollTo() {}, requestAnimationFrame() {},
});

export const newPart = () => new Part();

/** Has the observers see what is there now. */
export function look() {
  for (const { targets, tell } of observers) {
    tell([...targets].map((target) => ({ target, isIntersecting: !target.hidden })));
  }
}
