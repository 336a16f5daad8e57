"""axe-core, which finds faults of accessibility, as a Python package ships it; fetched once, pinned by its hash."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from node import CHECKOUT

PACKAGE = 'axe-playwright-python==0.1.8'
WHEEL_HASH = 'fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8'
FILE = CHECKOUT / '.build/axe.min.js'
FILE_HASH = '84494fec757e4710dc751c8d7a636e457f4532f08f85c86dc9070133fbff53bc'


def source():
    if not FILE.exists() or hashlib.sha256(FILE.read_bytes()).hexdigest() != FILE_HASH:
        with tempfile.TemporaryDirectory() as folder:
            requirement = Path(folder, 'requirements.txt')
            requirement.write_text(f'{PACKAGE} --hash=sha256:{WHEEL_HASH}\n')
            subprocess.run([sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--require-hashes',
                            '--dest', folder, '--requirement', requirement], check=True)
            with zipfile.ZipFile(next(Path(folder).glob('*.whl'))) as wheel:
                contents = wheel.read('axe_playwright_python/axe.min.js')
        assert hashlib.sha256(contents).hexdigest() == FILE_HASH, 'axe.min.js is another one than it was'
        FILE.write_bytes(contents)
    return FILE.read_text()


def violations(driver):
    """What axe finds in the current view, one sentence each."""
    # A driver's script is not subject to the page's policy, which allows no further scripts.
    driver.execute_script(source() + '; window.axe = axe;')
    results = driver.execute_async_script(
        'const done = arguments[arguments.length - 1];'
        'axe.run(document, {resultTypes: ["violations"]}).then(results => done(results.violations),'
        ' error => done([{id: "axe", help: String(error), nodes: []}]));')
    return [f"{violation['id']}: {violation['help']}: "
            + ' | '.join(f"{node['html'][:200]} {node.get('failureSummary', '')}" for node in violation['nodes'][:3])
            for violation in results]
