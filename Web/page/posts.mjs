// The stream of posts, newest first. It is cut into chunks, and only chunks near to what is in sight have elements; the
// others keep their place by their height. So fifty thousand posts cost no more than fifty.
import { announce, element, template } from './elements.mjs';
import { showTime } from './times.mjs';

const chunkSize = 40;
/** A post with more characters or lines is folded. */
const foldedCharacters = 1500;
const foldedLines = 14;
/** Of a post that is folded, no more is laid out; it is more than there is to see. Some texts take minutes to lay out. */
const laidOutCharacters = 2000;
/** Pixels from the top up to which new posts are shown at once. */
const topPixels = 120;

const links = /https?:\/\/[^\s<>"“”«»]+/g;
/** Punctuation that is the sentence's where an address ends with it. */
const sentenceMarks = new Set('.,;:!?\'’)]}');
/** Links that one post has at most, and characters of each: what a post costs to show has a bound. */
const mostLinks = 200;
const longestLink = 2048;

/** The web addresses in a text that are to be links, and where each begins. */
export function* addressesIn(text) {
  let count = 0;
  for (const { 0: found, index } of text.matchAll(links)) {
    let length = found.length;
    while (sentenceMarks.has(found[length - 1])) length -= 1;
    // A long one is not even looked at: to read a long name takes the square of its length.
    if (length > longestLink) continue;
    const address = found.slice(0, length);
    if (!URL.canParse(address)) continue;
    yield { address, index };
    count += 1;
    if (count === mostLinks) return;
  }
}

/** Text with its web addresses as links; what they show is where they lead. What is behind `size` is there, but hidden. */
function fillText(node, text, size = text.length) {
  let end = 0;
  for (const { address, index } of addressesIn(text)) {
    if (index + address.length > size) break;
    node.append(text.slice(end, index));
    node.append(element('a', { href: address, textContent: address, rel: 'noopener noreferrer nofollow', target: '_blank' }));
    end = index + address.length;
  }
  node.append(text.slice(end, size));
  if (size < text.length) node.append(element('span', { hidden: true, textContent: text.slice(size) }));
}

/** How much of a text is laid out while it is folded; nothing says that it is short. */
function foldedSize(text) {
  const lines = text.split('\n', foldedLines + 1);
  if (text.length <= foldedCharacters && lines.length <= foldedLines) return undefined;
  return Math.min(lines.join('\n').length, laidOutCharacters);
}

export class PostList {
  #root;
  #more;
  #arrivals;
  #read;
  #delete;
  /** Each has the posts below the chunk above it down to its `oldest`: posts that come late have a chunk, too. */
  #chunks = [];
  /** The newest post that is shown or has been: what is above it has no chunk yet. */
  #newest;
  #hasMore = false;
  #hidden = new Set();
  #work = Promise.resolve();
  #wanted = false;
  #mayDelete = false;
  #sections;
  #isEmpty = true;

  /**
   * @param view the element with `#posts`, `#more` and `#arrivals`.
   * @param read gives `{posts, more}` for `{limit, before}`.
   * @param remove called with the id of a post that is to be deleted.
   */
  constructor(view, read, remove) {
    this.#root = view.querySelector('#posts');
    this.#more = view.querySelector('#more');
    this.#arrivals = view.querySelector('#arrivals');
    this.#read = read;
    this.#delete = remove;
    this.#sections = new IntersectionObserver((entries) => {
      for (const entry of entries) this.#enqueue(() => this.#turn(entry.target, entry.isIntersecting));
    }, { rootMargin: '1500px 0px' });
    new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) this.#enqueue(() => this.#extend());
    }, { rootMargin: '1500px 0px' }).observe(this.#more);
    this.#arrivals.addEventListener('click', () => {
      scrollTo({ top: 0 });
      this.refresh({ atTop: true });
      this.#root.focus();
    });
    this.#root.tabIndex = -1;
    this.#root.addEventListener('keydown', (event) => this.#move(event));
  }

  get isEmpty() { return this.#isEmpty; }

  set mayDelete(value) {
    if (value === this.#mayDelete) return;
    this.#mayDelete = value;
    for (const button of this.#root.querySelectorAll('.delete')) button.hidden = !value;
  }

  /** Takes a post out of sight, or lets it be seen again. */
  hide(id, isHidden) {
    if (isHidden) this.#hidden.add(id); else this.#hidden.delete(id);
    return this.refresh();
  }

  /** Reads anew what is in sight. @param atTop also what would wait behind a button. */
  refresh({ atTop = false } = {}) {
    if (atTop) return this.#enqueue(() => this.#update(true));
    if (this.#wanted) return this.#work;
    this.#wanted = true;
    return this.#enqueue(() => {
      this.#wanted = false;
      return this.#update(false);
    });
  }

  #enqueue(work) {
    this.#work = this.#work.then(work).catch((error) => console.error(error));
    return this.#work;
  }

  // MARK: reading

  async #update(atTop) {
    const { posts, more } = await this.#read({ limit: 2 * chunkSize });
    const first = this.#chunks[0];
    const newest = this.#newest;
    const arrived = newest === undefined ? posts : posts.filter((post) => post.id > newest);
    const isFar = newest !== undefined && arrived.length === posts.length && more;
    if (newest !== undefined && arrived.length > 0 && !atTop && scrollY > topPixels) {
      const count = arrived.filter((post) => !this.#hidden.has(post.id)).length;
      const text = isFar ? 'New posts' : count === 1 ? '1 new post' : `${count} new posts`;
      if (count > 0 && this.#arrivals.textContent !== text) announce(text);
      this.#arrivals.textContent = text;
      this.#arrivals.hidden = count === 0;
    } else {
      this.#arrivals.hidden = true;
      if (!first || isFar) {
        this.#reset(posts, more);
      } else if (arrived.length > 0) {
        this.#prepend(arrived);
        announce(arrived.length === 1 ? 'A new post' : `${arrived.length} new posts`);
      }
    }
    for (const chunk of this.#chunks) {
      if (chunk.isShown) this.#show(chunk, await this.#postsOf(chunk));
    }
    const last = this.#chunks.at(-1);
    if (last && !this.#hasMore) {
      const { posts: below } = await this.#readOn(1, last.oldest);
      this.#setMore(below.some((post) => post.id < last.oldest));
    }
    this.#isEmpty = this.#chunks.every((chunk) => chunk.isShown && chunk.section.childElementCount === 0) && !this.#hasMore;
    // A feed without articles is none.
    this.#root.hidden = this.#isEmpty;
  }

  #reset(posts, more) {
    for (const chunk of this.#chunks) this.#drop(chunk);
    this.#chunks = [];
    this.#newest = posts[0]?.id;
    this.#hasMore = false;
    if (posts.length === 0) return;
    const shown = posts.slice(0, chunkSize);
    this.#add(shown, this.#chunks.length);
    this.#setMore(more || posts.length > shown.length);
  }

  #prepend(posts) {
    const first = this.#chunks[0];
    this.#newest = posts[0].id;
    if (first.isShown && first.section.childElementCount + posts.length <= 2 * chunkSize) {
      first.fresh = new Set(posts.map((post) => post.id));
    } else {
      this.#add(posts, 0);
    }
  }

  #add(posts, place) {
    const section = element('section');
    const chunk = { section, oldest: posts.at(-1).id, isShown: true };
    section.chunk = chunk;
    // Sections of a hidden root are out of sight to the observer, which would empty them.
    this.#root.hidden = false;
    this.#root.insertBefore(section, this.#chunks[place]?.section ?? null);
    this.#chunks.splice(place, 0, chunk);
    this.#show(chunk, posts);
    this.#sections.observe(section);
  }

  #drop(chunk) {
    this.#sections.unobserve(chunk.section);
    chunk.section.remove();
  }

  #setMore(more) {
    this.#hasMore = more;
    this.#more.hidden = !more;
  }

  async #extend() {
    const last = this.#chunks.at(-1);
    if (!last || !this.#hasMore) return;
    const { posts, more } = await this.#readOn(chunkSize, last.oldest);
    if (posts.length > 0) this.#add(posts, this.#chunks.length);
    this.#setMore(more);
    // Observers tell of changes only: as long as the end is in sight, go on.
    if (more && this.#more.getBoundingClientRect().top < innerHeight + 1500) this.#enqueue(() => this.#extend());
  }

  /** Posts below one, or the newest. Where their ids do not fall there are no `more`: to read on would have no end. */
  async #readOn(limit, before) {
    const { posts, more } = await this.#read({ limit, before });
    const falls = posts.every(({ id }, place) => {
      const above = place > 0 ? posts[place - 1].id : before;
      return above === undefined || id < above;
    });
    return { posts, more: more && posts.length > 0 && falls };
  }

  /** All posts of a chunk. */
  async #postsOf(chunk) {
    const place = this.#chunks.indexOf(chunk);
    const found = [];
    for (let before = this.#chunks[place - 1]?.oldest; ;) {
      const { posts, more } = await this.#readOn(2 * chunkSize, before);
      const inside = posts.filter((post) => post.id >= chunk.oldest && post.id <= this.#newest);
      found.push(...inside);
      if (!more || posts.at(-1).id <= chunk.oldest) return found;
      before = posts.at(-1).id;
    }
  }

  // MARK: showing

  async #turn(section, isNear) {
    const chunk = section.chunk;
    if (!section.isConnected || chunk.isShown === isNear) return;
    if (isNear) {
      const posts = await this.#postsOf(chunk);
      chunk.isShown = true;
      this.#show(chunk, posts);
      section.style.height = '';
    } else if (!section.contains(document.activeElement)) {
      section.style.height = `${section.offsetHeight}px`;
      section.replaceChildren();
      chunk.isShown = false;
    }
  }

  #show(chunk, posts) {
    const there = new Map(Array.from(chunk.section.children, (article) => [article.dataset.id, article]));
    let place = chunk.section.firstElementChild;
    for (const post of posts) {
      if (this.#hidden.has(post.id)) continue;
      const article = there.get(post.id) ?? this.#article(post, chunk.fresh?.has(post.id));
      there.delete(post.id);
      if (article === place) place = place.nextElementSibling; else chunk.section.insertBefore(article, place);
    }
    for (const article of there.values()) {
      if (article.contains(document.activeElement)) (article.nextElementSibling ?? this.#root).focus();
      article.remove();
    }
    chunk.fresh = undefined;
  }

  #article(post, isNew) {
    const article = template('part-post');
    article.dataset.id = post.id;
    article.classList.toggle('new', isNew === true);
    const text = article.querySelector('.text');
    text.id = `post-${post.id}`;
    article.setAttribute('aria-labelledby', text.id);
    const size = foldedSize(post.text);
    fillText(text, post.text, size);
    if (size !== undefined) {
      text.classList.add('clamped');
      const unfold = element('button', { type: 'button', className: 'link', textContent: 'Show all of it' });
      unfold.addEventListener('click', () => {
        text.classList.remove('clamped');
        text.replaceChildren();
        fillText(text, post.text);
        unfold.parentElement.remove();
        article.focus();
      });
      text.after(element('p', { className: 'unfold' }, unfold));
    }
    showTime(article.querySelector('time'), post.created);
    if (post.device) article.querySelector('.from').append('from ', element('bdi', { textContent: post.device }));
    const button = article.querySelector('.delete');
    button.hidden = !this.#mayDelete;
    button.addEventListener('click', () => this.#delete(post.id));
    return article;
  }

  /** Page Up and Page Down go from post to post, as the feed pattern of ARIA has it. */
  #move(event) {
    if (event.key !== 'PageDown' && event.key !== 'PageUp') return;
    const articles = Array.from(this.#root.querySelectorAll('article'));
    const here = articles.indexOf(document.activeElement.closest('article'));
    const next = articles[here + (event.key === 'PageDown' ? 1 : -1)];
    if (here < 0 || !next) return;
    event.preventDefault();
    next.focus();
  }
}
