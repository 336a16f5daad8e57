// The page's markup is in index.html: views and parts as templates, found by id. Text goes in as text, never as HTML.

export const byID = (id) => document.getElementById(id);

/** A fresh copy of the template with this id. */
export function template(id) {
  return byID(id).content.firstElementChild.cloneNode(true);
}

export function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

/** Changes text only where it is another one: a live region speaks at every change. */
export function setText(node, text) {
  if (node && node.textContent !== text) node.textContent = text;
}

/** Runs what a button or form starts: once at a time, with its error beside it. */
export async function perform(button, errorNode, work) {
  if (button?.getAttribute('aria-busy') === 'true') return;
  button?.setAttribute('aria-busy', 'true');
  setText(errorNode, '');
  try {
    await work();
  } catch (error) {
    setText(errorNode, sentence(error.message));
  } finally {
    button?.removeAttribute('aria-busy');
  }
}

/** An error's words as a sentence. */
export function sentence(text) {
  const first = `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

/** Says something to who does not see the page. */
export function announce(text) {
  const notice = byID('notice');
  notice.textContent = '';
  requestAnimationFrame(() => { notice.textContent = text; });
}
