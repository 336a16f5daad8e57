import { announce, perform, setText } from './elements.mjs';
import { recall, remember } from './memory.mjs';

/** Bytes of a post's text: HyphaLimits.postBytes. */
const largestPost = 65_536;

const encoder = new TextEncoder();
const numbers = new Intl.NumberFormat('en');

/** Sets up the form for a new post. @param post carries it out. @param showPost brings it into sight. */
export function composer(view, post, showPost) {
  const form = view.querySelector('#compose');
  const draft = form.querySelector('#draft');
  const count = form.querySelector('#count');
  const button = form.querySelector('button');
  const error = form.querySelector('#error');

  const show = () => {
    const characters = Array.from(draft.value).length;
    const over = encoder.encode(draft.value).length - largestPost;
    setText(count, over > 0 ? `${numbers.format(over)} bytes too long`
      : characters === 0 ? '' : `${numbers.format(characters)} ${characters === 1 ? 'character' : 'characters'}`);
    count.classList.toggle('over', over > 0);
    button.disabled = over > 0 || draft.value.trim() === '';
    if (!CSS.supports('field-sizing', 'content')) {
      draft.style.height = 'auto';
      draft.style.height = `${draft.scrollHeight}px`;
    }
  };

  const send = () => perform(button, error, async () => {
    const text = draft.value;
    if (button.disabled) return;
    await post(text);
    // At once: what is published is not to be offered again after a reload. What was typed meanwhile stays.
    draft.value = draft.value === text ? '' : draft.value;
    remember('draft', draft.value);
    show();
    await showPost();
    announce('Posted');
  });

  draft.value = recall('draft') ?? '';
  draft.addEventListener('input', () => {
    remember('draft', draft.value);
    show();
  });
  draft.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
    event.preventDefault();
    send();
  });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    send();
  });
  show();
  return form;
}
