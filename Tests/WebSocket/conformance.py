"""The WebSocket cases of the Autobahn test suite against the daemon's own handlers, which a small program serves that
sends back what it is sent.

The suite's cases are used as they are published; its own driver needs Python 2, so what they call is here. Differences:

- The daemon takes WebSocket for a stream of bytes: messages are binary, and where one ends does not matter. So text is sent
  in binary frames, and what comes back is cut where what was sent was. That text is refused is in `Tests/DaemonTests`.
- Not run, because it does not apply: 6.* (what is UTF-8 in text messages), 12.* and 13.* (compression, which is not offered).
- 9.1.6 and 9.2.6 send a frame of 16 MiB, above the daemon's bound: it is to be refused with code 1009.

Usage: conformance.py ECHO-PROGRAM [--verbose]
"""

import codecs
import hashlib
import importlib
import importlib.machinery
import os
import select
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = 'autobahntestsuite==25.10.1'
PACKAGE_HASH = 'b083d6e15330fc16f3e5f0975cce2b15f21bfa0c6db09547316b1852c6dbd6df'
FOLDER = CHECKOUT / '.build/autobahn'
CLOSED, CONNECTING, OPEN, CLOSING = 0, 1, 2, 3
# By module. Of 9.9 the suite itself makes no use.
SKIPPED = ('case6', 'case12', 'case13', 'case9_9')
REFUSED = ('9.1.6', '9.2.6')
# What Python 2 meant.
CORRECTIONS = [(b'(object, Case, )', b'(Case, )'), (b'len(self.payload) / ', b'len(self.payload) // '),
               (b'(object, Case,)', b'(Case, )')]


def sources():
    """The suite's cases; fetched once, pinned by their hash."""
    archive = FOLDER / 'suite.tar.gz'
    if not archive.exists() or hashlib.sha256(archive.read_bytes()).hexdigest() != PACKAGE_HASH:
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            requirement = Path(folder, 'requirements.txt')
            requirement.write_text(f'{PACKAGE} --hash=sha256:{PACKAGE_HASH}\n')
            subprocess.run([sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--require-hashes',
                            '--no-binary', ':all:', '--dest', folder, '--requirement', requirement], check=True)
            archive.write_bytes(next(Path(folder).glob('*.tar.gz')).read_bytes())
    cases = {}
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            name = Path(member.name)
            if name.parent.name == 'case' and name.suffix == '.py':
                text = tar.extractfile(member).read()
                for before, after in CORRECTIONS:
                    text = text.replace(before, after)
                cases[name.stem] = text
    return cases


class Loader:
    """Imports the suite's modules by the names that they have for each other."""

    def __init__(self, modules):
        self.modules = modules

    def find_spec(self, name, path=None, target=None):
        if name in self.modules:
            return importlib.machinery.ModuleSpec(name, self)
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.__dict__['xrange'] = range
        exec(compile(self.modules[module.__name__], module.__name__ + '.py', 'exec'), module.__dict__)


def all_cases():
    protocol = types.ModuleType('autobahn.websocket.protocol')
    protocol.WebSocketProtocol = Protocol
    for name in ('autobahn', 'autobahn.websocket'):
        sys.modules[name] = types.ModuleType(name)
    sys.modules['autobahn.websocket.protocol'] = protocol
    sys.meta_path.insert(0, Loader(sources()))
    base = importlib.import_module('case').Case
    # One byte a character, as in Python 2.
    base.compare = lambda self, a, b: repr(a) == repr(b)
    cases = {}
    for name in sorted(sys.meta_path[0].modules):
        if not name.startswith('case') or name == 'case' or name.startswith(SKIPPED):
            continue
        for value in vars(importlib.import_module(name)).values():
            for found in value if isinstance(value, list) else [value]:
                if isinstance(found, type) and issubclass(found, base) and found is not base:
                    cases['.'.join(found.__name__[len('Case'):].split('_'))] = found
    return dict(sorted(cases.items(), key=lambda item: [int(part) for part in item[0].split('.')]))


