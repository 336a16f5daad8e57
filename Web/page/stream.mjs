import { announce, byID, sentence, setText, template } from './elements.mjs';
import { composer } from './compose.mjs';
import { PostList } from './posts.mjs';
import { recall, remember } from './memory.mjs';
import { RequestList } from './requests.mjs';

/** Milliseconds in which a deletion can be taken back. */
const undoTime = 8000;

/** The posts, and for who may write the form for a new one and the devices that ask. */
export class StreamView {
  node = template('view-stream');
  #link;
  #list;
  #requests;
  #compose;
  #revision;
  #state;
  #deletion;

  constructor(link) {
    this.#link = link;
    this.#list = new PostList(this.node, (args) => link.call('posts', args), (id) => this.#delete(id));
    this.#requests = new RequestList(this.node.querySelector('#requests'), (call, args) => link.call(call, args));
    this.#compose = composer(this.node, (text) => link.call('post', { text }), async () => {
      await this.#list.refresh({ atTop: true });
      scrollTo({ top: 0 });
    });
  }

  update(state) {
    const before = this.#state;
    this.#state = state;
    const mayPost = state.access === 'authorised';
    this.#compose.hidden = !mayPost;
    this.#list.mayDelete = mayPost;
    this.#requests.update(mayPost ? state.requests : []);
    if (mayPost && before?.access !== 'authorised') this.#finishDeletion(recall('deleting'));
    if (state.revision === this.#revision) return this.#showEmpty();
    this.#revision = state.revision;
    this.#list.refresh().then(() => this.#showEmpty());
  }

  #showEmpty() {
    const { access, network } = this.#state;
    const empty = this.node.querySelector('#empty');
    empty.hidden = !this.#list.isEmpty;
    setText(empty, access === 'authorised' ? 'Nothing here yet. Write the first post.'
      : network === 'catchingUp' ? 'Fetching the posts…' : 'Nothing has been posted here yet.');
  }

  // MARK: deleting

  /** Takes a post away, and deletes it once it is too late to want it back: a deletion is for ever. */
  #delete(id) {
    this.#finishDeletion();
    this.#list.hide(id, true);
    remember('deleting', id);
    byID('toast-text').textContent = 'Post deleted.';
    byID('toast').hidden = false;
    byID('undo').onclick = () => {
      clearTimeout(this.#deletion.timer);
      this.#deletion = undefined;
      remember('deleting');
      byID('toast').hidden = true;
      this.#list.hide(id, false);
      announce('The post is there again');
    };
    this.#deletion = { id, timer: setTimeout(() => this.#finishDeletion(), undoTime) };
  }

  /** @param id of a post that a page which is gone was to delete. */
  async #finishDeletion(id = this.#deletion?.id) {
    if (!id) return;
    clearTimeout(this.#deletion?.timer);
    this.#deletion = undefined;
    byID('toast').hidden = true;
    try {
      await this.#link.call('deletePost', { id });
    } catch (error) {
      if (error.code !== 'unknownPost') announce(sentence(error.message));
      this.#list.hide(id, false);
    }
    if (recall('deleting') === id) remember('deleting');
  }
}
