"""Browsers: Chromium by chromedriver, Firefox by its own remote protocol, both as Selenium drivers.

Each has a profile folder of its own, which outlives it: started again with the same one, it is the same person's
browser opened anew.
"""

import os
import shutil
import signal
import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from node import started, until

PHONE = (390, 844)
LAPTOP = (1280, 900)

# What the console says where the server is stopped or has no hypha yet, as it is to be in these tests.
EXPECTED = ('net::ERR_CONNECTION_REFUSED', 'net::ERR_INTERNET_DISCONNECTED', 'net::ERR_CONNECTION_RESET',
            'net::ERR_EMPTY_RESPONSE', '/.well-known/dat - Failed to load resource: the server responded with a status of 404',
            'WebSocket connection to')


def descendants(process):
    """Processes that `process` started, and those that they started."""
    parents = {}
    for folder in Path('/proc').iterdir():
        if folder.name.isdigit():
            try:
                parents.setdefault(int((folder / 'stat').read_text().rsplit(')', 1)[1].split()[1]), []).append(int(folder.name))
            except (OSError, IndexError):
                pass
    found = []
    left = [process]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


class Chromium:
    def __init__(self, size=LAPTOP, dark=False, keeps_nothing=False, trusts_all=False):
        self.size = size
        self.dark = dark
        self.keeps_nothing = keeps_nothing
        # For certificates that tests make.
        self.trusts_all = trusts_all
        self.profile = Path(tempfile.mkdtemp(prefix='hypha-browser-'))
        self.faults = []
        self.expected = EXPECTED
        self.driver = None
        started.add(self)

    def start(self):
        options = webdriver.ChromeOptions()
        options.binary_location = '/usr/bin/chromium'
        for argument in ('headless=new', 'disable-dev-shm-usage', 'disable-background-networking', 'disable-sync',
                         'no-first-run', 'lang=en', f'user-data-dir={self.profile}', 'window-size=1280,1000',
                         # A tab that is not in front is a tab all the same.
                         'disable-backgrounding-occluded-windows', 'disable-renderer-backgrounding'):
            options.add_argument(f'--{argument}')
        if os.geteuid() == 0:
            options.add_argument('--no-sandbox')
        if self.trusts_all:
            options.add_argument('--ignore-certificate-errors')
        options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
        if self.keeps_nothing:
            # As a person sets it who wants sites to keep nothing: all storage is refused.
            options.add_experimental_option('prefs', {'profile.default_content_setting_values.cookies': 2})
        self.service = Service('/usr/bin/chromedriver')
        self.driver = webdriver.Chrome(service=self.service, options=options)
        self.driver.set_page_load_timeout(60)
        self.driver.set_script_timeout(60)
        self.emulate()
        return self

    def emulate(self, size=None, dark=None):
        """Sets size and colours of the current tab; each new tab needs it anew."""
        self.size = size or self.size
        self.dark = self.dark if dark is None else dark
        width, height = self.size
        self.cdp('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1,
                 mobile=width < 600)
        self.cdp('Emulation.setEmulatedMedia', features=[
            {'name': 'prefers-color-scheme', 'value': 'dark' if self.dark else 'light'},
            {'name': 'prefers-reduced-motion', 'value': 'reduce'}])

    def cdp(self, method, **parameters):
        return self.driver.execute_cdp_cmd(method, parameters)

    def new_tab(self, url):
        self.driver.switch_to.new_window('tab')
        self.emulate()
        self.driver.get(url)
        return self.driver.current_window_handle

    def check_console(self):
        """Notes what the console says that is not expected: errors that nothing caught, and what the policy forbade."""
        for entry in self.driver.get_log('browser'):
            if entry['level'] == 'SEVERE' and not any(part in entry['message'] for part in self.expected):
                self.faults.append(entry['message'])

    def quit(self):
        """Closes it as a person does; what it keeps is in its profile."""
        if self.driver is None:
            return
        try:
            # It writes its storage out when it is asked to close, not when its driver ends it.
            self.check_console()
            children = descendants(self.service.process.pid)
            self.cdp('Browser.close')
            until('the browser is closed', lambda: not any(map(is_running, children)), 10)
        except Exception:
            pass
        self.kill()

    def kill(self):
        """Ends it at once, as a power cut does to its processes."""
        if self.driver is None:
            return
        for process in [*descendants(self.service.process.pid), self.service.process.pid]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.service.process.wait()
        self.driver.command_executor.close()
        self.driver = None
        for lock in self.profile.glob('Singleton*'):
            lock.unlink()

    def remove(self):
        started.discard(self)
        self.quit()
        shutil.rmtree(self.profile, ignore_errors=True)


def is_running(process):
    try:
        return (Path('/proc') / str(process) / 'stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except OSError:
        return False
