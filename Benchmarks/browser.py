#!/usr/bin/python3
"""Measures the page in Chromium: the time to the first post, the rate at which posts come in, memory, and whether
the page can be used meanwhile. The node is a release build on loopback; each browser is cold.

usage: Benchmarks/browser.py [--json FILE] [--scale FACTOR]

  --json FILE      add the results to those that are there, in the form that hypha-bench writes
  --scale FACTOR   how many posts (default: 1, which is 50,000)

Ends with status 1 where a goal is missed.
"""

import argparse
import json
import selectors
import socket
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / 'Tests/Browser'))

from browser import PHONE, Chromium, descendants  # noqa: E402
from node import Node, until  # noqa: E402

# Notes when the first post can be seen, and for how long at most nothing else could be done once the page was loaded.
WATCH = '''
window.measured = {longest: 0};
new MutationObserver((_, observer) => {
  if (!document.querySelector('#posts article[data-id] .text')) return;
  observer.disconnect();
  requestAnimationFrame(() => setTimeout(() => measured.first = performance.now()));
}).observe(document, {childList: true, subtree: true});
let last;
addEventListener('load', function look() {
  const now = performance.now();
  measured.longest = Math.max(measured.longest, now - (last ?? now));
  last = now;
  setTimeout(look, 4);
});
'''


class Control:
    """Some connections to the control socket, each with as many requests under way as one may have."""

    def __init__(self, path, connections=4):
        self.sockets = []
        for _ in range(connections):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(path))
            self.sockets.append(connection)

    def call_all(self, method, parameters):
        waiting = selectors.DefaultSelector()
        parameters = iter(parameters)
        number = 0
        under_way = 0

        def send(connection, count):
            nonlocal number, under_way
            lines = b''
            for _, params in zip(range(count), parameters):
                number += 1
                lines += json.dumps({'jsonrpc': '2.0', 'id': number, 'method': method, 'params': params}).encode() + b'\n'
                under_way += 1
            connection.sendall(lines)

        for connection in self.sockets:
            waiting.register(connection, selectors.EVENT_READ)
            send(connection, 32)
        while under_way:
            for key, _ in waiting.select(60):
                answers = key.fileobj.recv(1 << 20)
                if b'"error"' in answers or not answers:
                    raise SystemExit(f'{method}: {answers[:500]}')
                count = answers.count(b'\n')
                under_way -= count
                send(key.fileobj, count)

    def close(self):
        for connection in self.sockets:
            connection.close()


def fill(node, start, end):
    control = Control(node.socket)
    control.call_all('posts.create', (
        {'text': f'What a short post says, number {number}: it rained in the morning, and then it did not.'}
        for number in range(start, end)))
    control.close()


def renderer_memory(browser):
    """Most memory that a page's process holds itself, files mapped into it left out, in 10^6 bytes."""
    largest = 0
    for process in descendants(browser.service.process.pid):
        try:
            if b'--type=renderer' not in Path(f'/proc/{process}/cmdline').read_bytes():
                continue
            for line in Path(f'/proc/{process}/status').read_text().splitlines():
                if line.startswith('RssAnon:'):
                    largest = max(largest, int(line.split()[1]) * 1024 / 1e6)
        except OSError:
            pass
    return largest


def visit(node, condition):
    """Opens the page in a new browser. Returns seconds until `condition`, what the page noted, and most memory."""
    browser = Chromium(PHONE).start()
    try:
        browser.cdp('Page.addScriptToEvaluateOnNewDocument', source=WATCH)
        memory = 0
        start = time.monotonic()
        browser.driver.get(node.url)

        def reached():
            nonlocal memory
            memory = max(memory, renderer_memory(browser))
            return browser.driver.execute_script(condition)

        until('the posts are there', reached, 900)
        seconds = time.monotonic() - start
        return seconds, browser.driver.execute_script('return measured'), memory
    finally:
        browser.remove()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--json')
    parser.add_argument('--scale', type=float, default=1)
    options = parser.parse_args()
    many = max(2000, int(50_000 * options.scale))

    node = Node(programs=CHECKOUT / '.build/release')
    report = []
    try:
        node.start()
        node.control('init', '--domain', 'localhost', '--generate-passphrase-to', str(node.folder / 'passphrase'))
        fill(node, 0, 1000)
        first = sorted((visit(node, 'return measured.first') for _ in range(3)), key=lambda visit: visit[1]['first'])[1]
        add(report, 'page: first post of 1,000 is visible, cold browser', first[1]['first'], 'ms', first[2], most=1000)
        fill(node, 1000, many)
        blocks = sum(feed['length'] for feed in node.control('status')['feeds'])
        seconds, measured, memory = visit(
            node, 'return measured.first && document.querySelector("#network").dataset.network == "live"')
        name = f'page: {many:,} posts'
        add(report, f'{name}, first is visible', measured['first'], 'ms', memory)
        add(report, f'{name}, fetched, verified and kept', blocks / seconds, '/s', memory, least=4000)
        add(report, f'{name}, longest time without a reaction', measured['longest'], 'ms', memory, most=100)
        add(report, f'{name}, memory', memory, 'MB', memory)
    finally:
        node.remove()
    if options.json:
        write(options.json, report)
    return any(result.get('goalReached') is False for result in report)


def add(report, name, value, unit, memory, least=None, most=None):
    result = {'name': name, 'value': value, 'unit': unit, 'memoryMB': memory}
    goal = ''
    if least is not None or most is not None:
        is_reached = value <= most if most is not None else value >= least
        result.update(goal=least if most is None else most, goalReached=is_reached)
        goal = f"{'>=' if most is None else '<='} {result['goal']:,} {'ok' if is_reached else 'MISSED'}"
    report.append(result)
    print(f"{name:<66}{f'{value:,.0f} {unit}':<17}{goal:<22}{memory:,.0f} MB", flush=True)


def write(path, report):
    """Adds to what hypha-bench wrote there; takes the place of an earlier run's results."""
    try:
        everything = json.loads(Path(path).read_text())
    except FileNotFoundError:
        everything = {'version': 1, 'workloads': []}
    names = {result['name'] for result in report}
    kept = [workload for workload in everything['workloads'] if workload['name'] not in names]
    lines = ',\n'.join(json.dumps(workload) for workload in [*kept, *report])
    Path(path).write_text(f'{{"version":{everything["version"]},"workloads":[\n{lines}\n]}}\n')


if __name__ == '__main__':
    sys.exit(main())
