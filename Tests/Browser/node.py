"""The daemon and the command line that the same build made, as processes on loopback."""

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAMS = CHECKOUT / '.build/debug'
WEB = CHECKOUT / '.build/web'


# What was started and is not yet removed. Whatever ends this program, nothing of it stays.
started = set()


@atexit.register
def remove_all():
    for thing in list(started):
        thing.remove()


def end(number, frame):
    # An exception would only end the test that runs.
    remove_all()
    os._exit(128 + number)


signal.signal(signal.SIGTERM, end)


class Refused(Exception):
    """What hyphactl said on its standard error, and its exit status."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def until(what, condition, seconds=30):
    """Waits until `condition` gives something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f'waited {seconds} s in vain until {what}')
        time.sleep(0.05)


def free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


class Node:
    """One hyphad with a folder and a port of its own. They stay the same when it is stopped and started again."""

    def __init__(self, web=WEB, programs=PROGRAMS, https=False):
        self.folder = Path(tempfile.mkdtemp(prefix='hypha-'))
        self.port = free_port()
        self.programs = programs
        self.socket = self.folder / 'control'
        self.process = None
        self.web = web
        self.https_port = free_port() if https else None
        started.add(self)

    @property
    def url(self):
        return f'https://localhost:{self.https_port}/' if self.https_port else f'http://localhost:{self.port}/'

    def start(self):
        (self.folder / 'hyphad.toml').write_text(
            f'[node]\nstate_folder = "{self.folder}/state"\ndevice_name = "server"\n'
            f'[http]\naddress = "127.0.0.1:{self.port}"\nweb_folder = "{self.web}"\n'
            f'[control]\nsocket = "{self.socket}"\n' + self.https_settings())
        with open(self.folder / 'log', 'ab') as log:
            self.process = subprocess.Popen(
                [self.programs / 'hyphad', '--config', self.folder / 'hyphad.toml'],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(f'hyphad answers; its log:\n{self.log()}', self.answers)
        return self

    def https_settings(self):
        if not self.https_port:
            return ''
        certificate, key = self.folder / 'certificate.pem', self.folder / 'key.pem'
        if not certificate.exists():
            subprocess.run(
                ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
                 '-days', '60', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost',
                 '-keyout', key, '-out', certificate], check=True, capture_output=True)
        return f'[https]\naddress = "127.0.0.1:{self.https_port}"\ncertificate = "{certificate}"\nkey = "{key}"\n'

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f'hyphad ended with status {self.process.returncode}:\n{self.log()}')
        try:
            return 'daemon' in self.control('version')
        except Refused:
            return False

    def log(self):
        path = self.folder / 'log'
        return path.read_text(errors='replace')[-2000:] if path.exists() else ''

    def stop(self, number=signal.SIGTERM):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def remove(self):
        started.discard(self)
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def control(self, *arguments, text=None):
        """What `hyphactl ARGUMENTS --json` answers; `text` is its standard input.

        `status` answers and ends with 1 where the node is not ready.
        """
        result = subprocess.run(
            [self.programs / 'hyphactl', *arguments, '--socket', self.socket, '--json'],
            input=text, stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True, text=True, timeout=60)
        if result.returncode != 0 and not result.stdout.strip():
            raise Refused(result.returncode, result.stderr.strip())
        return json.loads(result.stdout) if result.stdout.strip() else {}

    def new_hypha(self, server):
        """Makes this node the origin of a hypha that `server` keeps."""
        self.control('init', '--domain', 'localhost', '--generate-passphrase-to', self.folder / 'passphrase')
        self.control('connect', f'ws://127.0.0.1:{server.port}', '--setup-code-file', '-', text=server.setup_code())

    def setup_code(self):
        return self.control('setup-code')['code']

    def texts(self, limit=100):
        """Its posts' texts, newest first."""
        return [post['text'] for post in self.control('posts', '--limit', str(limit))['posts']]
