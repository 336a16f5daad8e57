// Small things that outlive the page: the draft, and which posts wait to be deleted. Where storage is refused, they do not.

const prefix = 'hypha.';

export function recall(name) {
  try {
    return localStorage.getItem(prefix + name) ?? undefined;
  } catch {
    return undefined;
  }
}

/** What is remembered under names that begin with `start`: the rest of each name, and the value. */
export function recallAll(start) {
  try {
    return Object.entries(localStorage).filter(([name]) => name.startsWith(prefix + start))
      .map(([name, value]) => [name.slice(prefix.length + start.length), value]);
  } catch {
    return [];
  }
}

/** @param value to be remembered, or nothing, to forget it. */
export function remember(name, value) {
  try {
    if (value) localStorage.setItem(prefix + name, value); else localStorage.removeItem(prefix + name);
  } catch {
    // Refused: the page says so elsewhere.
  }
}

/**
 * Asks the browser not to throw away what this site keeps, the node's database too. It may say no.
 *
 * @param link told once there is an answer
 */
export async function keepStorage(link) {
  try {
    await navigator.storage.persist();
    await link.call('retry');
  } catch {
    // Not asked is as good as no.
  }
}
