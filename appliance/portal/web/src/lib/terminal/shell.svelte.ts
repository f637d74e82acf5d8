// A Shell is the session of a terminal. appliance/terminal describes the messages.
//
//	const shell = new Shell('db-1', screen);
//	await shell.start({ user: 'ann', method: 'certificate' }, undefined);
//	shell.type('ls\r');
//
// Who joins one has its screen painted anew.

import { json } from '../messages';
import { pasted, pieces } from './paste';
import { ended, Session, type State } from './session.svelte';

// What a shell draws on.
export interface Canvas {
  write(bytes: Uint8Array): Promise<void>;
  clear(): void;
  readonly cols: number;
  readonly rows: number;
  readonly bracketed: boolean;
}

interface ShellState extends State {
  exit?: number;
  signal?: string;
}

// Kinds of messages, by who says them.
const Say = { keys: 1, resize: 2, paste: 5 } as const;
const Told = { output: 1, replay: 4 } as const;

// mostTyped is how much of what was typed may wait for the target, in bytes: beyond it keys are not taken.
const mostTyped = 64 << 10;

export class Shell extends Session {
  farewell = $state('The session is over.'); // how it has ended in order
  pasting = $state(false);

  private waiting = 0; // bytes typed that have no place yet

  constructor(
    target: string,
    private readonly canvas: Canvas,
  ) {
    super(target, 'terminal');
  }

  protected override begin(): object {
    this.farewell = 'The session is over.';
    this.waiting = 0;
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

  protected override gone(): void {
    this.pasting = false;
  }

  type(text: string): void {
    this.keys(new TextEncoder().encode(text));
  }

  keys(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.phase !== 'open' || this.waiting + bytes.length > mostTyped) return;
    this.waiting += bytes.length;
    void this.messages
      ?.send(Say.keys, bytes)
      .catch(ended)
      .finally(() => (this.waiting -= bytes.length));
  }

  async paste(text: string): Promise<void> {
    if (this.phase !== 'open' || this.pasting) return;
    this.pasting = true;
    try {
      for (const piece of pieces(pasted(text, this.canvas.bracketed))) await this.messages?.send(Say.paste, piece);
    } catch {
      // The flow has ended, which the session tells.
    } finally {
      this.pasting = false;
    }
  }

  resize(cols: number, rows: number): void {
    if (this.phase === 'open') void this.messages?.send(Say.resize, json({ cols, rows })).catch(ended);
  }
}
