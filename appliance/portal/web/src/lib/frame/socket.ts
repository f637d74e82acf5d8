// A Socket is a WebSocket as the carrier of one flow. Frames wait in it until somebody takes them.

import { refuse, Refusal } from './errors';
import { Splitter, type Frame } from './wire';

// What is needed of a WebSocket.
export interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount: number;
  onopen: ((event: never) => unknown) | null;
  onmessage: ((event: never) => unknown) | null;
  onclose: ((event: never) => unknown) | null;
  onerror: ((event: never) => unknown) | null;
  send(data: Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
}

export type Dial = () => WebSocketLike;

// An appliance says little before the flow is attached: the first limit's worth, and lines for the person.
const maxWaiting = 256 << 10;

export class Socket {
  private waiting: Frame[] = [];
  private size = 0; // of waiting
  private closed: Refusal | undefined; // why nothing more comes
  private broken: Refusal | undefined; // what came does not parse
  private arrived: (() => void) | undefined;
  private onframe: ((f: Frame) => void) | undefined;
  private onclosed: ((why: Refusal) => void) | undefined;
  private splitter = new Splitter((f) => this.take(f));

  private constructor(private readonly ws: WebSocketLike) {
    ws.binaryType = 'arraybuffer';
    ws.onmessage = ({ data }: { data: unknown }) => this.message(data);
    ws.onclose = ws.onerror = () => this.end(lost());
  }

  // dial returns when the WebSocket is open. Whoever ends signal closes it.
  static async dial(dial: Dial, patience: number, signal: AbortSignal): Promise<Socket> {
    signal.throwIfAborted();
    const ws = dial();
    const s = new Socket(ws);
    signal.addEventListener('abort', () => s.close(), { once: true });
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => fail(refuse('E_NO_PATH', 'the appliance did not answer in time', 'look at your network')), patience);
      const fail = (why: Refusal): void => {
        clearTimeout(late);
        s.close();
        reject(why);
      };
      s.onclosed = () => fail(refuse('E_NO_PATH', 'the appliance was not reached', 'look at your network'));
      ws.onopen = () => {
        clearTimeout(late);
        s.onclosed = undefined;
        resolve();
      };
    });
    return s;
  }

  private message(data: unknown): void {
    if (this.closed || this.broken) return;
    try {
      if (!(data instanceof ArrayBuffer)) throw refuse('E_FRAME', 'a text message came, and flows have none');
      this.splitter.push(new Uint8Array(data));
    } catch (err) {
      // Nothing more is read, but the appliance can still be told why.
      this.broken = err instanceof Refusal ? err : refuse('E_INTERNAL', String(err));
      this.arrived?.();
      this.onclosed?.(this.broken);
    }
  }

  private take(f: Frame): void {
    if (this.onframe) {
      this.onframe(f);
      return;
    }
    this.size += f.payload.length + 64;
    if (this.size > maxWaiting) throw refuse('E_FRAME', 'the appliance says too much before the flow is open');
    this.waiting.push(f);
    this.arrived?.();
  }

  private end(why: Refusal): void {
    if (this.closed) return;
    this.closed = why;
    this.arrived?.();
    this.onclosed?.(why);
  }

  // next waits for a frame.
  async next(patience = Infinity): Promise<Frame> {
    let late: ReturnType<typeof setTimeout> | undefined;
    try {
      for (;;) {
        const f = this.waiting.shift();
        if (f) {
          this.size -= f.payload.length + 64;
          return f;
        }
        const over = this.broken ?? this.closed;
        if (over) throw over;
        await new Promise<void>((resolve, reject) => {
          this.arrived = resolve;
          if (patience !== Infinity && !late) late = setTimeout(() => reject(lost('it has gone silent')), patience);
        });
      }
    } finally {
      clearTimeout(late);
      this.arrived = undefined;
    }
  }

  // attach gives all frames to one who takes them as they come, those that wait first, and then the end.
  attach(onframe: (f: Frame) => void, onclosed: (why: Refusal) => void): void {
    const waiting = this.waiting;
    this.waiting = [];
    this.onframe = onframe;
    this.onclosed = onclosed;
    for (const f of waiting) onframe(f);
    const over = this.broken ?? this.closed;
    if (over) onclosed(over);
  }

  // buffered is how many bytes have not left yet.
  get buffered(): number {
    return this.ws.bufferedAmount;
  }

  send(b: Uint8Array<ArrayBuffer>): void {
    if (!this.closed) this.ws.send(b);
  }

  // close lets leave what was sent, and says no more.
  close(): void {
    this.end(lost());
    try {
      this.ws.close(1000);
    } catch {
      // It was never open.
    }
  }
}

export function lost(why = ''): Refusal {
  return refuse('E_CONNECTION', 'the connection to the appliance was lost' + (why && `: ${why}`), 'connect again');
}
