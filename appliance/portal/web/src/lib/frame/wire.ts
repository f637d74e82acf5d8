// Frames: a header of four bytes and a payload, PROTOCOL.md §1.

import { malformed, refuse } from './errors';

export const Type = {
  hello: 0x01,
  challenge: 0x02,
  welcome: 0x03,
  open: 0x10,
  opened: 0x11,
  refused: 0x12,
  resume: 0x13,
  resumed: 0x14,
  data: 0x20,
  fin: 0x21,
  reset: 0x22,
  ack: 0x23,
  superseded: 0x24,
  ping: 0x30,
  pong: 0x31,
  notice: 0x32,
  drain: 0x33,
} as const;

const maxHello = 16 << 10;
const maxControl = 4 << 10;
export const maxData = 64 << 10;
const maxOption = 64 << 10;
export const headerSize = 4;
export const nonceSize = 16;
export const maxNonces = 8;

// How far either side may send before the other has said anything.
export const firstLimit = 16 << 10;

const maxOffset = (1n << 62n) - 1n;

const bounds = new Map<number, readonly [least: number, most: number]>([
  [Type.hello, [1, maxHello]],
  [Type.challenge, [1, maxHello]],
  [Type.welcome, [1, maxHello]],
  [Type.open, [1, maxControl]],
  [Type.opened, [1, maxControl]],
  [Type.refused, [1, maxControl]],
  [Type.resume, [1, maxControl]],
  [Type.resumed, [1, maxControl]],
  [Type.data, [1, maxData]],
  [Type.fin, [8, 8]],
  [Type.reset, [1, maxControl]],
  [Type.ack, [16, 16 + maxNonces * nonceSize]],
  [Type.superseded, [0, 0]],
  [Type.ping, [8, 8]],
  [Type.pong, [8, 8]],
  [Type.notice, [1, maxControl]],
  [Type.drain, [1, maxControl]],
]);

export const known = (type: number): boolean => bounds.has(type);

export interface Frame {
  type: number;
  payload: Uint8Array<ArrayBuffer>;
}

// parseHeader refuses, before anything is kept for it, what a type does not allow.
export function parseHeader(b: Uint8Array): { type: number; length: number } {
  const type = b[0]!;
  const length = (b[1]! << 16) | (b[2]! << 8) | b[3]!;
  const limit = bounds.get(type);
  if (!limit) {
    if (type < 0x80) throw refuse('E_FRAME_TYPE', `frame type 0x${type.toString(16).padStart(2, '0')} is not known here`);
    if (length > maxOption) throw refuse('E_FRAME_SIZE', `an optional frame of ${length} bytes is too long`);
    return { type, length };
  }
  if (length > limit[1]) throw refuse('E_FRAME_SIZE', `a frame of ${length} bytes is too long`);
  if (length < limit[0]) throw malformed(`a frame of ${length} bytes is too short`);
  if (type === Type.ack && length % nonceSize !== 0) throw malformed(`an ACK frame of ${length} bytes ends within a nonce`);
  return { type, length };
}

// frame is a frame in memory of its own, or in buffer.
export function frame(type: number, payload: Uint8Array, buffer?: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const length = headerSize + payload.length;
  const b = buffer?.subarray(0, length) ?? new Uint8Array(length);
  b[0] = type;
  b[1] = payload.length >> 16;
  b[2] = payload.length >> 8;
  b[3] = payload.length;
  b.set(payload, headerSize);
  return b;
}

export interface Ack {
  acked: bigint;
  limit: bigint;
  nonces: Uint8Array[];
}

export function ackFrame(a: Ack): Uint8Array<ArrayBuffer> {
  const p = new Uint8Array(16 + a.nonces.length * nonceSize);
  const view = new DataView(p.buffer);
  view.setBigUint64(0, a.acked);
  view.setBigUint64(8, a.limit);
  a.nonces.forEach((n, i) => p.set(n, 16 + i * nonceSize));
  return frame(Type.ack, p);
}

// parseAck reads a payload whose header parseHeader has accepted.
export function parseAck(p: Uint8Array): Ack {
  const view = new DataView(p.buffer, p.byteOffset, p.byteLength);
  const a: Ack = { acked: view.getBigUint64(0), limit: view.getBigUint64(8), nonces: [] };
  if (a.acked > maxOffset || a.limit > maxOffset) throw refuse('E_CREDIT', 'an ACK states an offset beyond 2^62');
  for (let at = 16; at < p.length; at += nonceSize) a.nonces.push(p.slice(at, at + nonceSize));
  return a;
}

export function finFrame(offset: bigint): Uint8Array<ArrayBuffer> {
  const p = new Uint8Array(8);
  new DataView(p.buffer).setBigUint64(0, offset);
  return frame(Type.fin, p);
}

export function parseFin(p: Uint8Array): bigint {
  const offset = new DataView(p.buffer, p.byteOffset, p.byteLength).getBigUint64(0);
  if (offset > maxOffset) throw refuse('E_CREDIT', 'a FIN states an offset beyond 2^62');
  return offset;
}

export const isOffset = (n: bigint | undefined): boolean => n === undefined || n <= maxOffset;

// A Splitter makes frames of messages, each of which may have any part of them. It holds one frame at most, and skips
// optional frames. A frame that is whole in a message stays in its memory.
export class Splitter {
  private head = new Uint8Array(headerSize);
  private headed = 0;
  private payload: Uint8Array<ArrayBuffer> | undefined; // undefined in a header, and in what is skipped
  private type = 0;
  private missing = 0;

  constructor(private readonly take: (f: Frame) => void) {}

  // push keeps b.
  push(b: Uint8Array<ArrayBuffer>): void {
    while (b.length > 0 || (this.headed === headerSize && this.missing === 0)) {
      if (this.headed < headerSize) {
        const n = Math.min(headerSize - this.headed, b.length);
        this.head.set(b.subarray(0, n), this.headed);
        this.headed += n;
        b = b.subarray(n);
        if (this.headed < headerSize) return;
        const { type, length } = parseHeader(this.head);
        if (known(type) && length <= b.length) {
          this.headed = 0;
          this.take({ type, payload: b.subarray(0, length) });
          b = b.subarray(length);
          continue;
        }
        this.type = type;
        this.missing = length;
        this.payload = known(type) ? new Uint8Array(length) : undefined;
        continue;
      }
      const n = Math.min(this.missing, b.length);
      this.payload?.set(b.subarray(0, n), this.payload.length - this.missing);
      this.missing -= n;
      b = b.subarray(n);
      if (this.missing > 0) return;
      this.headed = 0;
      const whole = this.payload;
      this.payload = undefined;
      if (whole) this.take({ type: this.type, payload: whole });
    }
  }
}
