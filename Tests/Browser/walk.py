"""A walk through every view and state of the page, for whoever wants to look at each."""

import signal
import time

import build
from node import until

POSTS = (
    'The rain came in from the west in the afternoon, and stayed. ' * 40,
    'שלום עולם. مرحبا بالعالم.',
    'A long address: https://example.org/' + 'of/many/parts/' * 12,
    'x' * 500,
    'one\n\n    two\nthree, 🌱🌿🌳',
    'Bread is in the oven.',
    'A walk along the river: the first swallows are here, and somebody has painted the bench green.',
)

# Puts what one database has in the place of what another has. Who had that open may not write there any more.
COPY_STORES = '''
const [from, to, done] = arguments;
const result = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});
const open = (name) => {
  const request = indexedDB.open(name, 1);
  request.onupgradeneeded = () => ['pages', 'state'].forEach((store) => request.result.createObjectStore(store));
  return result(request);
};
(async () => {
  const [source, target] = [await open(from), await open(to)];
  for (const name of ['pages', 'state']) {
    const kept = source.transaction(name).objectStore(name);
    const [keys, values] = await Promise.all([result(kept.getAllKeys()), result(kept.getAll())]);
    const store = target.transaction(name, 'readwrite').objectStore(name);
    store.clear();
    keys.forEach((key, place) => store.put(values[place], key));
    await result(store.delete('epoch'));
  }
  source.close();
  target.close();
})().then(() => done(), (error) => done(String(error)));
'''


def views(new_node, new_page, folder):
    """Yields the name of each state, and the page that is in it; then goes on from there.

    `new_node` and `new_page` start what is needed, `folder` is for further builds of the page.
    """
    server = new_node()
    origin = new_page(server.url).open()
    yield from setting_up(server, origin)
    passphrase = yield from refused_then_done(server, origin)
    yield 'stream-empty', origin
    yield from posting(origin)
    device = new_page(server.url).open()
    device.wait_text(POSTS[-1])
    yield 'reader', device
    yield from letting_in(origin, device, passphrase)
    yield from devices(origin, device)
    yield from forking(server, origin, device, passphrase)
    yield from locking(origin)
    yield from going_offline(server, origin, device)
    yield from another_build(server, origin, folder)
    yield from failing(new_node, new_page, folder)


def setting_up(server, page):
    page.wait_view('setup-code')
    yield 'setup-code', page
    page.fill('#setup-code', 'a wrong one')
    page.submit('#setup-code-form')
    passphrase = page.read_words()
    yield 'setup-words', page
    page.click('#saved')
    page.confirm('no ' * 8, 'laptop')
    page.wait_error()
    yield 'setup-confirm', page
    server.process.send_signal(signal.SIGSTOP)
    page.confirm(passphrase, 'laptop')
    page.wait_view('setup-progress')
    time.sleep(1)
    yield 'setup-progress', page
    server.process.send_signal(signal.SIGCONT)


def refused_then_done(server, page):
    page.wait_view('setup-code')
    page.wait_error()
    yield 'setup-refused', page
    return page.reload().set_up(server.setup_code())


def posting(page):
    for text in POSTS:
        page.compose(text, paste=True)
    yield 'stream', page
    page.paste('#draft', 'A draft\nof three\nlines')
    yield 'stream-draft', page
    page.paste('#draft', 'too long ' * 8000)
    yield 'stream-draft-too-long', page
    page.paste('#draft', '')
    page.delete('Bread is in the oven.')
    page.one('#undo')
    page.script('scrollTo(0, 0)')
    yield 'stream-deleted', page
    page.click('#undo')


def letting_in(origin, device, passphrase):
    device.click('#open-sign-in')
    device.wait_view('sign-in')
    yield 'sign-in', device
    device.sign_in('correct horse zzzzz staple', 'phone')
    device.wait_error()
    yield 'sign-in-wrong', device
    device.sign_in(passphrase, 'phone')
    device.own_words()
    yield 'waiting', device
    device.click('#read')
    device.wait_view('stream')
    yield 'waiting-reading', device
    device.click('#standing a')
    device.wait_view('waiting')
    origin.request('phone')
    origin.script('scrollTo(0, 0)')
    yield 'request', origin
    origin.answer('phone', 'deny')
    device.one('#ask-again')
    yield 'denied', device
    device.click('#ask-again')
    device.own_words()
    origin.answer('phone', 'approve')
    device.wait_authorised()
    yield 'let-in', device


def devices(origin, device):
    origin.open_devices()
    origin.device('phone')
    yield 'devices', origin
    origin.press_device('phone', 'button.rename')
    yield 'devices-rename', origin
    origin.press_device('phone', 'button.revoke')
    yield 'devices-revoke', origin
    origin.press_device('phone', 'button.really')
    until('the device sees it', lambda: device.shown('#standing') and device.shown('#draft') is None)
    yield 'devices-revoked', origin
    yield 'revoked', device


def forking(server, origin, device, passphrase):
    """The device, let in anew, posts; then its storage is set back, and it posts again before it can hear of that."""
    device.click('#standing a')
    device.wait_view('sign-in')
    device.sign_in(passphrase, 'phone again')
    device.own_words()
    origin.answer('phone again', 'approve')
    device.wait_authorised()
    device.compose('in both versions')
    copy_stores(device, 'location.hostname', '"copy"')
    for text in ('in the first version', 'in the first version, too'):
        device.compose(text)
        until('the server has it', lambda: server.texts()[0] == text)
    server.stop()
    device.wait_network('offline')
    copy_stores(device, '"copy"', 'location.hostname')
    device.reload().wait_text('in both versions')
    device.compose('in the second version')
    server.start()
    device.wait_view('forked', seconds=60)
    yield 'forked', device
    device.click('#sign-in-again')
    device.wait_view('sign-in')


def copy_stores(page, source, target):
    failure = page.driver.execute_async_script(COPY_STORES.replace('= arguments', f'= [{source}, {target}, arguments[0]]'))
    assert failure is None, failure


def locking(page):
    page.click('#lock')
    page.wait_view('stream')
    page.one('#standing a')
    yield 'locked', page
    page.click('#standing a')
    page.wait_view('unlock')
    yield 'unlock', page
    page.click('#leave')
    page.wait_view('sign-out')
    yield 'sign-out', page
    page.click('.actions a')
    page.wait_view('stream')


def going_offline(server, origin, device):
    server.stop()
    origin.wait_network('offline')
    yield 'offline', origin
    # The page itself is kept by the service worker; what is lost is the hypha.
    device.driver.get('about:blank')
    device.browser.cdp('Storage.clearDataForOrigin', origin=device.url.rstrip('/'), storageTypes='indexeddb')
    device.open().wait_view('unreachable')
    yield 'unreachable', device
    server.start()


def another_build(server, page, folder):
    server.stop()
    server.web = build.newer(folder + '/newer')
    server.start()
    page.reload().one('#update', seconds=60)
    yield 'update', page


def failing(new_node, new_page, folder):
    server = new_node(web=build.altered(folder + '/altered', 'hypha.wasm'))
    page = new_page(server.url)
    page.browser.expected += build.REFUSED
    page.open().wait_view('failed')
    yield 'failed', page
    server = new_node()
    page = new_page(server.url, keeps_nothing=True)
    page.open().set_up(server.setup_code())
    page.one('#storage')
    yield 'storage-refused', page
