"""The page as a program: unaltered or not at all, opened without the server, replaced by a newer one."""

import tempfile

import build
from case import BrowserTest
from node import until

VERSION = 'return getComputedStyle(document.documentElement).getPropertyValue("--newer").trim()'


class PageTest(BrowserTest):
    def folder(self):
        folder = tempfile.TemporaryDirectory(prefix='hypha-web-')
        self.addCleanup(folder.cleanup)
        return folder.name

    def test_browsers_offer_to_install_it(self):
        page = self.new_page(self.new_node().url).open()
        page.wait_view('setup-code')
        until('it can be installed', lambda: page.browser.cdp('Page.getInstallabilityErrors') == {
            'installabilityErrors': []})

    def test_a_new_build_is_said_and_taken_at_the_next_start(self):
        server = self.new_node()
        page = self.new_page(server.url).open()
        page.wait_view('setup-code')
        until('the service worker has the page', lambda: page.driver.execute_async_script(
            'const done = arguments[0];'
            'navigator.serviceWorker.getRegistration().then(found => done(Boolean(found?.active)));'), 60)
        server.stop()
        server.web = build.newer(self.folder())
        server.start()
        page.reload().one('#update', seconds=60)
        self.assertEqual(page.script(VERSION), '')
        # Every tab is closed: the browser takes the new one.
        page.browser.quit()
        page.browser.start()
        page.open().wait_view('setup-code')
        self.assertEqual(page.script(VERSION), '1')
        self.assertIsNone(page.shown('#update'))

    def test_a_new_build_can_be_taken_at_once(self):
        server = self.new_node()
        page = self.new_page(server.url).open()
        page.set_up(server.setup_code())
        page.compose('written with the old one')
        server.stop()
        server.web = build.newer(self.folder())
        server.start()
        page.reload().click('#update-now')
        until('the new one is there', lambda: page.script(VERSION) == '1', 60)
        page.wait_text('written with the old one')

    def test_what_was_altered_does_not_run(self):
        for name in ('hypha.wasm', 'worker.js'):
            with self.subTest(name):
                server = self.new_node(web=build.altered(self.folder(), name))
                page = self.new_page(server.url)
                page.browser.expected += build.REFUSED
                page.open().wait_view('failed')
                self.assertTrue(page.wait_error())

    def test_an_altered_page_script_does_not_run(self):
        server = self.new_node(web=build.altered(self.folder(), 'page.js'))
        page = self.new_page(server.url)
        page.browser.expected += build.REFUSED
        page.open()
        self.assertEqual(page.view, 'starting')

    def test_without_scripts_there_is_a_link_to_the_feed(self):
        server = self.new_node()
        page = self.new_page(server.url)
        page.browser.cdp('Emulation.setScriptExecutionDisabled', value=True)
        page.open()
        self.assertIn('/feed.atom', page.one('noscript a').get_attribute('href'))
