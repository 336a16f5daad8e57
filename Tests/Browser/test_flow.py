"""The whole way of a hypha, in browsers, with hyphactl on a third node."""

import time

from browser import PHONE
from case import BrowserTest
from marionette import Firefox
from node import until
from page import normal_words


class FlowTest(BrowserTest):
    def test_from_setup_to_third_device(self):
        self.walk(self.new_page, self.new_page)

    def test_in_firefox(self):
        def in_firefox(url, size=None):
            return self.new_page(url, browser=Firefox())

        self.walk(in_firefox, in_firefox)

    def test_over_https(self):
        server = self.new_node(https=True)
        page = self.new_page(server.url, trusts_all=True).open()
        page.set_up(server.setup_code())
        page.wait_network('live')
        page.compose('Encrypted')
        until('the server has the post', lambda: server.texts() == ['Encrypted'])
        self.assertEqual([peer['transport'] for peer in server.control('peers')['peers']], ['wss'])

        # Whoever writes http:// comes to the same page.
        reader = self.new_page(f'http://localhost:{server.port}/', trusts_all=True).open()
        reader.wait_text('Encrypted')
        self.assertEqual(reader.driver.current_url.split('#')[0], server.url)

    def walk(self, first, second):
        server = self.new_node()

        # A node that is nobody's yet shows the setup page; the browser becomes the origin.
        origin = first(server.url).open()
        passphrase = origin.set_up(server.setup_code())
        origin.wait_network('live')
        self.assertEqual(server.control('status')['role'], 'alwaysOn')
        origin.compose('Hello from the origin')
        until('the server has the post', lambda: server.texts() == ['Hello from the origin'])

        # A second browser reads without any secret, and sees posts as they come.
        device = second(server.url, size=PHONE).open()
        device.wait_view('stream')
        device.wait_text('Hello from the origin')
        self.assertIsNone(device.shown('#draft'))
        origin.compose('Live')
        device.wait_text('Live')

        # It signs in; both show the same words; the first lets it in; it posts.
        device.sign_in(passphrase, 'phone')
        words = device.own_words()
        self.assertEqual(origin.request_words('phone'), words)
        self.assertEqual(len(words.split()), 4)
        origin.answer('phone', 'approve')
        device.wait_authorised()
        device.compose('Hello from the phone')
        origin.wait_text('Hello from the phone')

        # A third device, by command line, let in by a browser.
        third = self.new_node()
        signed = third.control('sign-in', f'http://localhost:{server.port}', '--name', 'box', '--passphrase-file', '-',
                               text=passphrase)
        self.assertEqual(origin.request_words('box'), normal_words(signed['request']['words']))
        device.answer('box', 'approve')
        until('the third device may post', lambda: third.control('status')['canPost'])
        third.control('post', text='Hello from the box')
        for page in (origin, device):
            page.wait_text('Hello from the box')

        # A browser, let in by the command line.
        fourth = second(server.url).open()
        fourth.sign_in(passphrase, 'tablet')
        words = fourth.own_words()
        until('the request is there', lambda: [
            request for request in third.control('requests')['requests']
            if normal_words(request['words']) == words and request['name'] == 'tablet'])
        third.control('approve', words, '--yes')
        fourth.wait_authorised()
        fourth.compose('Hello from the tablet')
        until('all have it', lambda: third.texts() == fourth.texts() == origin.texts() == server.texts() == [
            'Hello from the tablet', 'Hello from the box', 'Hello from the phone', 'Live', 'Hello from the origin'])

    def test_setup_link(self):
        server = self.new_node()
        page = self.new_page(server.url).open(f'#setup={server.setup_code()}')
        page.set_up()
        self.assertNotIn('setup', page.script('return location.href'))
        page.wait_network('live')

    def test_setup_link_that_is_none(self):
        page = self.new_page(self.new_node().url).open('#setup=%')
        page.wait_view('setup-code')


class SetupTest(BrowserTest):
    def test_wrong_code_is_refused_and_the_right_one_works_after_it(self):
        server = self.new_node()
        page = self.new_page(server.url).open()
        page.wait_view('setup-code')
        page.fill('#setup-code', 'XXXX-XXXX-XXXX-XXXX')
        page.submit('#setup-code-form')
        until('the page refuses it, at once or at the end', lambda: page.view == 'setup-words' or page.shown('#error'))
        if page.view == 'setup-words':
            passphrase = page.read_words()
            page.click('#saved')
            page.confirm(passphrase, 'laptop')
        page.wait_error()
        self.assertEqual(server.control('status')['role'], 'uninitialised')
        page.reload().set_up(server.setup_code())
        page.wait_network('live')

    def test_words_are_asked_back(self):
        server = self.new_node()
        page = self.new_page(server.url).open()
        page.wait_view('setup-code')
        page.fill('#setup-code', server.setup_code())
        page.submit('#setup-code-form')
        first = page.read_words()
        page.click('#another')
        second = until('there are others', lambda: (words := page.words()) and ' '.join(words) != first and ' '.join(words))
        page.click('#saved')
        page.confirm('wrong ' * 8, 'laptop')
        page.wait_error()
        self.assertEqual(page.view, 'setup-confirm')
        page.click('#back')
        self.assertEqual(page.read_words(), second)
        page.click('#saved')
        page.confirm(second, 'laptop')
        page.wait_view('stream', seconds=60)
        self.assertIsNotNone(page.one('#empty'))

    def test_the_passphrase_stays_while_the_server_is_away(self):
        server = self.new_node()
        page = self.new_page(server.url).open()
        page.wait_view('setup-code')
        page.fill('#setup-code', server.setup_code())
        page.submit('#setup-code-form')
        passphrase = page.read_words()

        def look_up():
            page.script('dispatchEvent(new Event("online"))')
            time.sleep(1)
            self.assertEqual(page.view, 'setup-words')

        server.stop()
        look_up()
        server.start()
        look_up()
        self.assertEqual(page.read_words(), passphrase)
        page.click('#saved')
        page.confirm(passphrase, 'laptop')
        page.wait_view('stream', seconds=60)
