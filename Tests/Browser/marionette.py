"""Firefox as a Selenium driver without geckodriver: Marionette, its own remote protocol, spoken directly.

A message is a JSON list behind its size and a colon: [0, number, command, parameters], answered by
[1, number, error, result]. Commands and values are those of WebDriver.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.common import exceptions
from selenium.webdriver.remote.command import Command

from node import started, until

PREFERENCES = {
    'marionette.port': 0,
    'browser.shell.checkDefaultBrowser': False,
    'browser.startup.page': 0,
    'browser.aboutwelcome.enabled': False,
    'datareporting.policy.dataSubmissionEnabled': False,
    'app.update.disabledForTesting': True,
    'toolkit.telemetry.enabled': False,
    'network.captive-portal-service.enabled': False,
    'network.connectivity-service.enabled': False,
    'browser.safebrowsing.downloads.remote.enabled': False,
    'services.settings.server': 'data:,',
    'extensions.getAddons.cache.enabled': False,
}

# Selenium's commands: Marionette's name, and its parameters from Selenium's.
COMMANDS = {
    Command.NEW_SESSION: ('WebDriver:NewSession', lambda p: {}),
    Command.QUIT: ('Marionette:Quit', lambda p: {'flags': ['eForceQuit']}),
    Command.GET: ('WebDriver:Navigate', lambda p: p),
    Command.REFRESH: ('WebDriver:Refresh', lambda p: {}),
    Command.GET_CURRENT_URL: ('WebDriver:GetCurrentURL', lambda p: {}),
    Command.FIND_ELEMENT: ('WebDriver:FindElement', lambda p: p),
    Command.FIND_ELEMENTS: ('WebDriver:FindElements', lambda p: p),
    Command.FIND_CHILD_ELEMENT: ('WebDriver:FindElement', lambda p: {**p, 'element': p['id']}),
    Command.FIND_CHILD_ELEMENTS: ('WebDriver:FindElements', lambda p: {**p, 'element': p['id']}),
    Command.CLICK_ELEMENT: ('WebDriver:ElementClick', lambda p: p),
    Command.CLEAR_ELEMENT: ('WebDriver:ElementClear', lambda p: p),
    Command.SEND_KEYS_TO_ELEMENT: ('WebDriver:ElementSendKeys', lambda p: {'id': p['id'], 'text': p['text']}),
    Command.GET_ELEMENT_TEXT: ('WebDriver:GetElementText', lambda p: p),
    Command.W3C_EXECUTE_SCRIPT: ('WebDriver:ExecuteScript', lambda p: {**p, 'newSandbox': True}),
    Command.W3C_EXECUTE_SCRIPT_ASYNC: ('WebDriver:ExecuteAsyncScript', lambda p: {**p, 'newSandbox': True}),
    Command.SET_TIMEOUTS: ('WebDriver:SetTimeouts', lambda p: p),
    Command.SET_WINDOW_RECT: ('WebDriver:SetWindowRect', lambda p: p),
    Command.SCREENSHOT: ('WebDriver:TakeScreenshot', lambda p: {'full': False}),
}

ERRORS = {
    'stale element reference': exceptions.StaleElementReferenceException,
    'no such element': exceptions.NoSuchElementException,
    'element click intercepted': exceptions.ElementClickInterceptedException,
    'element not interactable': exceptions.ElementNotInteractableException,
    'javascript error': exceptions.JavascriptException,
}


class Connection:
    """What a Selenium driver sends its commands to."""

    def __init__(self, port):
        self.socket = socket.create_connection(('127.0.0.1', port), timeout=90)
        self.stream = self.socket.makefile('rb')
        self.number = 0
        self.receive()

    def receive(self):
        size = b''
        while (byte := self.stream.read(1)) not in (b':', b''):
            size += byte
        return json.loads(self.stream.read(int(size)))

    def execute(self, command, parameters):
        name, translate = COMMANDS[command]
        parameters = {key: value for key, value in (parameters or {}).items() if key != 'sessionId'}
        self.number += 1
        message = json.dumps([0, self.number, name, translate(parameters)]).encode()
        self.socket.sendall(b'%d:%s' % (len(message), message))
        _, _, error, result = self.receive()
        if error:
            raise ERRORS.get(error['error'], exceptions.WebDriverException)(f"{error['error']}: {error['message']}")
        is_wrapped = isinstance(result, dict) and set(result) == {'value'}
        return {'value': result['value'] if is_wrapped else result}

    def close(self):
        self.stream.close()
        self.socket.close()


class Firefox:
    """As browser.Chromium, of which it has what the tests of the whole flow need."""

    def __init__(self, size=(1280, 900)):
        self.size = size
        self.profile = Path(tempfile.mkdtemp(prefix='hypha-browser-'))
        self.faults = []
        self.driver = None
        started.add(self)
        lines = (f'user_pref({json.dumps(name)}, {json.dumps(value)});\n' for name, value in PREFERENCES.items())
        (self.profile / 'user.js').write_text(''.join(lines))

    def start(self):
        active = self.profile / 'MarionetteActivePort'
        active.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            ['firefox-esr', '--headless', '--marionette', '--no-remote', '--profile', self.profile],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, 'HOME': str(self.profile), 'MOZ_CRASHREPORTER_DISABLE': '1', 'LC_ALL': 'C.UTF-8'},
            start_new_session=True)
        port = until('Firefox listens', lambda: active.exists() and active.read_text().strip(), 60)
        self.connection = Connection(int(port))
        self.driver = webdriver.Remote(command_executor=self.connection, options=webdriver.FirefoxOptions())
        self.driver.set_script_timeout(60)
        self.driver.set_window_rect(width=self.size[0], height=self.size[1])
        return self

    def quit(self):
        if self.driver is None:
            return
        try:
            self.driver.quit()
            self.process.wait(20)
        except (subprocess.TimeoutExpired, OSError, ValueError):
            pass
        self.connection.close()
        self.driver = None
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def remove(self):
        started.discard(self)
        self.quit()
        shutil.rmtree(self.profile, ignore_errors=True)
