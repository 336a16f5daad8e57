"""`hyphactl audit`: what a domain serves against what is installed, with something between that alters it."""

import threading
import unittest
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from node import Node, Refused


class Between(ThreadingHTTPServer):
    """Passes requests on to a node, and answers what `alter(path, status, headers, body)` makes of the answers."""

    daemon_threads = True

    def __init__(self, node, alter):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                connection = HTTPConnection('127.0.0.1', node.port, timeout=10)
                connection.request('GET', self.path, headers={
                    'Host': 'localhost', 'Accept-Encoding': self.headers['Accept-Encoding'], 'Connection': 'close'})
                answer = connection.getresponse()
                status, headers, body = alter(self.path, answer.status, dict(answer.getheaders()), answer.read())
                connection.close()
                self.send_response(status)
                for name, value in headers.items():
                    if name not in ('Content-Length', 'Connection'):
                        self.send_header(name, value)
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        super().__init__(('127.0.0.1', 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f'http://127.0.0.1:{self.server_port}'


class AuditTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.nodes = [Node(), Node()]
        for node in cls.nodes:
            cls.addClassCleanup(node.remove)
            node.start()

    def audit(self, alter):
        served, own = self.nodes
        between = Between(served, alter)
        try:
            return own.control('audit', between.url)
        finally:
            between.shutdown()
            between.server_close()

    def differences(self, alter):
        return [(difference['path'], difference['problem']) for difference in self.audit(alter)['differences']]

    def test_same(self):
        self.assertEqual(self.differences(lambda path, *answer: answer), [])
        result = self.nodes[1].control('audit', self.nodes[0].url)
        self.assertEqual((result['differences'], result['installedVersion']), ([], result['servedVersion']))
        self.assertGreaterEqual(result['files'], 10)

    def test_altered_page(self):
        def alter(path, status, headers, body):
            return status, headers, body + b' ' if path == '/' else body

        self.assertEqual([path for path, _ in self.differences(alter)], ['/'])

    def test_altered_for_those_who_take_compression(self):
        def alter(path, status, headers, body):
            return status, headers, body + b' ' if headers.get('Content-Encoding') == 'br' and path.endswith('.js') else body

        found = self.differences(alter)
        self.assertEqual(len(found), 3)
        for path, problem in found:
            self.assertTrue(path.endswith('.js') and problem == 'differs (br)')

    def test_weaker_policy(self):
        def alter(path, status, headers, body):
            headers['Content-Security-Policy'] = headers['Content-Security-Policy'].replace(
                "script-src 'self'", "script-src 'self' 'unsafe-inline'")
            return status, headers, body

        found = self.differences(alter)
        self.assertIn('/', [path for path, _ in found])
        self.assertIn('comes without the header Content-Security-Policy', found[0][1])

    def test_missing_and_recompressed(self):
        def alter(path, status, headers, body):
            if path.endswith('style.css'):
                return 404, headers, b''
            if path.endswith('page.js'):
                headers['Content-Encoding'] = 'zstd'
            return status, headers, body

        found = {path.rsplit('/')[-1]: problem for path, problem in self.differences(alter)}
        self.assertEqual(set(found), {'style.css', 'page.js'})
        self.assertEqual(found['style.css'], 'is not there (404)')
        self.assertIn('zstd', found['page.js'])

    def test_another_version(self):
        def alter(path, status, headers, body):
            if path == '/integrity.json':
                body = body.replace(b'"version": "', b'"version": "9.')
            return status, headers, body

        result = self.audit(alter)
        self.assertTrue(result['servedVersion'].startswith('9.'))
        self.assertIn('is installed here', result['differences'][0]['problem'])

    def test_no_address(self):
        with self.assertRaises(Refused) as refused:
            self.nodes[1].control('audit', 'http://127.0.0.1:1')
        self.assertEqual(refused.exception.status, 1)
        with self.assertRaises(Refused):
            self.nodes[1].control('audit', 'not an address')
