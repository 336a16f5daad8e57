// The page's modules, on what they use of a document.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressesIn } from '../../Web/page/posts.mjs';

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
