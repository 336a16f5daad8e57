#!/usr/bin/python3
"""Pictures of every view in both sizes, light and dark. usage: Tests/Browser/screenshots.py [FOLDER]"""

import sys
import tempfile
import time
from pathlib import Path

from browser import LAPTOP, PHONE
from case import BrowserTest
from node import CHECKOUT
from walk import views


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else CHECKOUT / 'dist/screenshots')
    folder.mkdir(parents=True, exist_ok=True)
    # For what a test starts, and cleans up.
    test = BrowserTest()
    try:
        with tempfile.TemporaryDirectory(prefix='hypha-web-') as builds:
            for name, page in views(test.new_node, test.new_page, builds):
                for size in (PHONE, LAPTOP):
                    for dark in (False, True):
                        page.browser.emulate(size, dark)
                        time.sleep(0.2)
                        page.driver.save_screenshot(
                            str(folder / f'{name}-{size[0]}-{"dark" if dark else "light"}.png'))
                print(name, flush=True)
    finally:
        test.doCleanups()
    print(f'{len(list(folder.glob("*.png")))} pictures in {folder}')


if __name__ == '__main__':
    main()
