import { byID } from './elements.mjs';
import { scriptURL } from './link.mjs';

/** Has a service worker keep this version of the page, so that it opens without a network, and says when there is a new one. */
export async function followUpdates() {
  if (!navigator.serviceWorker) return;
  const tell = (registration) => {
    const waiting = registration.waiting;
    if (!waiting || !navigator.serviceWorker.controller) return;
    byID('update').hidden = false;
    byID('update-now').onclick = () => {
      navigator.serviceWorker.addEventListener('controllerchange', () => location.reload(), { once: true });
      waiting.postMessage('take over');
    };
  };
  try {
    const registration = await navigator.serviceWorker.register(scriptURL('/service-worker.js'), { updateViaCache: 'none' });
    tell(registration);
    registration.addEventListener('updatefound', () => {
      const coming = registration.installing;
      coming?.addEventListener('statechange', () => tell(registration));
    });
  } catch {
    // Without one, all but opening offline works.
  }
}
