// How OpenSSH makes the key of a private key's file out of a passphrase: bcrypt_pbkdf, which is PBKDF2 with a hash of Blowfish
// in place of HMAC, and whose output is spread over the key.
//
//	const key = await pbkdf(passphrase, salt, rounds, 48);
//
// It is slow on purpose. The page answers between two hashes, of a hundredth of a second each.

type Bytes = Uint8Array<ArrayBuffer>;

const block = 32; // bytes of a hash
const subkeys = 18;
const words = subkeys + 4 * 256; // of Blowfish's state: its subkeys, then its boxes

// digits is the state that Blowfish begins with: as many binary digits of π behind the point.
let digits: Uint32Array | undefined;

function begin(): Uint32Array {
  return (digits ??= ofPi()).slice();
}

// ofPi sums π by Machin's formula, with digits to spare for what is rounded off.
function ofPi(): Uint32Array {
  const spare = 64n;
  const one = 1n << (BigInt(32 * words) + spare);
  const arctan = (over: bigint): bigint => {
    let sum = 0n;
    for (let [term, n, sign] = [one / over, 1n, 1n]; term > 0n; term /= over * over, n += 2n, sign = -sign) sum += (sign * term) / n;
    return sum;
  };
  const pi = (16n * arctan(5n) - 4n * arctan(239n) - 3n * one) >> spare;
  const hex = pi.toString(16).padStart(8 * words, '0');
  return Uint32Array.from({ length: words }, (_, i) => parseInt(hex.slice(8 * i, 8 * i + 8), 16));
}

// cipher encrypts the two words of x.
function cipher(s: Uint32Array, x: Uint32Array): void {
  let l = x[0]! ^ s[0]!;
  let r = x[1]!;
  for (let i = 1; i < subkeys - 1; i += 2) {
    r ^= mixed(s, l) ^ s[i]!;
    l ^= mixed(s, r) ^ s[i + 1]!;
  }
  x[0] = r ^ s[subkeys - 1]!;
  x[1] = l;
}

function mixed(s: Uint32Array, x: number): number {
  return (((s[18 + (x >>> 24)]! + s[274 + ((x >>> 16) & 255)]!) ^ s[530 + ((x >>> 8) & 255)]!) + s[786 + (x & 255)]!) | 0;
}

// expand works a key into the state, and data, where there is some. Both have 16 words.
function expand(s: Uint32Array, key: Uint32Array, data?: Uint32Array): void {
  for (let i = 0; i < subkeys; i++) s[i]! ^= key[i % 16]!;
  const x = new Uint32Array(2);
  for (let i = 0; i < words; i += 2) {
    if (data) {
      x[0]! ^= data[i % 16]!;
      x[1]! ^= data[(i + 1) % 16]!;
    }
    cipher(s, x);
    s[i] = x[0]!;
    s[i + 1] = x[1]!;
  }
}

const wordsOf = (b: Bytes): Uint32Array => {
  const view = new DataView(b.buffer, b.byteOffset, b.length);
  return Uint32Array.from({ length: b.length / 4 }, (_, i) => view.getUint32(4 * i));
};

const text = wordsOf(new TextEncoder().encode('OxychromaticBlowfishSwatDynamite'));

function hash(passphrase: Uint32Array, salt: Uint32Array): Bytes {
  const s = begin();
  expand(s, passphrase, salt);
  for (let i = 0; i < 64; i++) {
    expand(s, salt);
    expand(s, passphrase);
  }
  const out = new Uint8Array(block);
  const view = new DataView(out.buffer);
  for (let i = 0; i < text.length; i += 2) {
    const x = text.slice(i, i + 2);
    for (let n = 0; n < 64; n++) cipher(s, x);
    view.setUint32(4 * i, x[0]!, true);
    view.setUint32(4 * i + 4, x[1]!, true);
  }
  return out;
}

const sha512 = async (b: Bytes): Promise<Uint32Array> => wordsOf(new Uint8Array(await crypto.subtle.digest('SHA-512', b)));

export async function pbkdf(passphrase: string, salt: Bytes, rounds: number, length: number): Promise<Bytes> {
  const key = new Uint8Array(length);
  const secret = await sha512(new TextEncoder().encode(passphrase));
  const stride = Math.ceil(length / block);
  for (let n = 0; n < stride; n++) {
    const first = new Uint8Array(salt.length + 4);
    first.set(salt);
    new DataView(first.buffer).setUint32(salt.length, n + 1);
    let last = hash(secret, await sha512(first));
    const sum = last.slice();
    for (let i = 1; i < rounds; i++) {
      last = hash(secret, await sha512(last));
      for (let j = 0; j < block; j++) sum[j]! ^= last[j]!;
    }
    for (let j = 0; j < block && j * stride + n < length; j++) key[j * stride + n] = sum[j]!;
  }
  return key;
}
