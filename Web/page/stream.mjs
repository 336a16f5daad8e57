import { announce, byID, sentence, setText, template } from './elements.mjs';
import { composer } from './compose.mjs';
import { PostList } from './posts.mjs';
import { recall, recallAll, remember } from './memory.mjs';
import { RequestList } from './requests.mjs';

/** Milliseconds in which a deletion can be taken back, and after that until another page finishes it. */
const undoTime = 8000;
const graceTime = 2000;
/** Remembers until when a deletion can be taken back: a name for each, for tabs that delete at the same time. */
const deletingName = (id) => `deleting.${id}`;

/** Milliseconds until another page finishes a deletion: as many as can be where what is remembered is no such time. */
function deletionWait(until) {
  const left = until - Date.now();
  // A timer takes a time that is long past for one to come.
  return (left <= undoTime ? Math.max(0, left) : undoTime) + graceTime;
}

/** The posts, and for who may write the form for a new one and the devices that ask. */
export class StreamView {
  node = template('view-stream');
  #link;
  #list;
  #requests;
  #compose;
  #revision;
  #state;
  /** The one that can be taken back here. */
  #deletion;
  #toastTimer;

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
    if (mayPost && before?.access !== 'authorised') this.#resumeDeletions();
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
    this.#hide(id, true);
    const until = Date.now() + undoTime;
    remember(deletingName(id), until);
    this.#deletion = { id, timer: setTimeout(() => this.#finishDeletion(), undoTime) };
    this.#tell('Post deleted.', () => {
      // A machine that slept meanwhile has another page finish it.
      if (Date.now() >= until) {
        this.#finishDeletion();
        this.#tell('Too late: the post is deleted.');
        return;
      }
      clearTimeout(this.#deletion.timer);
      this.#deletion = undefined;
      remember(deletingName(id));
      byID('toast').hidden = true;
      this.#hide(id, false);
      announce('The post is there again');
    });
  }

  #hide(id, isHidden) { this.#list.hide(id, isHidden).then(() => this.#showEmpty()); }

  #finishDeletion() {
    if (!this.#deletion) return;
    const { id, timer } = this.#deletion;
    clearTimeout(timer);
    this.#deletion = undefined;
    this.#deletePost(id);
  }

  /** Takes away what other pages took away, and deletes it where they are gone before they did. */
  #resumeDeletions() {
    for (const [id, until] of recallAll(deletingName(''))) this.#resumeDeletion(id, until);
  }

  #resumeDeletion(id, until) {
    this.#hide(id, true);
    setTimeout(() => {
      const now = recall(deletingName(id));
      if (now === until) return this.#deletePost(id);
      // It was taken back since, and perhaps taken away once more, or it is deleted.
      if (now) this.#resumeDeletion(id, now); else this.#hide(id, false);
    }, deletionWait(until));
  }

  async #deletePost(id) {
    try {
      await this.#link.call('deletePost', { id });
    } catch (error) {
      if (error.code !== 'unknownPost') this.#sayFailure(`The post was not deleted. ${sentence(error.message)}`);
      this.#hide(id, false);
    }
    remember(deletingName(id));
  }

  /** What can still be taken back is not covered by it. */
  #sayFailure(text) {
    if (this.#deletion) announce(text); else this.#tell(text);
  }

  /** Says something for a while. @param undo takes it back, where it can be. */
  #tell(text, undo) {
    clearTimeout(this.#toastTimer);
    byID('toast-text').textContent = text;
    byID('undo').hidden = !undo;
    byID('undo').onclick = undo;
    byID('toast').hidden = false;
    this.#toastTimer = setTimeout(() => { byID('toast').hidden = true; }, undoTime);
  }
}
