"""Posts: hostile texts, their size, deleting with undo."""

import time

from selenium.webdriver.common.by import By

from browser import PHONE
from case import BrowserTest
from node import until

HOSTILE = {
    'markup': '<script>window.hit = 1</script><img src=x onerror="window.hit = 1"><b>bold</b> &amp; <style>*{display:none}</style>',
    'directions': 'abc \u202e gnippilf \u202d \u2066 unclosed',
    'right to left': 'שלום עולם, مرحبا بالعالم',
    'long word': 'x' * 3000,
    'address': 'https://example.org/' + 'a/' * 400,
    'javascript address': 'javascript:window.hit=1 data:text/html,<script>window.hit=1</script>',
    'emoji': '👩‍👩‍👧‍👦🏳️‍🌈🌱' * 60,
    'stacked marks': 'Z' + '\u0301\u0302\u0303\u0304' * 400,
    'lines': 'one\n\n\n   two\n\tthree' + '\n' * 50 + 'end',
    'controls': 'a\x00b\x07c\x1b[31md\u2028e\ufefff',
    'template': '${window.hit = 1} {{constructor.constructor("window.hit = 1")()}} %s %o',
}


class PostsTest(BrowserTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = cls.shared_node()
        cls.page = cls.shared_page(cls.server.url, size=PHONE).open()
        cls.page.set_up(cls.server.setup_code())

    def test_the_first_post_does_not_flicker(self):
        server = self.new_node()
        page = self.new_page(server.url, size=PHONE).open()
        page.set_up(server.setup_code())
        page.script(
            'window.removed = 0;'
            'new MutationObserver((changes) => { for (const change of changes) for (const node of change.removedNodes)'
            '  if (node.matches?.("article") || node.querySelector?.("article")) window.removed += 1;'
            '}).observe(document.querySelector("#posts"), {childList: true, subtree: true});')
        page.compose('the first one of all')
        until('it has settled', lambda: page.shown('#posts article[data-id]'))
        time.sleep(0.5)
        self.assertEqual(page.script('return window.removed'), 0)

    def test_hostile_texts(self):
        for name, text in HOSTILE.items():
            with self.subTest(name):
                self.page.compose(text, paste=True)
                until('the server has it', lambda: self.server.texts(1) == [text])
                self.assertFalse(self.page.scrolls_sideways())
                foreign = self.page.script(
                    'return arguments[0].querySelector(".text").querySelectorAll(":not(a, br, bdi, span)").length',
                    self.page.article(text))
                self.assertEqual(foreign, 0)
        self.assertIsNone(self.page.script('return window.hit'))
        reader = self.new_page(self.server.url, size=PHONE).open()
        for text in HOSTILE.values():
            reader.wait_text(text)
        self.assertFalse(reader.scrolls_sideways())
        self.assertIsNone(reader.script('return window.hit'))
        for size in (PHONE, (320, 600), (1280, 900)):
            reader.browser.emulate(size=size)
            self.assertFalse(reader.scrolls_sideways(), size)

    def test_a_long_text_is_laid_out_once_it_is_unfolded(self):
        # The address begins in what is laid out, and ends behind that.
        text = 'a b ' * 497 + 'https://example.org/path' + ' c d' * 100
        self.page.compose(text, paste=True)
        article = self.page.article(text)
        shown = lambda: self.page.script(
            'const text = arguments[0].querySelector(".text"); return [text.innerText, text.querySelectorAll("a").length]',
            article)
        self.assertEqual(shown(), [text[:2000], 0])
        self.page.act('unfold', lambda: self.page.press(article.find_element(By.CSS_SELECTOR, '.unfold button')))
        self.assertEqual(shown(), [text, 1])

    def test_largest_text(self):
        text = '🌱' * (65536 // 4)
        self.page.paste('#draft', text + 'x')
        self.assertFalse(self.page.one('#compose [type=submit]').is_enabled())
        self.page.compose(text, paste=True)
        until('the server has it', lambda: self.server.texts(1) == [text])
        self.assertFalse(self.page.scrolls_sideways())

    def test_white_space_is_no_post(self):
        before = self.page.texts()
        self.page.paste('#draft', ' \n\t ')
        button = self.page.one('#compose [type=submit]')
        if button.is_enabled():
            button.click()
        self.page.compose('a post after white space')
        self.assertEqual(self.page.texts(), ['a post after white space', *before])

    def test_delete_and_undo(self):
        self.page.compose('to be kept after all')
        self.page.delete('to be kept after all')
        self.page.wait_no_text('to be kept after all')
        self.page.click('#undo')
        self.page.wait_text('to be kept after all')
        self.assertIn('to be kept after all', self.server.texts())
        self.page.compose('to be deleted')
        until('the server has it', lambda: 'to be deleted' in self.server.texts())
        self.page.delete('to be deleted')
        self.page.wait_no_text('to be deleted')
        until('it is gone from the server', lambda: 'to be deleted' not in self.server.texts(), 60)

    def test_deleting_holds_when_the_page_is_left_at_once(self):
        self.page.compose('deleted, then left')
        until('the server has it', lambda: 'deleted, then left' in self.server.texts())
        self.page.delete('deleted, then left')
        self.page.wait_no_text('deleted, then left')
        self.page.reload().wait_view('stream')
        until('it is gone from the server', lambda: 'deleted, then left' not in self.server.texts(), 60)

    def test_undo_holds_where_another_tab_is_opened_meanwhile(self):
        page = self.page.in_tab()
        page.compose('wanted back')
        page.delete('wanted back')
        page.wait_no_text('wanted back')
        other = page.new_tab()
        other.wait_authorised()
        time.sleep(1)
        self.assertNotIn('wanted back', other.texts())
        page.click('#undo')
        page.wait_text('wanted back')
        other.wait_text('wanted back')
        time.sleep(10)
        self.assertIn('wanted back', page.texts())
        self.assertIn('wanted back', self.server.texts())
        other.close_tab()

    def test_deletions_in_two_tabs_hold_when_both_are_left(self):
        server = self.new_node()
        page = self.new_page(server.url).open().in_tab()
        page.set_up(server.setup_code())
        other = page.new_tab()
        other.wait_authorised()
        for tab, text in ((page, 'deleted in one tab'), (other, 'deleted in the other tab')):
            tab.compose(text)
            tab.delete(text)
            tab.wait_no_text(text)
        other.close_tab()
        page.reload().wait_view('stream')
        until('both are gone from the server', lambda: server.texts() == [], 60)

    def test_a_deletion_that_fails_says_so(self):
        server = self.new_node()
        page = self.new_page(server.url).open()
        page.set_up(server.setup_code())
        page.compose('deleted, then locked')
        page.delete('deleted, then locked')
        page.open_devices()
        page.click('#lock')
        until('it says so', lambda: 'not deleted' in page.text('#toast'))
        self.assertIsNone(page.shown('#undo'))
        page.wait_text('deleted, then locked')
        until('the stream is not said to be empty', lambda: not page.shown('#empty'))

    def test_what_was_written_before_and_comes_later_is_shown(self):
        server = self.new_node()
        page = self.new_page(server.url, size=PHONE).open()
        passphrase = page.set_up(server.setup_code())
        box = self.new_node()
        box.control('sign-in', f'http://localhost:{server.port}', '--name', 'box', '--passphrase-file', '-', text=passphrase)
        page.answer('box', 'approve')
        until('the other device may post', lambda: box.control('status')['canPost'])
        server.stop()
        page.wait_network('offline')
        older = [f'written before, {number}' for number in range(5)]
        for text in older:
            box.control('post', text=text)
        page.compose('written after')
        server.start()
        until('all of it is there', lambda: page.texts() == ['written after', *reversed(older)], 60)
