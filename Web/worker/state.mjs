import { toHex } from './hex.mjs';

/** A post as the page gets it. */
export const pagePost = (post) => ({ ...post, writer: toHex(post.writer) });

/** A request as the page gets it. */
export const pageRequest = ({ id, name, words, created, expires, state }) => ({ id, name, words, created, expires, state });

/** What this browser may do, in a word. */
function accessOf(role, status, ownRequest, isLocked) {
  if (role === 'reader') return 'reader';
  if (isLocked) return 'locked';
  if (status.isForked) return 'forked';
  if (status.isRevoked) return 'revoked';
  if (status.isBehind) return 'behind';
  if (status.canPost) return 'authorised';
  return ownRequest?.state === 'denied' || ownRequest?.state === 'expired' ? ownRequest.state : 'waiting';
}

/**
 * What the page is told of a hypha that is open.
 *
 * @param status of the core
 * @param records of `state`, as they are kept
 */
export function openState(core, status, records, hasSecrets) {
  const { role, writer, deviceName } = records.get('node');
  const ownRequest = core.ownRequest();
  return {
    ownKey: writer, deviceName, isOrigin: role === 'origin', access: accessOf(role, status, ownRequest, !hasSecrets),
    unkept: status.canPost && status.keptBy === 0 && status.ownLength > (records.get('heldElsewhere') ?? 0),
    length: status.lengths.reduce((sum, { length }) => sum + length, 0),
    ownRequest: ownRequest && pageRequest(ownRequest),
    requests: core.requests().filter(({ state }) => state === 'pending')
      .map((received) => ({ ...pageRequest(received), writer: toHex(received.writer) })),
    devices: core.devices().map((device) => {
      const hex = toHex(device.writer);
      return { ...device, writer: hex, isOwn: hex === writer };
    }),
  };
}
