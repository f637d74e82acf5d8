// What both ends of the tests know: bytes that follow from where they stand, so that one that is lost, doubled or moved shows.

import type { Flow } from '../../appliance/portal/web/src/lib/frame/open';

// pattern is the bytes of a sequence from an offset on.
export function pattern(from: number, n: number): Uint8Array<ArrayBuffer> {
  const b = new Uint8Array(n);
  for (let i = 0; i < n; i++) {
    const at = from + i;
    b[i] = (Math.imul(at >>> 2, 2654435761) >>> (8 * (at & 3))) & 0xff;
  }
  return b;
}

export function differs(from: number, got: Uint8Array): number {
  const want = pattern(from, got.length);
  for (let i = 0; i < got.length; i++) if (got[i] !== want[i]) return from + i;
  return -1;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export interface Outcome {
  received: number;
  wrong: number; // the first offset that is; -1: none
  attached: number;
  end: string; // a code; empty: in order
}

// exchange sends so many bytes to a target that returns them, in pieces with pauses, and looks at what comes back.
export function exchange(flow: Flow, size: number, piece: number, pause: number): Promise<Outcome> {
  const outcome: Outcome = { received: 0, wrong: -1, attached: 0, end: '' };
  return new Promise((resolve) => {
    flow.onbytes = (b) => {
      if (outcome.wrong < 0) outcome.wrong = differs(outcome.received, b);
      outcome.received += b.length;
    };
    flow.onstate = (s) => {
      if (s.state === 'open') outcome.attached = s.attached;
      if (s.state !== 'ended') return;
      outcome.end = s.why ? `${s.why.code}: ${s.why.message}` : '';
      resolve(outcome);
    };
    const say = async (): Promise<void> => {
      for (let at = 0; at < size; at += piece) {
        await flow.send(pattern(at, Math.min(piece, size - at)));
        if (pause > 0) await sleep(pause);
      }
      flow.end();
    };
    say().catch(() => undefined); // the flow has ended, which onstate hears
  });
}
