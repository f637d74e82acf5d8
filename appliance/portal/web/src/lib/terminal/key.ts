// A private key that stays in the tab: it is read here, signs here, and is gone with the tab. The appliance sees the public
// key and signatures.
//
//	const key = await readKey(text, passphrase);
//	const signature = await key.sign('rsa-sha2-512', bytes);
//
// OpenSSH's own form, with a passphrase too, PKCS#8 and the form of RSA keys before it are read; ed25519, ecdsa and rsa.

import { Refusal } from '../api';
import { decode, encode } from '../base64';
import { concat } from '../frame/keys';
import { pbkdf } from './bcrypt';
import { SSHReader, mpint, padded, string, stripped } from './wire';

export interface TabKey {
  algorithms: string[]; // of its signatures, the best first
  publicKey: string; // as authorized_keys has it
  sign(algorithm: string, data: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>; // the blob of a signature of SSH
}

// longest is the longest file that is taken for a key: RSA of 16384 bits has less.
export const longest = 64 << 10;

// mostRounds is the slowest passphrase that is tried, for some ten seconds. ssh-keygen makes 24, and 16 before.
const mostRounds = 512;

// Locked is why a key is not read yet: it has a passphrase.
export class Locked extends Error {}

const curves = [
  { name: 'P-256', ssh: 'nistp256', bytes: 32, hash: 'SHA-256' },
  { name: 'P-384', ssh: 'nistp384', bytes: 48, hash: 'SHA-384' },
  { name: 'P-521', ssh: 'nistp521', bytes: 66, hash: 'SHA-512' },
] as const;

const hashes: Record<string, string> = { 'rsa-sha2-512': 'SHA-512', 'rsa-sha2-256': 'SHA-256' };

const no = (sentence: string, hint: string) => new Refusal('E_USAGE', sentence, hint, 0);
const rewritten = () => no('this key has a passphrase in a form that cannot be read here', 'write it in the usual form, with the passphrase that it has: ssh-keygen -p -f KEY');
const strange = () => no('this is not a private key that can be used here', 'take an OpenSSH or PKCS#8 file of an ed25519, ecdsa or rsa key; ssh-keygen -p -m PKCS8 -f KEY makes one of it');

// readKey throws Locked where there is a passphrase and none is given.
export async function readKey(text: string, passphrase = ''): Promise<TabKey> {
  if (text.length > longest) throw strange();
  const found = /-----BEGIN ([A-Z0-9 ]{1,40})-----([\s\S]*?)-----END \1-----/.exec(text);
  if (!found) throw /^(ssh-|ecdsa-)\S+ /.test(text.trim()) ? no('this is the public key', 'choose the file beside it, without .pub') : strange();
  const [, kind, body] = found;
  if (kind === 'ENCRYPTED PRIVATE KEY' || /Proc-Type:.*ENCRYPTED/.test(body!)) throw rewritten();
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = Uint8Array.from(atob(body!.replace(/\s+/g, '')), (c) => c.charCodeAt(0));
  } catch {
    throw strange();
  }
  try {
    switch (kind) {
      case 'OPENSSH PRIVATE KEY':
        return await ofJWK(await openssh(bytes, passphrase));
      case 'PRIVATE KEY':
        return await ofJWK(await pkcs8(bytes));
      case 'RSA PRIVATE KEY':
        return await ofJWK(await pkcs8(wrapRSA(bytes)));
    }
  } catch (err) {
    if (err instanceof Refusal || err instanceof Locked) throw err;
  } finally {
    bytes.fill(0);
  }
  throw strange();
}

// openssh reads what PROTOCOL.key of OpenSSH describes.
async function openssh(bytes: Uint8Array<ArrayBuffer>, passphrase: string): Promise<JsonWebKey> {
  const magic = 'openssh-key-v1\0';
  if (new TextDecoder().decode(bytes.subarray(0, magic.length)) !== magic) throw strange();
  const r = new SSHReader(bytes.subarray(magic.length));
  const [cipher, kdf, options] = [r.text(), r.text(), r.string()];
  if (r.uint32() !== 1) throw strange();
  r.string(); // the public key, which the private part has too
  const sealed = r.string();
  const locked = cipher !== 'none' || kdf !== 'none';
  if (locked && (cipher !== 'aes256-ctr' || kdf !== 'bcrypt')) throw rewritten();
  const p = new SSHReader(locked ? await unlocked(sealed, options, passphrase) : sealed);
  if (p.uint32() !== p.uint32()) throw locked ? no('this is not the passphrase of the key', 'type it again') : strange();
  const type = p.text();
  if (type === 'ssh-ed25519') {
    const x = p.string();
    return { kty: 'OKP', crv: 'Ed25519', x: encode(x), d: encode(p.string().subarray(0, 32)) };
  }
  if (type === 'ssh-rsa') {
    const [n, e, d, qi, prime, q] = [p.string(), p.string(), p.string(), p.string(), p.string(), p.string()];
    const part = (of: Uint8Array) => encode(bytesOf(number(d) % (number(of) - 1n)));
    const plain = (of: Uint8Array) => encode(stripped(of));
    return { kty: 'RSA', n: plain(n), e: plain(e), d: plain(d), p: plain(prime), q: plain(q), dp: part(prime), dq: part(q), qi: plain(qi) };
  }
  const curve = curves.find((c) => type === 'ecdsa-sha2-' + c.ssh);
  if (!curve) throw no(`keys of the type ${type.slice(0, 40).replace(/[^\w@.-]/g, '?')} cannot be used in a browser`, 'take an ed25519, ecdsa or rsa key');
  p.string();
  const point = p.string();
  if (point.length !== 1 + 2 * curve.bytes || point[0] !== 4) throw strange();
  return { kty: 'EC', crv: curve.name, x: encode(point.subarray(1, 1 + curve.bytes)), y: encode(point.subarray(1 + curve.bytes)), d: encode(padded(p.string(), curve.bytes)) };
}

