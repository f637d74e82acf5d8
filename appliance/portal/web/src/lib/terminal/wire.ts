// Bytes as SSH has them on the wire (RFC 4251 §5).

import { concat } from '../frame/keys';

export class SSHReader {
  private at = 0;

  constructor(private readonly bytes: Uint8Array<ArrayBuffer>) {}

  uint32(): number {
    const b = this.take(4);
    return ((b[0]! << 24) | (b[1]! << 16) | (b[2]! << 8) | b[3]!) >>> 0;
  }

  string(): Uint8Array<ArrayBuffer> {
    return this.take(this.uint32());
  }

  text(): string {
    return new TextDecoder().decode(this.string());
  }

  private take(n: number): Uint8Array<ArrayBuffer> {
    if (n > this.bytes.length - this.at) throw new RangeError('the bytes end too early');
    return this.bytes.subarray(this.at, (this.at += n));
  }
}

export function string(of: Uint8Array | string): Uint8Array<ArrayBuffer> {
  const bytes = typeof of === 'string' ? new TextEncoder().encode(of) : of;
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, bytes.length);
  return concat(length, bytes);
}

// mpint is a number that is not negative.
export function mpint(of: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = stripped(of);
  return string((bytes[0] ?? 0) & 0x80 ? concat(new Uint8Array(1), bytes) : bytes);
}

// stripped has no zeros in front.
export function stripped(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  let at = 0;
  while (at < bytes.length && bytes[at] === 0) at++;
  return bytes.slice(at);
}

// padded has zeros in front, up to a length.
export function padded(bytes: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
  const bare = stripped(bytes);
  if (bare.length > length) throw new RangeError('the number is too long');
  return concat(new Uint8Array(length - bare.length), bare);
}
