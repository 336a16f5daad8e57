// The page's modules, on what they use of a document.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { look, newPart } from './dom.mjs';
import { PostList, addressesIn } from '../../Web/page/posts.mjs';
import { StreamView } from '../../Web/page/stream.mjs';

test('addresses in a text are links, without the punctuation behind them', () => {
  const text = 'See https://example.org/a. (http://example.org/b?c=d), “https://example.org/e”, https://[, http://!';
  assert.deepEqual([...addressesIn(text)].map(({ address, index }) => [address, text.indexOf(address) === index]), [
    ['https://example.org/a', true], ['http://example.org/b?c=d', true], ['https://example.org/e', true],
  ]);
});

test('no text takes long to look for addresses in', () => {
  const letters = Array.from({ length: 20_000 }, (_, number) => String.fromCodePoint(0x4e00 + number)).join('');
  const texts = {
    punctuation: `http://${'!'.repeat(65_000)}a`, 'a name of many letters': `http://${letters}`,
    'many addresses': 'http://a.b '.repeat(6000), 'many that are none': 'http://[ '.repeat(7000),
  };
  for (const [name, text] of Object.entries(texts)) {
    const start = performance.now();
    const found = [...addressesIn(text)];
    assert.ok(performance.now() - start < 250, name);
    assert.ok(found.length <= 200, name);
  }
});

/** A list of posts; what there is to read comes from `ids`. */
function newList(ids) {
  const view = newPart();
  const list = new PostList(view, async ({ limit, before }) => {
    const found = [...ids].sort().reverse().filter((id) => !before || id < before);
    return { posts: found.slice(0, limit).map((id) => ({ id, text: id, created: 0 })), more: found.length > limit };
  }, () => {});
  const update = async () => {
    await list.refresh();
    // The end comes into sight, again and again.
    for (let round = 0; round < 10; round += 1) {
      look();
      await new Promise(setImmediate);
    }
  };
  const shown = () => view.querySelector('#posts').children.flatMap(({ children }) => children.map(({ dataset }) => dataset.id));
  return { view, update, shown };
}

const numbered = (from, to, start = '') =>
  Array.from({ length: to - from }, (_, place) => `${start}${String(from + place).padStart(4, '0')}`);

test('posts that come late are shown where they belong', async () => {
  const ids = [];
  const { update, shown } = newList(ids);
  const come = async (...others) => {
    ids.push(...others);
    await update();
    assert.deepEqual(shown(), [...ids].sort().reverse());
  };
  await update();
  assert.deepEqual(shown(), []);
  // One whose clock is ahead, then others before it, and what a device wrote that was not connected.
  await come('5000');
  await come('4990');
  await come(...numbered(4000, 4030));
  await come(...numbered(3000, 3200));
  // Between any two that are there, and at both ends.
  await come(...ids.map((id) => `${id}x`), '2999', '6000');
});

test('what another page took away is deleted once it is too late to undo that, whatever is remembered', async (t) => {
  const now = Date.now();
  t.mock.method(Date, 'now', () => now);
  const timers = [];
  t.mock.method(globalThis, 'setTimeout', (work, milliseconds) => timers.push({ work, milliseconds }));
  const remembered = { soon: now + 5000, past: now - 1000, long: now - 2 ** 31 - 5000, far: 1e18, none: 'x', undone: now, again: now };
  for (const [id, until] of Object.entries(remembered)) localStorage.setItem(`hypha.deleting.${id}`, until);
  const deleted = [];
  const view = new StreamView({
    call: async (name, { id }) => {
      if (name === 'posts') return { posts: [], more: false };
      deleted.push(id);
    },
  });
  view.update({ access: 'authorised', requests: [], revision: 1 });
  assert.deepEqual(timers.map(({ milliseconds }) => milliseconds), [7000, 2000, 2000, 10_000, 10_000, 2000, 2000]);

  localStorage.removeItem('hypha.deleting.undone');
  localStorage.setItem('hypha.deleting.again', now + 6000);
  for (const { work } of timers.splice(0)) work();
  assert.deepEqual(deleted, ['soon', 'past', 'long', 'far', 'none']);
  assert.deepEqual(timers.map(({ milliseconds }) => milliseconds), [8000]);
  timers[0].work();
  assert.equal(deleted.at(-1), 'again');
  await new Promise(setImmediate);
  assert.deepEqual(Object.keys(localStorage), []);
});
