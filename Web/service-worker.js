// Keeps one version of the page: all of its files, or none. `build` and `files` (paths with their integrity) are put in front
// of this by scripts/web.mjs. Requests for anything else, posts above all, never pass through here.

const cacheName = `hypha-${build}`;

self.addEventListener('install', (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(cacheName);
    await cache.addAll(Object.entries(files).map(([path, integrity]) => new Request(path, { integrity, cache: 'no-cache' })));
  })());
});

self.addEventListener('activate', (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) {
      if (name.startsWith('hypha-') && name !== cacheName) await caches.delete(name);
    }
    await self.clients.claim();
  })());
});

self.addEventListener('message', (event) => {
  if (event.data === 'take over') self.skipWaiting();
});

self.addEventListener('fetch', (event) => {
  const { origin, pathname } = new URL(event.request.url);
  if (origin !== location.origin || event.request.method !== 'GET' || !Object.hasOwn(files, pathname)) return;
  event.respondWith((async () => {
    const cache = await caches.open(cacheName);
    return await cache.match(pathname) ?? fetch(event.request);
  })());
});