class Protocol:
    """What a case calls, and what it looks at afterwards: a client's end of one connection."""

    STATE_CLOSED, STATE_CONNECTING, STATE_OPEN, STATE_CLOSING = CLOSED, CONNECTING, OPEN, CLOSING
    CLOSE_STATUS_CODE_NORMAL = 1000
    CLOSE_STATUS_CODE_PROTOCOL_ERROR = 1002
    CLOSE_STATUS_CODE_INVALID_PAYLOAD = 1007

    def __init__(self, port, case):
        self.factory = types.SimpleNamespace(isServer=False)
        self.state = CONNECTING
        self.createWirelog = False
        self.connectionWasOpen = False
        self.closedByMe = self.failedByMe = self.droppedByMe = self.wasClean = False
        self.remoteCloseCode = self.localCloseCode = self.localCloseReason = None
        self.autoFragmentSize = 0
        self.txFrameStats = {}
        self.trafficStats = None
        self._timers = []
        # Messages that were sent, each its length and whether it is binary, until they are back.
        self._sent = []
        self._open = None
        self._echoed = bytearray()
        self._input = bytearray()
        self._message = None
        self._socket = socket.create_connection(('127.0.0.1', port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._case = case(self)

    # What cases call

    def enableWirelog(self, enable):
        pass

    def continueLater(self, delay, function, tag=None):
        self._timers.append((time.monotonic() + delay, function))

    def killAfter(self, delay):
        self.continueLater(delay, self._fail)

    def closeAfter(self, delay):
        self.continueLater(delay, self.sendClose)

    def sendFrame(self, opcode, payload='', fin=True, rsv=0, mask=None, payload_len=None, chopsize=None, sync=False):
        data = octets(payload)
        if payload_len is not None:
            data = (data * (payload_len // max(len(data), 1) + 1))[:payload_len]
        self.txFrameStats[opcode] = self.txFrameStats.get(opcode, 0) + 1
        if opcode in (1, 2):
            self._open = [0, opcode == 2]
        if opcode in (0, 1, 2) and self._open:
            self._open[0] += len(data)
            if fin:
                self._sent.append(self._open)
                self._open = None
        self._write(frame(2 if opcode == 1 else opcode, data, fin, rsv), chopsize)

    def sendMessage(self, payload, isBinary=False, fragmentSize=None, sync=False, doNotCompress=False, binary=False):
        size = fragmentSize or self.autoFragmentSize or max(len(payload), 1)
        opcode = 2 if isBinary or binary else 1
        for start in range(0, max(len(payload), 1), size):
            self.sendFrame(opcode, payload[start:start + size], fin=start + size >= len(payload))
            opcode = 0

    def sendClose(self, code=None, reason=None):
        if self.state == OPEN:
            self.sendCloseFrame(code, None if reason is None else octets(reason))

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        if self.state != OPEN:
            return
        payload = (b'' if code is None else struct.pack('>H', code)) + octets(reasonUtf8 or '')
        self.state = CLOSING
        self.closedByMe = not isReply
        self._write(frame(8, payload))

    def _fail(self):
        if self.state in (OPEN, CLOSING):
            self.failedByMe = self.droppedByMe = True
            self._drop()

    # The connection

    def _write(self, data, chopsize=None):
        try:
            for start in range(0, len(data), chopsize or max(len(data), 1)):
                piece = data[start:start + (chopsize or len(data))]
                while piece and self.state != CLOSED:
                    readable, writable, _ = select.select([self._socket], [self._socket], [], 10)
                    if writable:
                        piece = piece[self._socket.send(piece):]
                    elif not readable:
                        raise TimeoutError
                    # What comes back meanwhile is taken, or both sides would wait for each other.
                    if readable and not self._take():
                        return
        except OSError:
            self._drop()

    def _drop(self):
        self.state = CLOSED
        self._socket.close()

    def _take(self):
        data = self._socket.recv(1 << 18)
        self._input += data
        if not data:
            self._drop()
        return bool(data)

    def run(self, path='/hypha', seconds=120):
        end = time.monotonic() + seconds
        self._socket.sendall((f'GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
                              'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n').encode())
        while b'\r\n\r\n' not in self._input:
            assert self._take(), 'the handshake was not answered'
        header, _, rest = bytes(self._input).partition(b'\r\n\r\n')
        assert header.startswith(b'HTTP/1.1 101'), header
        self._input = bytearray(rest)
        self.state, self.connectionWasOpen = OPEN, True
        self._case.onOpen()
        while self.state != CLOSED and time.monotonic() < end:
            self._turn()
        if self.state != CLOSED:
            self._fail()
        # What came before the end counts.
        while self._frame() or self._deliver():
            pass
        self._case.onConnectionLost(self.failedByMe)
        return self._case

    def _turn(self):
        while self.state != CLOSED and (self._frame() or self._deliver()):
            pass
        if self.state == CLOSED:
            return
        due = min((timer[0] for timer in self._timers), default=time.monotonic() + 1)
        if select.select([self._socket], [], [], max(0, due - time.monotonic()))[0]:
            try:
                self._take()
            except OSError:
                self._drop()
        now = time.monotonic()
        for timer in [timer for timer in self._timers if timer[0] <= now]:
            self._timers.remove(timer)
            if self.state != CLOSED:
                timer[1]()

    def _frame(self):
        """Takes one frame that has come, if it is whole."""
        data = self._input
        if len(data) < 2:
            return False
        assert not data[1] & 0x80, 'a server masks nothing'
        size, start = data[1] & 127, 2
        if size > 125:
            start = 4 if size == 126 else 10
            if len(data) < start:
                return False
            size = int.from_bytes(data[2:start], 'big')
        if len(data) < start + size:
            return False
        opcode, payload = data[0] & 15, bytes(data[start:start + size])
        assert data[0] & 0x70 == 0 and (opcode < 8 or data[0] & 0x80), 'frames as RFC 6455 has them'
        del data[:start + size]
        if opcode in (0, 2):
            self._echoed += payload
        elif opcode == 9:
            self._case.onPing(payload.decode('latin-1'))
        elif opcode == 10:
            self._case.onPong(payload.decode('latin-1'))
        elif opcode == 8:
            self.wasClean = True
            self.remoteCloseCode = struct.unpack('>H', payload[:2])[0] if payload else None
            if payload:
                codecs.decode(payload[2:], 'utf-8')
            if self.state == OPEN:
                self.sendCloseFrame(self.remoteCloseCode, isReply=True)
            self._timers.append((time.monotonic() + 5, self._fail))
        else:
            raise AssertionError(f'opcode {opcode}')
        return True

    def _deliver(self):
        """Hands on a message that is back."""
        if self.wasClean or not self._sent or len(self._echoed) < self._sent[0][0]:
            return False
        size, binary = self._sent.pop(0)
        payload = bytes(self._echoed[:size]).decode('latin-1')
        del self._echoed[:size]
        self._case.onMessage(payload, binary)
        return True


def octets(text):
    return text if isinstance(text, bytes) else text.encode('latin-1')


def frame(opcode, payload, fin=True, rsv=0):
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += bytes([0x80 | 126]) + struct.pack('>H', size)
    else:
        head += bytes([0x80 | 127]) + struct.pack('>Q', size)
    mask = os.urandom(4)
    repeated = int.from_bytes((mask * (size // 4 + 1))[:size], 'big')
    return head + mask + (int.from_bytes(payload, 'big') ^ repeated).to_bytes(size, 'big')


def outcome(name, case, port):
    """Whether a case passed, and in words how."""
    try:
        protocol = Protocol(port, case)
        ran = protocol.run()
    except Exception as error:  # Whatever a case runs into is its outcome.
        return False, f'{type(error).__name__}: {error}'
    if name in REFUSED:
        return protocol.remoteCloseCode == 1009, f'refused with {protocol.remoteCloseCode}'
    passed = ran.behavior in ('OK', 'NON-STRICT', 'INFORMATIONAL') and ran.behaviorClose in ('OK', 'INFORMATIONAL')
    return passed, f'{ran.behavior}, close {ran.behaviorClose}: {ran.result} {ran.resultClose}'


def main():
    cases = all_cases()
    echo = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        port = int(echo.stdout.readline())
        outcomes = {}
        # Most cases only wait. Those of 9.* are work, and at a time no more than are done at once.
        for names, workers in [([name for name in cases if not name.startswith('9.')], 16),
                               ([name for name in cases if name.startswith('9.')], 2)]:
            with ThreadPoolExecutor(workers) as pool:
                outcomes.update(zip(names, pool.map(lambda name: outcome(name, cases[name], port), names)))
        assert echo.poll() is None, 'the server ended'
    finally:
        echo.stdin.close()
        echo.wait(60)
    for name, case in cases.items():
        passed, text = outcomes[name]
        if not passed or '--verbose' in sys.argv:
            print(f'{"passed" if passed else "FAILED"} {name}: {case.DESCRIPTION.strip()} {text}')
    failed = sum(not passed for passed, _ in outcomes.values())
    strict = sum(text.startswith('NON-STRICT') for _, text in outcomes.values())
    print(f'WebSocket: {len(cases)} cases of the Autobahn test suite, {failed} failed, {strict} passed as not strict.')
    return 1 if failed or len(cases) < 150 else 0


if __name__ == '__main__':
    sys.exit(main())
