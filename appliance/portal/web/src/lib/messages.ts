// Messages within a program's flow: four bytes of length, big-endian, then so many bytes, of which the first is the kind.
//
//	const wire = new Messages(flow, { most: 1 << 20, take: (kind, body) => … });
//	await wire.send(2, json({ cols, rows }));

import type { Flow } from './frame/open';
import { refuse } from './frame/errors';
import type { Bytes } from './frame/keys';

export interface Options {
  // The most bytes that a message may have, with its kind: a longer one ends the flow.
  most: number;

  // take gets a message. A promise holds up those that follow.
  take: (kind: number, body: Bytes) => void | Promise<void>;
}

export class Messages {
  private head = new Uint8Array(4);
  private headed = 0;
  private body: Bytes | undefined;
  private missing = 0;

  constructor(
    private readonly flow: Flow,
    private readonly options: Options,
  ) {
    flow.onbytes = (b) => this.read(b);
  }

  // send sends a message of parts, and waits while much is under way.
  send(kind: number, ...parts: Uint8Array[]): Promise<void> {
    const length = parts.reduce((n, p) => n + p.length, 0);
    const b = new Uint8Array(5 + length);
    new DataView(b.buffer).setUint32(0, 1 + length);
    b[4] = kind;
    let at = 5;
    for (const p of parts) {
      b.set(p, at);
      at += p.length;
    }
    return this.flow.send(b);
  }

  private async read(b: Uint8Array): Promise<void> {
    while (b.length > 0) {
      if (!this.body) {
        const n = Math.min(4 - this.headed, b.length);
        this.head.set(b.subarray(0, n), this.headed);
        this.headed += n;
        b = b.subarray(n);
        if (this.headed < 4) return;
        this.headed = 0;
        const length = new DataView(this.head.buffer).getUint32(0);
        if (length === 0 || length > this.options.most) return this.flow.abort(refuse('E_FRAME', `a message of ${length} bytes came`));
        this.body = new Uint8Array(length);
        this.missing = length;
      }
      const body = this.body;
      const n = Math.min(this.missing, b.length);
      body.set(b.subarray(0, n), body.length - this.missing);
      this.missing -= n;
      b = b.subarray(n);
      if (this.missing > 0) return;
      this.body = undefined;
      await this.options.take(body[0]!, body.subarray(1));
    }
  }
}

const utf8 = new TextEncoder();
const fromUTF8 = new TextDecoder('utf-8', { fatal: true });

export const json = (v: unknown): Uint8Array => utf8.encode(JSON.stringify(v));

export const fromJSON = <T>(body: Uint8Array): T => JSON.parse(fromUTF8.decode(body)) as T;
