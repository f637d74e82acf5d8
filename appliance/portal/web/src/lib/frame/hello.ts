// The handshake as a page makes it: bare HELLO, CHALLENGE, HELLO, WELCOME. PROTOCOL.md §3.

import { refuse, Refusal } from './errors';
import { applianceMessage, concat, deviceMessage, random, sha256, type Bond, type Bytes } from './keys';
import { challenge, frameOf, hello, parse, payloadOf, reason, welcome, type Hello, type Welcome } from './messages';
import { frame, Type } from './wire';
import type { Socket } from './socket';

// An Identity is the device that a browser is.
export interface Identity {
  publicKey: Bytes; // Ed25519, 32 bytes
  sign(message: Bytes): Promise<Bytes>;

  // trust refuses an appliance that is another than before, by the keys of a WELCOME whose signature is good.
  trust(keys: Bytes[]): Promise<void>;
}

export const software = 'sallyport-portal 1';

const subtle = globalThis.crypto.subtle;
const patience = 10_000;

// introduce says HELLO on a new WebSocket, and returns what its flow is resumed by.
export async function introduce(s: Socket, me: Identity): Promise<{ welcome: Welcome; bond: Bond }> {
  const versions = Uint8Array.of(1);
  s.send(frameOf(Type.hello, hello, { versions, software }));
  const asked = await answer(s, Type.challenge);
  const theirs = parse(challenge, asked);
  const pair = (await subtle.generateKey({ name: 'X25519' }, false, ['deriveBits'])) as CryptoKeyPair;
  const share = new Uint8Array(await subtle.exportKey('raw', pair.publicKey));
  const secret = await agree(pair.privateKey, theirs.share);
  const h: Hello = { versions, software, time: BigInt(Date.now()), device: me.publicKey, binding: 2, nonce: random(32), share };
  h.signature = await me.sign(await deviceMessage(asked, payloadOf(hello, h)));
  const sent = payloadOf(hello, h);
  s.send(frame(Type.hello, sent));

  const w = parse(welcome, await answer(s, Type.welcome));
  if (w.version !== 1) throw refuse('E_VERSION', `the appliance chose protocol version ${w.version}`, 'load this page again');
  const { signature, ...unsigned } = w;
  const signed = await applianceMessage(asked, sent, payloadOf(welcome, unsigned as Welcome));
  const key = await subtle.importKey('raw', concat(w.identity[0]!), { name: 'Ed25519' }, false, ['verify']);
  if (!(await subtle.verify({ name: 'Ed25519' }, key, concat(signature), signed)))
    throw refuse('E_AUTH', 'the appliance could not prove its identity', 'something between you and the appliance changes the traffic; try another network');
  await me.trust(w.identity.map((k) => concat(k)));
  return { welcome: w, bond: { user: w.user ?? '', device: await sha256(me.publicKey), binding: await sha256(asked), secret } };
}

// agree is what both ends of a challenge have in common.
async function agree(mine: CryptoKey, share: Uint8Array): Promise<Bytes> {
  const theirs = await subtle.importKey('raw', concat(share), { name: 'X25519' }, false, []);
  const secret = new Uint8Array(await subtle.deriveBits({ name: 'X25519', public: theirs }, mine, 256));
  if (secret.every((x) => x === 0)) throw refuse('E_FRAME', "the appliance's share is no key");
  return secret;
}

async function answer(s: Socket, want: number): Promise<Bytes> {
  const f = await s.next(patience);
  if (f.type === Type.refused) throw new Refusal(parse(reason, f.payload), true);
  if (f.type !== want) throw refuse('E_FRAME_TYPE', 'a frame does not belong here');
  return f.payload;
}
