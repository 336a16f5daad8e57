// A writer's secrets at rest: one copy under a key that WebCrypto does not give out, and another under the key that comes
// from the passphrase. Locking drops the first. Each copy says which hypha and which purpose it is for.

const cipher = 'AES-GCM';

const binding = (hypha, purpose) => new TextEncoder().encode(`hypha web 1 ${hypha} ${purpose}`);

function passphraseKey(atRestKey) {
  return crypto.subtle.importKey('raw', atRestKey, cipher, false, ['encrypt', 'decrypt']);
}

/** Overwrites what held a secret. */
export function wipe(...secrets) {
  for (const secret of secrets) secret?.fill(0);
}

async function seal(key, { secretKey, channelKey }, hypha, purpose) {
  const plaintext = new Uint8Array(secretKey.length + channelKey.length);
  plaintext.set(secretKey);
  plaintext.set(channelKey, secretKey.length);
  const nonce = crypto.getRandomValues(new Uint8Array(12));
  try {
    const sealed = await crypto.subtle.encrypt(
      { name: cipher, iv: nonce, additionalData: binding(hypha, purpose) }, key, plaintext);
    return { nonce, sealed: new Uint8Array(sealed) };
  } finally {
    wipe(plaintext);
  }
}

async function unseal(key, { nonce, sealed }, hypha, purpose) {
  const plaintext = new Uint8Array(await crypto.subtle.decrypt(
    { name: cipher, iv: nonce, additionalData: binding(hypha, purpose) }, key, sealed));
  const secrets = { secretKey: plaintext.slice(0, 64), channelKey: plaintext.slice(64) };
  wipe(plaintext);
  return secrets;
}

/** Seals secrets under a new key that never leaves this browser. */
export async function sealHere(secrets, hypha) {
  const key = await crypto.subtle.generateKey({ name: cipher, length: 256 }, false, ['encrypt', 'decrypt']);
  return { key, ...await seal(key, secrets, hypha, 'here') };
}

/** @throws where they were altered, or are another hypha's */
export const unsealHere = (here, hypha) => unseal(here.key, here, hypha, 'here');

/** Seals secrets under the passphrase's key for secrets at rest. */
export async function sealLocked(secrets, atRestKey, hypha) {
  return seal(await passphraseKey(atRestKey), secrets, hypha, 'locked');
}

/** @throws where the key is another, or they were altered */
export async function unsealLocked(locked, atRestKey, hypha) {
  return unseal(await passphraseKey(atRestKey), locked, hypha, 'locked');
}
