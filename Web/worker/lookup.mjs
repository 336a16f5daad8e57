import { CallError } from './errors.mjs';
import { limits } from './limits.mjs';

/** How a body begins: it may have no end. */
async function beginning({ body }) {
  if (!body) return '';
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  while (text.length < limits.lookUpBytes) {
    const { done, value } = await reader.read();
    if (done) return text;
    text += decoder.decode(value, { stream: true });
  }
  reader.cancel().catch(() => {});
  return text.slice(0, limits.lookUpBytes);
}

/**
 * Asks an always-on node which hypha it keeps.
 *
 * @returns the key in hexadecimal; undefined where it keeps none
 * @throws {CallError} `offline` where it does not answer
 */
export async function lookUp(origin, fetch = globalThis.fetch) {
  let response;
  let text;
  try {
    response = await fetch(`${origin}/.well-known/dat`, {
      cache: 'no-store', credentials: 'omit', redirect: 'error', signal: AbortSignal.timeout(limits.lookUpMilliseconds),
    });
    text = await beginning(response);
  } catch (error) {
    throw new CallError('offline', `The node does not answer: ${error.message}`);
  }
  if (response.status === 404) return undefined;
  const key = text.match(/^dat:\/\/([0-9a-f]{64})\/?\s/i)?.[1];
  if (!response.ok || !key) throw new CallError('offline', `The node does not say which hypha it keeps (${response.status}).`);
  return key.toLowerCase();
}

/**
 * Offers a new hypha to an always-on node that has none.
 *
 * @param makeSocket url → WebSocket
 * @returns the socket, over which replication goes on, and what came on it since
 * @throws {CallError} `refused` with the node's reason; `offline`
 */
export function signUp(url, setupCode, makeSocket) {
  return new Promise((resolve, reject) => {
    const socket = makeSocket(url);
    const received = [];
    let receivedBytes = 0;
    const fail = (code, message) => {
      clearTimeout(tooLate);
      socket.onclose = null;
      socket.close();
      reject(new CallError(code, message));
    };
    const tooLate = setTimeout(() => fail('offline', 'The node does not answer.'), limits.openingMilliseconds);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => socket.send(JSON.stringify({ setupCode }));
    socket.onclose = ({ code, reason }) => {
      // 1008: the node says why not. Without that it was not the node who ended it.
      fail(code === 1008 ? 'refused' : 'offline', reason || 'The node ended the connection.');
    };
    socket.onmessage = ({ data }) => {
      if (typeof data !== 'string') {
        receivedBytes += data.byteLength;
        if (receivedBytes > limits.receivedBytes) return fail('offline', 'The node sends more than it was asked for.');
        return received.push(new Uint8Array(data));
      }
      let answer;
      try { answer = JSON.parse(data); } catch { /* Not an answer. */ }
      if (answer?.accepted !== true) return fail('refused', answer?.reason ?? 'The node did not accept.');
      clearTimeout(tooLate);
      resolve({ socket, received });
    };
  });
}
