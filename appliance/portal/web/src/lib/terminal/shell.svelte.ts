// A Shell is the session of a terminal. appliance/terminal describes the messages.
//
//	const shell = new Shell('db-1', screen);
//	await shell.start({ user: 'ann', method: 'certificate' }, undefined);
//	shell.type('ls\r');
//
// Who joins one has its screen painted anew.

import { json } from '../messages';
import { pieces } from './paste';
import { ended, Session, type State } from './session.svelte';

// What a shell draws on.
export interface Canvas {
  write(bytes: Uint8Array): Promise<void>;
  clear(): void;
  readonly cols: number;
  readonly rows: number;
}

interface ShellState extends State {
  exit?: number;
  signal?: string;
}

// Kinds of messages, by who says them.
const Say = { keys: 1, resize: 2, paste: 5, pasted: 6 } as const;
const Told = { output: 1, replay: 4 } as const;

// mostWaiting is how much of what was typed and pasted may wait for the target, in bytes: two of the longest pastes. Beyond it
// nothing is taken, which is told.
const mostWaiting = 8 << 20;

export class Shell extends Session {
  farewell = $state('The session is over.'); // how it has ended in order

  private waiting = 0; // bytes that have no place yet
  private full = false; // it is told that no more is taken

  constructor(
    target: string,
    private readonly canvas: Canvas,
  ) {
    super(target, 'terminal');
  }

  protected override begin(): object {
    this.farewell = 'The session is over.';
    this.waiting = 0;
    this.full = false;
    this.canvas.clear();
    const { cols, rows } = this.canvas;
    return { cols, rows, term: 'xterm-256color' };
  }

  protected override told(kind: number, body: Uint8Array<ArrayBuffer>): void | Promise<void> {
    if (kind === Told.output || kind === Told.replay) return this.canvas.write(body);
  }

  protected override became({ banner, exit, signal }: ShellState): void {
    if (banner) void this.canvas.write(new TextEncoder().encode(banner.trimEnd().replaceAll('\n', '\r\n') + '\r\n'));
    if (signal) this.farewell = `The shell was ended by the signal ${signal}.`;
    else if (exit) this.farewell = `The shell has ended with status ${exit}.`;
  }

  type(text: string): void {
    this.keys(new TextEncoder().encode(text));
  }

  keys(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.takes(bytes.length)) this.say(Say.keys, bytes);
  }

  // paste says all of it at once: what is typed or pasted next comes after it.
  paste(text: string): void {
    const parts = [...pieces(text)];
    if (!this.takes(parts.reduce((n, p) => n + p.length, 0))) return;
    for (const part of parts) this.say(Say.paste, part);
    this.say(Say.pasted, new Uint8Array());
  }

  private takes(length: number): boolean {
    if (this.phase !== 'open') return false;
    const fits = this.waiting + length <= mostWaiting;
    if (!fits && !this.full) this.note({ sentence: `${this.target} takes no more for now: what you type or paste is left out until it does.` });
    this.full = !fits;
    return fits;
  }

  private say(kind: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.waiting += bytes.length;
    void this.messages
      ?.send(kind, bytes)
      .catch(ended)
      .finally(() => (this.waiting -= bytes.length));
  }

  resize(cols: number, rows: number): void {
    if (this.phase === 'open') void this.messages?.send(Say.resize, json({ cols, rows })).catch(ended);
  }
}