// unlocked is the private part, or no sense at all where the passphrase is another.
async function unlocked(sealed: Uint8Array<ArrayBuffer>, options: Uint8Array<ArrayBuffer>, passphrase: string): Promise<Uint8Array<ArrayBuffer>> {
  const r = new SSHReader(options);
  const [salt, rounds] = [r.string(), r.uint32()];
  if (rounds === 0 || rounds > mostRounds) throw rewritten();
  if (passphrase === '') throw new Locked();
  const made = await pbkdf(passphrase, salt, rounds, 32 + 16);
  const key = await crypto.subtle.importKey('raw', made.subarray(0, 32), 'AES-CTR', false, ['decrypt']);
  return new Uint8Array(await crypto.subtle.decrypt({ name: 'AES-CTR', counter: made.subarray(32), length: 128 }, key, sealed));
}

function number(bytes: Uint8Array): bigint {
  return BigInt('0x' + (Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('') || '0'));
}

function bytesOf(n: bigint): Uint8Array<ArrayBuffer> {
  const hex = n.toString(16);
  return Uint8Array.from((hex.length % 2 ? '0' + hex : hex).match(/../g) ?? [], (b) => parseInt(b, 16));
}

// pkcs8 has the browser read the form: of what type the key is, it says by what it can be imported as.
async function pkcs8(bytes: Uint8Array<ArrayBuffer>): Promise<JsonWebKey> {
  const kinds = [{ name: 'Ed25519' }, { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }, ...curves.map((c) => ({ name: 'ECDSA', namedCurve: c.name }))];
  for (const kind of kinds) {
    const key = await crypto.subtle.importKey('pkcs8', bytes, kind, true, ['sign']).catch(() => undefined);
    if (key) return crypto.subtle.exportKey('jwk', key);
  }
  throw strange();
}

// wrapRSA makes PKCS#8 of an RSAPrivateKey (RFC 8017 A.1.2).
function wrapRSA(inner: Uint8Array): Uint8Array<ArrayBuffer> {
  const der = (tag: number, ...parts: Uint8Array[]) => {
    const body = concat(...parts);
    const length = body.length < 128 ? [body.length] : [0x80 | bytesOf(BigInt(body.length)).length, ...bytesOf(BigInt(body.length))];
    return concat(Uint8Array.of(tag, ...length), body);
  };
  const rsaEncryption = Uint8Array.of(0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00);
  return der(0x30, Uint8Array.of(0x02, 0x01, 0x00), rsaEncryption, der(0x04, inner));
}

// ofJWK makes a key that signs and cannot be read back. That its halves belong together the browser has seen to, or the
// target does.
async function ofJWK({ alg: _, ...jwk }: JsonWebKey): Promise<TabKey> {
  const taken = (kind: AlgorithmIdentifier | EcKeyImportParams | RsaHashedImportParams) => crypto.subtle.importKey('jwk', { ...jwk, key_ops: ['sign'] }, kind, false, ['sign']);
  const x = decode(jwk.x ?? '');
  if (jwk.kty === 'OKP') {
    const key = await taken({ name: 'Ed25519' });
    return of('ssh-ed25519', ['ssh-ed25519'], concat(string('ssh-ed25519'), string(x)), async (_, data) => new Uint8Array(await crypto.subtle.sign('Ed25519', key, data)));
  }
  if (jwk.kty === 'RSA') {
    const n = decode(jwk.n ?? '');
    if (n.length < 256) throw no('this RSA key is too short to be trusted', 'make a new one: ssh-keygen -t ed25519');
    const keys = new Map<string, CryptoKey>();
    for (const [algorithm, hash] of Object.entries(hashes)) keys.set(algorithm, await taken({ name: 'RSASSA-PKCS1-v1_5', hash }));
    const blob = concat(string('ssh-rsa'), mpint(decode(jwk.e ?? '')), mpint(n));
    return of('ssh-rsa', Object.keys(hashes), blob, async (algorithm, data) => new Uint8Array(await crypto.subtle.sign('RSASSA-PKCS1-v1_5', keys.get(algorithm)!, data)));
  }
  const curve = curves.find((c) => c.name === jwk.crv);
  if (!curve) throw strange();
  const key = await taken({ name: 'ECDSA', namedCurve: curve.name });
  const type = 'ecdsa-sha2-' + curve.ssh;
  const blob = concat(string(type), string(curve.ssh), string(concat(Uint8Array.of(4), x, decode(jwk.y ?? ''))));
  return of(type, [type], blob, async (_, data) => {
    const rs = new Uint8Array(await crypto.subtle.sign({ name: 'ECDSA', hash: curve.hash }, key, data));
    return concat(mpint(rs.subarray(0, curve.bytes)), mpint(rs.subarray(curve.bytes)));
  });
}

function of(type: string, algorithms: string[], blob: Uint8Array, sign: TabKey['sign']): TabKey {
  return {
    algorithms,
    publicKey: `${type} ${btoa(String.fromCharCode(...blob))}`,
    sign(algorithm, data) {
      if (!algorithms.includes(algorithm)) throw no('the target wants a signature that this key does not make', 'take another key');
      return sign(algorithm, data);
    },
  };
}
