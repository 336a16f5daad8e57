"""The page as a person uses it: what there is to see and to press in each view."""

import re
import time

from selenium.common.exceptions import (
    ElementClickInterceptedException, ElementNotInteractableException, NoSuchElementException,
    StaleElementReferenceException)
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from node import until

SHOWS_FOCUS = '''
const box = arguments[0].getBoundingClientRect();
const top = document.elementFromPoint(box.left + box.width / 2, box.top + Math.min(box.height, 20) / 2);
const isInSight = arguments[0].contains(top);
const isMarked = (style) => style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0 || style.boxShadow !== 'none';
const around = arguments[0].closest('form, .reveal') ?? arguments[0];
return isInSight && (isMarked(getComputedStyle(arguments[0])) || isMarked(getComputedStyle(around)));
'''

PASSING = (ElementClickInterceptedException, ElementNotInteractableException, NoSuchElementException,
           StaleElementReferenceException)


class Page:
    def __init__(self, browser, url, tab=None):
        self.browser = browser
        self.url = url
        self.tab = tab

    @property
    def driver(self):
        driver = self.browser.driver
        if self.tab is not None and driver.current_window_handle != self.tab:
            driver.switch_to.window(self.tab)
        return driver

    def in_tab(self):
        """The same page, bound to the tab that is now in front."""
        return Page(self.browser, self.url, self.browser.driver.current_window_handle)

    def new_tab(self):
        """The page once more, in a further tab of the same browser."""
        return Page(self.browser, self.url, self.browser.new_tab(self.url))

    def close_tab(self):
        driver = self.driver
        self.browser.check_console()
        driver.close()
        driver.switch_to.window(driver.window_handles[0])

    def open(self, fragment=''):
        self.driver.get(self.url + fragment)
        return self

    def reload(self):
        self.driver.refresh()
        return self

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    # Elements

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def shown(self, selector):
        """The first element that is to be seen, or nothing."""
        for element in self.all(selector):
            try:
                if element.is_displayed():
                    return element
            except StaleElementReferenceException:
                pass
        return None

    def one(self, selector, seconds=20):
        try:
            return until(f'{selector} is shown', lambda: self.shown(selector), seconds)
        except AssertionError as error:
            raise AssertionError(f'{error}; {self.describe()}') from None

    def describe(self):
        """What the page shows, for a test that fails."""
        text = self.script('return document.body.innerText')
        return f'view {self.view!r}: {text[:1500]!r}'

    def act(self, what, action, seconds=20):
        """Does `action` again until the page, which may just be changing, lets it."""
        end = time.monotonic() + seconds
        while True:
            try:
                return action()
            except PASSING as error:
                if time.monotonic() > end:
                    raise AssertionError(f'{what}: {error.msg}; {self.describe()}') from None
                time.sleep(0.05)

    def click(self, selector):
        self.act(f'click {selector}', lambda: self.press(self.one(selector)))

    def press(self, element):
        """Clicks an element, which is scrolled to first: a driver takes what the bar at the top covers to be in sight."""
        self.script('arguments[0].scrollIntoView({block: "center"});', element)
        element.click()

    def fill(self, selector, text):
        def type_it():
            element = self.one(selector)
            element.clear()
            element.send_keys(text)

        self.act(f'fill {selector}', type_it)

    def paste(self, selector, text):
        """Sets a field's text at once: drivers type no characters beyond 16 bits, and long texts slowly."""
        self.script(
            'arguments[0].focus(); arguments[0].value = arguments[1];'
            'arguments[0].dispatchEvent(new InputEvent("input", {bubbles: true, inputType: "insertFromPaste"}));',
            self.one(selector), text)

    def text(self, selector):
        return self.act(f'read {selector}', lambda: self.one(selector).text)

    def submit(self, form):
        self.click(f'{form} [type=submit], {form} button:not([type])')

    # Keyboard

    def type(self, text, enter=False):
        """Types into what has the focus."""
        focused = self.driver.switch_to.active_element
        focused.send_keys(text + (Keys.ENTER if enter else ''))

    def tab_to(self, selector, enter=False):
        """Goes on with the tabulator until the element has the focus, and shows that it has."""
        for _ in range(40):
            focused = self.driver.switch_to.active_element
            if self.script('return arguments[0].matches(arguments[1])', focused, selector):
                assert self.script(SHOWS_FOCUS, focused), f'{selector} has the focus, and does not show it'
                if enter:
                    focused.send_keys(Keys.ENTER)
                return
            focused.send_keys(Keys.TAB)
        raise AssertionError(f'{selector} is not reached with the tabulator; {self.describe()}')

    # State

    @property
    def view(self):
        return self.script('return document.querySelector("#main")?.dataset.view')

    def wait_view(self, *views, seconds=30):
        try:
            return until(f'the view is one of {views}', lambda: (view := self.view) in views and view, seconds)
        except AssertionError as error:
            raise AssertionError(f'{error}; {self.describe()}') from None

    @property
    def network(self):
        return self.script('return document.querySelector("#network")?.dataset.network')

    def wait_network(self, state, seconds=40):
        try:
            until(f'the network is {state}', lambda: self.network == state, seconds)
        except AssertionError as error:
            raise AssertionError(f'{error}; {self.network}; {self.describe()}') from None

    def wait_error(self):
        return until('an error is shown', lambda: (shown := self.shown('#error')) and shown.text, 20)

    def scrolls_sideways(self):
        return self.script('return document.scrollingElement.scrollWidth > document.scrollingElement.clientWidth')

    # Setting up

    def set_up(self, code=None, name='laptop'):
        """From the setup code, which may have come with the link, to the stream. Returns the passphrase."""
        if code is not None:
            self.wait_view('setup-code')
            self.fill('#setup-code', code)
            self.submit('#setup-code-form')
        passphrase = self.read_words()
        self.click('#saved')
        self.confirm(passphrase, name)
        self.wait_view('stream', seconds=60)
        return passphrase

    def read_words(self):
        self.wait_view('setup-words')
        return ' '.join(until('the words are there', self.words))

    def words(self):
        words = self.script('return [...document.querySelectorAll("#words li")].map(item => item.innerText.trim())')
        return words if len(words) == 8 and all(words) else None

    def confirm(self, passphrase, name):
        self.wait_view('setup-confirm')
        words = passphrase.split()
        until('two words are asked', lambda: len(self.all('.asked')) == 2)
        for number in (0, 1):
            field = self.all('.asked')[number]
            field.clear()
            field.send_keys(words[int(field.get_attribute('data-place')) - 1])
        if self.shown('#device-name'):
            self.fill('#device-name', name)
        self.submit('#confirm-form')

    # Posts

    def compose(self, text, paste=False):
        self.one('#draft')
        self.paste('#draft', text) if paste else self.fill('#draft', text)
        self.submit('#compose')
        self.wait_text(text)

    def texts(self):
        """Texts of the posts that the page holds, in its order."""
        return self.script(
            'return [...document.querySelectorAll("#posts article[data-id] .text")].map(text => text.textContent)')

    def wait_text(self, text, seconds=30):
        """Waits until a post is there; presses the button that says that there are new ones."""
        def is_there():
            if text in self.texts():
                return True
            arrivals = self.shown('#arrivals')
            if arrivals:
                self.act('show arrivals', lambda: (button := self.shown('#arrivals')) and self.press(button))
            return False

        try:
            until(f'the post {text[:60]!r} is there', is_there, seconds)
        except AssertionError as error:
            raise AssertionError(f'{error}; {self.describe()}') from None

    def wait_no_text(self, text):
        until(f'the post {text[:60]!r} is gone', lambda: text not in self.texts(), 20)

    def article(self, text):
        def find():
            for element in self.all('#posts article[data-id]'):
                if self.script('return arguments[0].querySelector(".text").textContent', element) == text:
                    return element
            raise NoSuchElementException(f'no post {text!r}')

        return self.act('look at posts', find)

    def delete(self, text):
        self.act('delete', lambda: self.press(
            self.article(text).find_element(By.CSS_SELECTOR, 'button.delete')))

    # Signing in, and letting in

    def sign_in(self, passphrase, name, as_origin=False):
        self.wait_view('stream', 'sign-in')
        if self.view == 'stream':
            self.click('#open-sign-in')
        self.wait_view('sign-in')
        self.fill('#passphrase', passphrase)
        self.fill('#device-name', name)
        if as_origin:
            self.click('#as-origin')
        self.submit('#sign-in')

    def own_words(self):
        self.wait_view('waiting', seconds=60)
        return until('the words are shown', lambda: normal_words(self.text('#own-words')))

    def request(self, name):
        """The request of a device of this name; its words."""
        def find():
            for element in self.all('#requests [data-request]'):
                if element.find_element(By.CSS_SELECTOR, '.name').text == name:
                    return element
            return None

        try:
            return until(f'the request of {name} is there', lambda: self.act('look at requests', find), 30)
        except AssertionError as error:
            raise AssertionError(f'{error}; {self.describe()}') from None

    def request_words(self, name):
        return self.act('read words', lambda: normal_words(
            self.request(name).find_element(By.CSS_SELECTOR, '.words').text))

    def answer(self, name, answer):
        """Presses `approve` or `deny`."""
        self.act(answer, lambda: self.press(
            self.request(name).find_element(By.CSS_SELECTOR, f'button.{answer}')))

    def wait_authorised(self):
        self.wait_view('stream', seconds=60)
        self.one('#draft')

    # Devices

    def open_devices(self):
        self.click('#open-devices')
        self.wait_view('devices')

    def device(self, name):
        def find():
            for element in self.all('#devices [data-writer]'):
                if element.find_element(By.CSS_SELECTOR, '.name').text == name:
                    return element
            return None

        try:
            return until(f'the device {name} is listed', lambda: self.act('look at devices', find), 20)
        except AssertionError as error:
            raise AssertionError(f'{error}; {self.describe()}') from None

    def press_device(self, name, button):
        self.act(f'{button} {name}', lambda: self.press(self.device(name).find_element(By.CSS_SELECTOR, button)))


def normal_words(text):
    """Words in one spelling, whatever stands between them on the screen."""
    return ' '.join(re.findall(r'[a-z-]+', text.lower()))
