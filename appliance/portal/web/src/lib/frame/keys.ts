// What is signed, and the keys by which a flow is resumed: PROTOCOL.md §3 and §7. A key of an epoch is in memory alone.

import type { Resume, Resumed } from './messages';
import { maxNonces, nonceSize } from './wire';

export type Bytes = Uint8Array<ArrayBuffer>;

const subtle = globalThis.crypto.subtle;
const utf8 = new TextEncoder();

export function concat(...parts: Uint8Array[]): Bytes {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

export function random(n: number): Bytes {
  return globalThis.crypto.getRandomValues(new Uint8Array(n));
}

export function same(a: Uint8Array, b: Uint8Array): boolean {
  let differ = a.length ^ b.length;
  for (let i = 0; i < a.length && i < b.length; i++) differ |= a[i]! ^ b[i]!;
  return differ === 0;
}

export async function sha256(b: Uint8Array): Promise<Bytes> {
  return new Uint8Array(await subtle.digest('SHA-256', own(b)));
}

async function hmac(key: Uint8Array, message: Uint8Array): Promise<Bytes> {
  const k = await subtle.importKey('raw', own(key), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  return new Uint8Array(await subtle.sign('HMAC', k, own(message)));
}

async function hkdf(secret: Uint8Array, salt: Uint8Array, info: Uint8Array): Promise<Bytes> {
  const k = await subtle.importKey('raw', own(secret), 'HKDF', false, ['deriveBits']);
  const bits = await subtle.deriveBits({ name: 'HKDF', hash: 'SHA-256', salt: own(salt), info: own(info) }, k, 256);
  return new Uint8Array(bits);
}

// own is b for WebCrypto, which takes no view of memory that might be shared.
const own = (b: Uint8Array): Bytes => (b.buffer instanceof ArrayBuffer ? (b as Bytes) : new Uint8Array(b));

// proofMessage is what a signature covers: a context, and the hashes of the parts.
async function proofMessage(context: string, ...parts: Uint8Array[]): Promise<Bytes> {
  return concat(utf8.encode(context), ...(await Promise.all(parts.map(sha256))));
}

export const deviceMessage = (binding: Uint8Array, helloUnsigned: Uint8Array): Promise<Bytes> =>
  proofMessage('sallyport/1 device proof\0', binding, helloUnsigned);

export const applianceMessage = (binding: Uint8Array, helloSent: Uint8Array, welcomeUnsigned: Uint8Array): Promise<Bytes> =>
  proofMessage('sallyport/1 appliance proof\0', binding, helloSent, welcomeUnsigned);

// A Bond is what an admitted connection gives the flows on it.
export interface Bond {
  user: string;
  device: Bytes; // SHA-256 of the device key
  binding: Bytes; // SHA-256 of the handshake's binding value
  secret: Bytes; // what X25519 gave both ends
}

export function firstKey(b: Bond, flow: Uint8Array, session: Uint8Array): Promise<Bytes> {
  return hkdf(b.secret, flow, concat(utf8.encode('sallyport/1 resume\0'), session, b.device, utf8.encode(b.user)));
}

export function nextKey(key: Uint8Array, b: Bond, client: Uint8Array, appliance: Uint8Array): Promise<Bytes> {
  return hkdf(key, concat(client, appliance), concat(utf8.encode('sallyport/1 next\0'), b.binding));
}

export function clientProof(key: Uint8Array, b: Bond, r: Resume): Promise<Bytes> {
  return mac(key, 'sallyport/1 client\0', b, r, r.received, r.limit);
}

export function applianceProof(key: Uint8Array, b: Bond, r: Resume, d: Resumed): Promise<Bytes> {
  return mac(key, 'sallyport/1 appliance\0', b, r, d.received, d.limit, d.nonce);
}

function mac(key: Uint8Array, label: string, b: Bond, r: Resume, received = 0n, limit = 0n, appliance: Uint8Array = new Uint8Array()): Promise<Bytes> {
  const numbers = new Uint8Array(24);
  const view = new DataView(numbers.buffer);
  view.setBigUint64(0, r.epoch ?? 0n);
  view.setBigUint64(8, received);
  view.setBigUint64(16, limit);
  return hmac(key, concat(utf8.encode(label), b.binding, r.flow, numbers, r.nonce, appliance));
}

// An Attempt is one RESUME.
export interface Attempt {
  epoch: bigint;
  nonce: Bytes;
  key: Bytes;
}

// What is to be done after the appliance has said that it knows no key for an attempt.
export type Next = 'again' | 'wait' | 'over';

// A Ticket has the keys of a flow.
export class Ticket {
  private epoch = 0n;

  // Keys of epoch + 1 that attempts at epoch have made which the flow was attached by, the latest last. Whether the appliance
  // has heard so, and from which of them, is not known before it sends on one.
  private next: Bytes[] = [];
  private attempts: Attempt[] = []; // at epoch and at epoch + 1

  constructor(
    private readonly flow: Bytes,
    private key: Bytes,
  ) {}

  // attempt makes a RESUME with the latest key that there is.
  async attempt(b: Bond, received: bigint, limit: bigint, why: number): Promise<{ attempt: Attempt; request: Resume }> {
    const latest = this.next.at(-1);
    const attempt: Attempt = { epoch: latest ? this.epoch + 1n : this.epoch, nonce: random(nonceSize), key: latest ?? this.key };
    this.attempts.push(attempt);
    const request: Resume = { flow: this.flow, epoch: attempt.epoch, received, limit, nonce: attempt.nonce, proof: new Uint8Array(32), why };
    request.proof = await clientProof(attempt.key, b, request);
    return { attempt, request };
  }

  // attach notes that an attempt was answered and has the flow now. It returns the key of the epoch after the attempt's, and
  // what the confirming ACK lists.
  async attach(b: Bond, a: Attempt, d: Resumed): Promise<{ key: Bytes; nonces: Bytes[] }> {
    if (a.epoch > this.epoch) this.settle(a.key); // the appliance had heard
    const key = await nextKey(this.key, b, a.nonce, d.nonce);
    this.next.push(key);
    const others = this.attempts.filter((o) => o.epoch === a.epoch && o !== a).map((o) => o.nonce);
    return { key, nonces: [a.nonce, ...others.reverse()].slice(0, maxNonces) };
  }

  // settle notes that the appliance has heard of the next epoch.
  settle(key: Bytes): void {
    this.epoch++;
    this.key = key;
    this.next = [];
    this.attempts = this.attempts.filter((a) => a.epoch >= this.epoch);
  }

  // refused notes that the appliance knows no key for an attempt.
  refused(a: Attempt): Next {
    if (a.epoch > this.epoch) {
      this.next = this.next.filter((k) => k !== a.key); // of which it may not have heard
      return 'again';
    }
    return this.late(a) || this.next.length > 0 ? 'wait' : 'over';
  }

  // racing says that another attempt of ours may have the flow.
  get racing(): boolean {
    return this.attempts.length > 0;
  }

  private late(a: Attempt): boolean {
    return a.epoch < this.epoch || (a.epoch === this.epoch && a.key !== this.key);
  }
}
