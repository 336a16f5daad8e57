"""Further builds of the web client: a newer one, and such that somebody altered."""

import hashlib
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
    """The built web client with one byte of the asset `name` changed, and a manifest that goes with it: the node takes
    it, and only the page's own hashes are against it."""
    web = Path(folder, 'web')
    shutil.copytree(WEB, web)
    manifest = json.loads((web / 'integrity.json').read_text())
    entry = next(entry for path, entry in manifest['files'].items() if path.endswith('/' + name))
    contents = bytearray((web / entry['file']).read_bytes())
    contents[-1] ^= 1
    (web / entry['file']).write_bytes(contents)
    entry.update(sha256=hashlib.sha256(contents).hexdigest(), encodings={})
    (web / 'integrity.json').write_text(json.dumps(manifest))
    return web
