"""Further builds of the web client: a newer one, and such that somebody altered."""

import json
import shutil
import subprocess
from pathlib import Path

from node import CHECKOUT, WEB

# What the console says of a file that is not the one that the page names.
REFUSED = ("Failed to find a valid digest in the 'integrity' attribute", "SRI's integrity checks failed")


def newer(folder):
    """Builds the web client from altered sources. Returns its folder."""
    for part in ('Web', 'scripts', 'debian', '.build/wasm'):
        shutil.copytree(CHECKOUT / part, Path(folder, part), symlinks=True)
    with open(Path(folder, 'Web/style.css'), 'a') as style:
        style.write('\n:root { --newer: 1; }\n')
    subprocess.run(['node', Path(folder, 'scripts/web.mjs')], check=True, stdout=subprocess.DEVNULL)
    return Path(folder, '.build/web')


def altered(folder, name):
    """The built web client, with one byte of the asset `name` changed, which the page does not know."""
    web = Path(folder, 'web')
    shutil.copytree(WEB, web)
    files = json.loads((web / 'integrity.json').read_text())['files']
    file = next(entry['file'] for path, entry in files.items() if path.endswith('/' + name))
    for path in (web / file).parent.glob(f'{name}*'):
        if path.suffix in ('.br', '.gz'):
            path.unlink()
    contents = bytearray((web / file).read_bytes())
    contents[-1] ^= 1
    (web / file).write_bytes(contents)
    return web
