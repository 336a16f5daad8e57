"""Every view in both sizes, light and dark: axe finds no fault, and nothing makes the page scroll sideways."""

import tempfile

import axe
from browser import LAPTOP, PHONE
from case import BrowserTest
from walk import views


class AccessTest(BrowserTest):
    def test_every_view(self):
        folder = tempfile.TemporaryDirectory(prefix='hypha-web-')
        self.addCleanup(folder.cleanup)
        for name, page in views(self.new_node, self.new_page, folder.name):
            for size in (PHONE, LAPTOP):
                for dark in (False, True):
                    with self.subTest(name, size=size, dark=dark):
                        page.browser.emulate(size, dark)
                        self.assertFalse(page.scrolls_sideways())
                        self.assertEqual(axe.violations(page.driver), [])

    def test_keyboard_alone(self):
        """From the setup code to the first post without a pointer; what has the focus is always to be seen."""
        server = self.new_node()
        page = self.new_page(server.url).open()
        page.wait_view('setup-code')
        page.type(server.setup_code(), enter=True)
        passphrase = page.read_words()
        page.tab_to('#saved', enter=True)
        page.wait_view('setup-confirm')
        for number in (0, 1):
            place = int(page.all('.asked')[number].get_attribute('data-place'))
            page.tab_to(f'.asked[data-place="{place}"]')
            page.type(passphrase.split()[place - 1])
        page.type('', enter=True)
        page.wait_view('stream', seconds=60)
        page.tab_to('#draft')
        page.type('Typed')
        page.tab_to('#compose [type=submit]', enter=True)
        page.wait_text('Typed')
