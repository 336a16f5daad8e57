"""What all tests share: nodes and browsers that are cleaned up, and a console that must stay silent."""

import unittest

from browser import LAPTOP, Chromium
from node import CHECKOUT, PROGRAMS, WEB, Node
from page import Page

for needed, how in ((PROGRAMS / 'hyphad', 'swift build'), (WEB / 'index.html', 'scripts/web')):
    if not needed.exists():
        raise SystemExit(f'{needed.relative_to(CHECKOUT)} is missing; {how} makes it')


class BrowserTest(unittest.TestCase):
    """Each test has its own; what a class starts in `setUpClass`, its tests share."""

    shared = ()

    @classmethod
    def setUpClass(cls):
        cls.shared = []

    def new_node(self, **options):
        node = Node(**options)
        self.addCleanup(node.remove)
        return node.start()

    def new_page(self, url, browser=None, **options):
        """A page in a browser with a profile of its own; by default a Chromium with these options."""
        browser = browser or Chromium(**options)
        self.addCleanup(self.close, browser)
        return Page(browser.start(), url)

    def close(self, browser):
        browser.remove()
        self.assertEqual(browser.faults, [], 'the console says')

    @classmethod
    def shared_node(cls):
        node = Node()
        cls.addClassCleanup(node.remove)
        return node.start()

    @classmethod
    def shared_page(cls, url, size=LAPTOP):
        browser = Chromium(size)
        cls.addClassCleanup(browser.remove)
        cls.shared.append(browser)
        return Page(browser.start(), url)

    def tearDown(self):
        for browser in self.shared:
            if browser.driver is not None:
                browser.check_console()
            faults, browser.faults = browser.faults, []
            self.assertEqual(faults, [], 'the console says')
