"""What a browser keeps: over reloads, restarts, kills, without the server, and after its storage was emptied."""

from case import BrowserTest
from node import until

CLEAR_STORE = '''
const [name, done] = arguments;
const opening = indexedDB.open(location.hostname);
opening.onsuccess = () => {
  const transaction = opening.result.transaction(name, 'readwrite');
  transaction.objectStore(name).clear();
  transaction.oncomplete = () => { opening.result.close(); done(true); };
  transaction.onabort = () => done(false);
};
opening.onerror = () => done(false);
'''

# Whether blocks are kept: what peers bring is written a little later than it is shown.
KEEPS = '''
const done = arguments[0];
const opening = indexedDB.open(location.hostname);
opening.onsuccess = () => {
  const count = opening.result.transaction('pages').objectStore('pages').count();
  count.onsuccess = () => { opening.result.close(); done(count.result > 0); };
};
'''


# As a later version of the page might leave it: this one cannot open it.
RAISE_VERSION = '''
const done = arguments[0];
const opening = indexedDB.open(location.hostname, 2);
opening.onsuccess = () => { opening.result.close(); done(true); };
opening.onerror = () => done(false);
'''


class OriginKeepsTest(BrowserTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = cls.shared_node()
        cls.page = cls.shared_page(cls.server.url).open()
        cls.passphrase = cls.page.set_up(cls.server.setup_code())
        cls.page.wait_network('live')

    def post(self, text):
        self.page.compose(text)
        until(f'the server has {text!r}', lambda: self.server.texts()[0] == text)

    def test_reload(self):
        self.post('before the reload')
        self.page.reload().wait_text('before the reload')
        self.post('after the reload')

    def test_restart(self):
        self.post('before the restart')
        self.restart()
        self.page.wait_text('before the restart')
        self.post('after the restart')

    def restart(self):
        self.page.browser.quit()
        self.page.browser.start()
        self.page.open().wait_view('stream')

    def test_kill_loses_nothing_that_was_shown(self):
        self.page.wait_network('live')
        self.server.stop()
        self.page.wait_network('offline')
        for number in range(5):
            self.page.compose(f'written {number} before the kill')
        self.page.browser.kill()
        self.server.start()
        self.page.browser.start()
        self.page.open().wait_text('written 4 before the kill')
        self.post('after the kill')
        self.assertEqual(self.server.texts()[:6], [
            'after the kill', *(f'written {number} before the kill' for number in (4, 3, 2, 1, 0))])

    def test_offline_post_goes_out_later(self):
        self.page.wait_network('live')
        self.server.stop()
        self.page.wait_network('offline')
        self.page.compose('written offline')
        self.server.start()
        self.page.wait_network('live')
        until('the server has it', lambda: self.server.texts()[0] == 'written offline')

    def test_opens_without_the_server(self):
        self.post('here before the server went')
        self.kept_by_the_service_worker()
        self.server.stop()
        self.restart()
        self.page.wait_text('here before the server went')
        self.page.wait_network('offline')
        self.page.compose('written with no server')
        self.restart()
        self.page.wait_text('written with no server')
        self.server.start()
        until('the server has it', lambda: self.server.texts()[0] == 'written with no server', 60)

    def test_feeds_lost_are_fetched_back(self):
        self.post('on the server')
        self.assertTrue(self.page.driver.execute_async_script(CLEAR_STORE, 'pages'))
        self.page.reload().wait_text('on the server')
        self.page.one('#draft')
        until('it may post', lambda: self.page.shown('#compose [type=submit]'))
        self.post('after the feeds were lost')
        self.assertEqual(self.server.texts()[:2], ['after the feeds were lost', 'on the server'])

    def test_feeds_lost_for_ever_leave_a_way_out(self):
        self.page.wait_network('live')
        self.kept_by_the_service_worker()
        self.server.stop()
        self.assertTrue(self.page.driver.execute_async_script(CLEAR_STORE, 'pages'))
        self.page.reload().click('#standing a')
        self.page.wait_view('sign-out')
        self.page.click('#sign-out')
        self.page.one('#open-sign-in')
        self.server.start()
        self.page.wait_network('live')
        self.page.sign_in(self.passphrase, 'laptop', as_origin=True)
        self.page.wait_authorised()
        self.post('after signing in anew')

    def kept_by_the_service_worker(self):
        until('the service worker is there', lambda: self.page.script(
            'return navigator.serviceWorker.controller !== null') or self.page.reload() is None, 60)

    def test_keys_lost_are_made_anew_of_the_passphrase(self):
        self.post('before the keys were lost')
        self.assertTrue(self.page.driver.execute_async_script(CLEAR_STORE, 'state'))
        self.page.reload().wait_text('before the keys were lost')
        self.assertIsNone(self.page.shown('#draft'))
        self.page.sign_in(self.passphrase, 'laptop', as_origin=True)
        self.page.wait_authorised()
        self.post('after the keys were lost')

    def test_draft_is_kept(self):
        self.page.fill('#draft', 'a draft, not yet a post')
        self.page.reload().wait_view('stream')
        until('the draft is back', lambda: self.page.one('#draft').get_attribute('value') == 'a draft, not yet a post')
        self.page.submit('#compose')
        self.page.wait_text('a draft, not yet a post')
        until('the field is empty', lambda: self.page.one('#draft').get_attribute('value') == '')

    def test_wholly_evicted_origin_comes_back_with_the_passphrase(self):
        self.post('before the eviction')
        browser = self.page.browser
        self.page.driver.get('about:blank')
        browser.cdp('Storage.clearDataForOrigin', origin=self.server.url.rstrip('/'), storageTypes='all')
        self.page.open().wait_text('before the eviction')
        self.assertIsNone(self.page.shown('#draft'))
        self.page.sign_in(self.passphrase, 'laptop', as_origin=True)
        self.page.wait_authorised()
        self.post('after the eviction')

    def test_passphrase_is_nowhere(self):
        script = self.page.script
        for place in ('location.href', 'JSON.stringify(localStorage)', 'JSON.stringify(sessionStorage)',
                      'document.cookie', 'JSON.stringify(history.state)', 'document.documentElement.outerHTML'):
            self.assertNotIn(self.passphrase, script(f'return String({place})'), place)
        self.page.browser.quit()
        for path in self.page.browser.profile.rglob('*'):
            if path.is_file():
                contents = path.read_bytes()
                for encoding in ('utf-8', 'utf-16-le'):
                    self.assertNotIn(self.passphrase.encode(encoding), contents, path)
        self.page.browser.start()
        self.page.open().wait_view('stream')


class ReaderKeepsTest(BrowserTest):
    def test_evicted_reader_heals(self):
        server = self.new_node()
        owner = self.new_node()
        owner.new_hypha(server)
        owner.control('post', text='first')
        page = self.new_page(server.url).open()
        page.wait_text('first')
        page.driver.get('about:blank')
        page.browser.cdp('Storage.clearDataForOrigin', origin=server.url.rstrip('/'), storageTypes='indexeddb')
        owner.control('post', text='second')
        page.open().wait_text('second')
        page.wait_text('first')

    def test_reader_opens_without_the_server(self):
        server = self.new_node()
        owner = self.new_node()
        owner.new_hypha(server)
        owner.control('post', text='kept here')
        page = self.new_page(server.url).open()
        page.wait_text('kept here')
        until('it is kept', lambda: page.driver.execute_async_script(KEEPS))
        server.stop()
        page.reload().wait_text('kept here')
        page.wait_network('offline')
        server.start()
        page.wait_network('live')
        owner.control('post', text='new')
        page.wait_text('new', seconds=60)

    def test_what_cannot_be_opened(self):
        server = self.new_node()
        page = self.new_page(server.url).open()
        page.set_up(server.setup_code())
        page.driver.get(server.url + 'feed.json')
        self.assertTrue(page.driver.execute_async_script(RAISE_VERSION))
        page.open().wait_network('live')
        self.assertIn('cannot be opened', page.one('#standing').text)
        self.assertIn('load the page again', page.one('#standing').text)
        self.assertIsNone(page.shown('#storage'))
        self.assertIsNone(page.shown('#open-sign-in'))

    def test_storage_refused(self):
        server = self.new_node()
        page = self.new_page(server.url, keeps_nothing=True).open()
        page.set_up(server.setup_code())
        page.compose('kept by the server')
        until('the server has it', lambda: server.texts() == ['kept by the server'])
        page.one('#storage')
        server.stop()
        page.wait_network('offline')
        page.compose('kept by nobody')
        until('the page says where it is', lambda: 'in this tab alone' in page.one('#standing').text)
