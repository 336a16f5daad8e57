"""Feeds for feed readers, read by parsers that the daemon knows nothing of."""

import json
import unittest
import xml.etree.ElementTree as xml
from datetime import datetime
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from node import Node

ATOM = '{http://www.w3.org/2005/Atom}'

HOSTILE = [
    '<script>alert("1")</script> & <b>&amp;</b> ]]> <!-- \' "',
    'control \x01\x08\x0b\x1f characters',
    'line one\r\nline two\ttab\n\n  indented',
    '\u202eright to left\u2066 isolated \u200f مرحبا',
    '👩\u200d👩\u200d👧\u200d👦 🍄 \U0010fffd \ufffe \uffff',
    '\n \n  first line with something\nsecond',
    'x' * 65536,
]


class FeedsTest(unittest.TestCase):
    def get(self, path, **headers):
        """Status, headers, body."""
        request = Request(f'{self.node.url}{path}', headers={name.replace('_', '-'): text for name, text in headers.items()})
        try:
            with urlopen(request, timeout=10) as answer:
                return answer.status, answer.headers, answer.read()
        except HTTPError as answer:
            return answer.code, answer.headers, answer.read()

    def setUp(self):
        self.node = Node()
        self.addCleanup(self.node.remove)
        self.node.start()

    def test_feeds(self):
        for path in ('feed.json', 'feed.atom'):
            self.assertEqual(self.get(path)[0], 404)
        self.node.control('init', '--domain', 'localhost', '--generate-passphrase-to', self.node.folder / 'passphrase')
        self.assertEqual(json.loads(self.get('feed.json')[2])['items'], [])
        self.assertEqual(xml.fromstring(self.get('feed.atom')[2]).findall(f'{ATOM}entry'), [])

        for text in HOSTILE:
            self.node.control('post', text=text)
        posts = self.node.control('posts', '--limit', '100')['posts']
        key = self.node.control('status')['hyphalink']

        status, headers, body = self.get('feed.json')
        self.assertEqual((status, headers['Content-Type']), (200, 'application/feed+json; charset=utf-8'))
        feed = json.loads(body)
        self.assertEqual(feed['version'], 'https://jsonfeed.org/version/1.1')
        self.assertEqual(feed['feed_url'], f'{self.node.url}feed.json')
        self.assertEqual(feed['home_page_url'], self.node.url)
        self.assertEqual([item['content_text'] for item in feed['items']], [post['text'] for post in posts])
        self.assertEqual([item['id'] for item in feed['items']], [f'{key}/posts/{post["id"]}' for post in posts])
        for item, post in zip(feed['items'], posts):
            self.assertEqual(datetime.fromisoformat(item['date_published']), datetime.fromisoformat(post['created']))

        status, headers, body = self.get('feed.atom')
        self.assertEqual((status, headers['Content-Type']), (200, 'application/atom+xml; charset=utf-8'))
        atom = xml.fromstring(body)
        entries = atom.findall(f'{ATOM}entry')
        # XML cannot have these; a lone carriage return would be read as a line's end if it were not escaped.
        forbidden = dict.fromkeys([*(set(range(32)) - {9, 10, 13}), 0xFFFE, 0xFFFF], '\ufffd')
        self.assertEqual(
            [entry.find(f'{ATOM}content').text for entry in entries], [post['text'].translate(forbidden) for post in posts])
        self.assertEqual([entry.find(f'{ATOM}id').text for entry in entries], [item['id'] for item in feed['items']])
        for element in (atom, *entries):
            for needed in ('id', 'title', 'updated'):
                self.assertTrue(element.find(f'{ATOM}{needed}').text, needed)
        self.assertEqual(entries[1].find(f'{ATOM}title').text, '  first line with something')
        self.assertEqual(atom.find(f'{ATOM}updated').text, entries[0].find(f'{ATOM}updated').text)
        links = {link.get('rel'): link.get('href') for link in atom.findall(f'{ATOM}link')}
        self.assertEqual(links, {'self': f'{self.node.url}feed.atom', 'alternate': self.node.url})

    def test_conditions(self):
        self.node.control('init', '--domain', 'localhost', '--generate-passphrase-to', self.node.folder / 'passphrase')
        self.node.control('post', text='one')
        for path in ('feed.json', 'feed.atom'):
            _, headers, _ = self.get(path)
            self.assertEqual(headers['Cache-Control'], 'no-cache')
            self.assertEqual(headers['Access-Control-Allow-Origin'], '*')
            tag = headers['ETag']
            status, headers, body = self.get(path, If_None_Match=tag)
            self.assertEqual((status, headers['ETag'], body), (304, tag, b''))
            self.node.control('post', text=f'more for {path}')
            status, headers, _ = self.get(path, If_None_Match=tag)
            self.assertEqual(status, 200)
            self.assertNotEqual(headers['ETag'], tag)
        # Of a host that is none, no link is made.
        self.assertNotIn('feed_url', json.loads(self.get('feed.json', Host='a"><b')[2]))
        self.assertIn('"https://example.org/feed.json"', self.get('feed.json', Host='example.org')[2].decode())

    def test_bounds(self):
        self.node.control('init', '--domain', 'localhost', '--generate-passphrase-to', self.node.folder / 'passphrase')
        for number in range(60):
            self.node.control('post', text=f'post {number}')
        items = json.loads(self.get('feed.json')[2])['items']
        self.assertEqual([item['content_text'] for item in items], [f'post {number}' for number in range(59, 9, -1)])
        for _ in range(10):
            self.node.control('post', text='y' * 65536)
        self.assertEqual(len(json.loads(self.get('feed.json')[2])['items']), 8)
