// Control payloads: one CBOR map (RFC 8949) with integer keys in the deterministic encoding, PROTOCOL.md §2. What decodes
// encodes again to the same bytes, and everything else is refused.

import { malformed } from './errors';

// What a field may hold:
//
//	u8 u16  an unsigned integer of so many bits, a number
//	u i     an unsigned or signed integer of 64 bits, a bigint
//	t b B   text, bytes, an array of bytes
export type Kind = 'u8' | 'u16' | 'u' | 'i' | 't' | 'b' | 'B';

type Value = number | bigint | string | Uint8Array | Uint8Array[];

// Fields are those of a message by their keys, in ascending order.
export type Fields = readonly (readonly [key: number, name: string, kind: Kind])[];

const maxElements = 16;

const utf8 = new TextEncoder();
const fromUTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

// encode leaves out what is zero or empty.
export function encode(fields: Fields, message: object): Uint8Array<ArrayBuffer> {
  const values = message as Record<string, Value | undefined>;
  const out = new Out();
  const there = fields.filter(([, name]) => !isZero(values[name]));
  out.head(5, BigInt(there.length));
  for (const [key, name, kind] of there) {
    out.head(0, BigInt(key));
    out.value(kind, values[name]!);
  }
  return out.bytes();
}

// decode refuses what is not the one encoding of a message of these fields.
export function decode(fields: Fields, payload: Uint8Array): Record<string, Value> {
  const s = new In(payload);
  const pairs = s.head(5);
  const message: Record<string, Value> = {};
  let before = -1;
  for (let n = 0n; n < pairs; n++) {
    const key = Number(s.head(0));
    if (key <= before) throw malformed('keys do not ascend');
    before = key;
    const field = fields.find(([k]) => k === key);
    if (!field) throw malformed('a key is not known');
    const value = s.value(field[2]);
    if (isZero(value)) throw malformed('a field that is zero is there');
    message[field[1]] = value;
  }
  if (!s.ended()) throw malformed('bytes follow the message');
  return message;
}

function isZero(v: Value | undefined): boolean {
  if (v === undefined || v === 0 || v === 0n || v === '') return true;
  return typeof v === 'object' && v.length === 0;
}

class Out {
  private parts: number[] = [];

  // head writes a major type and its argument in the shortest form.
  head(major: number, n: bigint): void {
    const m = major << 5;
    if (n < 24n) this.parts.push(m | Number(n));
    else if (n < 1n << 8n) this.parts.push(m | 24, Number(n));
    else if (n < 1n << 16n) this.parts.push(m | 25, ...big(n, 2));
    else if (n < 1n << 32n) this.parts.push(m | 26, ...big(n, 4));
    else this.parts.push(m | 27, ...big(n, 8));
  }

  value(kind: Kind, v: Value): void {
    switch (kind) {
      case 't': {
        const b = utf8.encode(v as string);
        this.head(3, BigInt(b.length));
        this.put(b);
        break;
      }
      case 'b':
        this.head(2, BigInt((v as Uint8Array).length));
        this.put(v as Uint8Array);
        break;
      case 'B':
        this.head(4, BigInt((v as Uint8Array[]).length));
        for (const b of v as Uint8Array[]) this.value('b', b);
        break;
      default: {
        const n = BigInt(v as number | bigint);
        if (n < 0n) this.head(1, -1n - n);
        else this.head(0, n);
      }
    }
  }

  private put(b: Uint8Array): void {
    for (const x of b) this.parts.push(x);
  }

  bytes(): Uint8Array<ArrayBuffer> {
    return Uint8Array.from(this.parts);
  }
}

function big(n: bigint, bytes: number): number[] {
  const out: number[] = [];
  for (let i = bytes - 1; i >= 0; i--) out.push(Number((n >> BigInt(8 * i)) & 0xffn));
  return out;
}

const limits: Record<string, bigint> = { u8: 0xffn, u16: 0xffffn, u: (1n << 64n) - 1n, i: (1n << 63n) - 1n };

class In {
  private at = 0;

  constructor(private readonly p: Uint8Array) {}

  ended(): boolean {
    return this.at === this.p.length;
  }

  private next(): [major: number, n: bigint] {
    const first = this.take(1)[0]!;
    const major = first >> 5;
    const short = first & 31;
    if (short < 24) return [major, BigInt(short)];
    if (short > 27) throw malformed('an indefinite length');
    let n = 0n;
    const size = 1 << (short - 24);
    for (const x of this.take(size)) n = (n << 8n) | BigInt(x);
    const least = [24n, 1n << 8n, 1n << 16n, 1n << 32n][short - 24]!;
    if (n < least) throw malformed('a number is not in its shortest form');
    return [major, n];
  }

  head(want: number): bigint {
    const [major, n] = this.next();
    if (major !== want) throw malformed('a value of another kind');
    return n;
  }

  private take(n: number): Uint8Array {
    if (n > this.p.length - this.at) throw malformed('the message ends early');
    this.at += n;
    return this.p.subarray(this.at - n, this.at);
  }

  private long(major: number): Uint8Array {
    const n = this.head(major);
    if (n > BigInt(this.p.length)) throw malformed('the message ends early');
    return this.take(Number(n));
  }

  value(kind: Kind): Value {
    switch (kind) {
      case 't':
        try {
          return fromUTF8.decode(this.long(3));
        } catch {
          throw malformed('a text is not UTF-8');
        }
      case 'b':
        return this.long(2).slice();
      case 'B': {
        const n = this.head(4);
        if (n > BigInt(maxElements)) throw malformed('an array is too long');
        return Array.from({ length: Number(n) }, () => this.long(2).slice());
      }
      default: {
        const [major, n] = this.next();
        if (major > (kind === 'i' ? 1 : 0) || n > limits[kind]!) throw malformed('a value of another kind');
        const value = major === 1 ? -1n - n : n;
        return kind === 'u' || kind === 'i' ? value : Number(value);
      }
    }
  }
}
