"""Letting in, turning away and revoking; locking and signing out."""

from browser import PHONE
from case import BrowserTest
from node import until


class DevicesTest(BrowserTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = cls.shared_node()
        cls.origin = cls.shared_page(cls.server.url).open()
        cls.passphrase = cls.origin.set_up(cls.server.setup_code())
        cls.origin.compose('first')

    def setUp(self):
        if self.origin.view == 'devices':
            self.origin.click('#close')
            self.origin.wait_view('stream')

    def device(self, name):
        device = self.new_page(self.server.url, size=PHONE).open()
        device.sign_in(self.passphrase, name)
        return device

    def test_wrong_passphrase(self):
        device = self.new_page(self.server.url, size=PHONE).open()
        device.wait_text('first')
        words = self.passphrase.split()
        device.sign_in(' '.join(words[1:] + words[:1]), 'phone')
        device.wait_error()
        self.assertEqual(device.view, 'sign-in')
        device.fill('#passphrase', f'{words[0]} zzzzz')
        device.one('#device-name').click()
        until('the wrong word is pointed out', lambda: 'Word 2' in device.text('#passphrase-check'))
        device.click('#cancel')
        device.wait_text('first')

    def test_waiting_survives_a_reload_and_a_restart(self):
        device = self.device('waiting phone')
        words = device.own_words()
        self.assertEqual(device.reload().own_words(), words)
        device.browser.quit()
        device.browser.start()
        self.assertEqual(device.open().own_words(), words)
        self.assertEqual(self.origin.request_words('waiting phone'), words)
        self.origin.answer('waiting phone', 'approve')
        device.wait_authorised()

    def test_denied_asks_again(self):
        device = self.device('denied phone')
        first = device.own_words()
        self.assertEqual(self.origin.request_words('denied phone'), first)
        self.origin.answer('denied phone', 'deny')
        device.click('#ask-again')
        words = until('it shows other words', lambda: device.shown('#own-words') and (now := device.own_words()) != first and now)
        until('they are those of the request', lambda: self.origin.request_words('denied phone') == words)
        self.origin.answer('denied phone', 'approve')
        device.wait_authorised()

    def test_denied_gives_up(self):
        device = self.device('given up phone')
        device.own_words()
        self.origin.answer('given up phone', 'deny')
        device.one('#ask-again')
        device.click('#give-up')
        device.wait_text('first')
        self.assertIsNone(device.shown('#draft'))

    def test_revoked_device_may_not_post(self):
        device = self.device('lost phone')
        device.own_words()
        self.origin.answer('lost phone', 'approve')
        device.wait_authorised()
        device.compose('from the lost phone')
        self.origin.wait_text('from the lost phone')
        self.origin.open_devices()
        self.origin.press_device('lost phone', 'button.revoke')
        self.origin.press_device('lost phone', 'button.really')
        until('the device sees it', lambda: device.shown('#draft') is None)
        self.assertIn('revoked', device.text('#standing'))
        revoked = until('the server knows', lambda: [
            device for device in self.server.control('devices')['devices'] if 'revoked' in device])
        self.assertEqual([device['name'] for device in revoked], ['lost phone'])
        self.assertIn('from the lost phone', self.server.texts())

    def test_rename(self):
        self.origin.open_devices()
        self.origin.press_device('laptop', 'button.rename')
        self.origin.fill('#devices .new-name', 'desk')
        self.origin.submit('#devices form')
        self.origin.device('desk')
        until('the server knows', lambda: 'desk' in [
            device['name'] for device in self.server.control('devices')['devices']])
        self.origin.press_device('desk', 'button.rename')
        self.origin.fill('#devices .new-name', 'laptop')
        self.origin.submit('#devices form')
        self.origin.device('laptop')

    def test_lock_and_unlock(self):
        self.origin.open_devices()
        self.origin.click('#lock')
        self.origin.wait_text('first')
        until('it may not post', lambda: self.origin.shown('#draft') is None)
        self.origin.reload().wait_text('first')
        self.assertIsNone(self.origin.shown('#draft'))
        self.origin.click('#standing a')
        self.origin.wait_view('unlock')
        self.origin.fill('#passphrase', 'wrong ' + ' '.join(self.passphrase.split()[1:]))
        self.origin.submit('#unlock')
        self.origin.wait_error()
        self.origin.fill('#passphrase', self.passphrase)
        self.origin.submit('#unlock')
        self.origin.wait_authorised()
        self.origin.compose('after unlocking')
        until('the server has it', lambda: 'after unlocking' in self.server.texts())

    def let_in(self, name):
        device = self.device(name)
        device.own_words()
        self.origin.answer(name, 'approve')
        device.wait_authorised()
        return device

    def test_locked_device_signs_out(self):
        device = self.let_in('lent phone')
        device.open_devices()
        device.click('#lock')
        device.click('#standing a')
        device.wait_view('unlock')
        device.click('#leave')
        device.wait_view('sign-out')
        device.click('#sign-out')
        device.wait_text('first')
        device.one('#open-sign-in')
        self.assertIsNone(device.shown('#standing'))

    def test_sign_out(self):
        device = self.let_in('borrowed phone')
        device.open_devices()
        device.click('#sign-out')
        device.wait_text('first')
        until('it may not post', lambda: device.shown('#draft') is None)
        self.assertIsNone(device.reload().shown('#draft'))
        device.wait_text('first')
        device.one('#open-sign-in')
