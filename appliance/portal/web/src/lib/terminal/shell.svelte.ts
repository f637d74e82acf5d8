// A Shell is a terminal's session as its page shows it: what the program terminal says, in state that the page follows, and
// what the person does, in messages. appliance/terminal describes them.
//
//	const shell = new Shell('db-1', screen);
//	await shell.start({ user: 'ann', method: 'certificate' }, undefined);
//	shell.type('ls\r');
//
// Its flow outlives the network, and its session the page: who knows its id joins it, and has the screen painted anew.

import { decode, encode } from '../base64';
import { openFlow, type Flow } from '../flow';
import { fromJSON, json, Messages } from '../messages';
import type { TabKey } from './key';
import { pasted, pieces } from './paste';
import type { SignOn } from './remember';

// What a shell draws on.
export interface Canvas {
  write(bytes: Uint8Array): Promise<void>;
  clear(): void;
  readonly cols: number;
  readonly rows: number;
  readonly bracketed: boolean;
}

export type Phase = 'idle' | 'connecting' | 'open' | 'ended';

export interface Prompt {
  name?: string;
  instruction?: string;
  questions: { text: string; echo: boolean }[];
}

export interface Notice {
  code?: string;
  sentence: string;
  hint?: string;
}

interface State {
  state: 'connecting' | 'open' | 'ended';
  may?: string[];
  exit?: number;
  signal?: string;
}

// Kinds of messages, by who says them.
const Say = { start: 0, keys: 1, resize: 2, answer: 3, signature: 4, paste: 5 } as const;
const Told = { state: 0, output: 1, prompt: 2, sign: 3, replay: 4, notice: 5 } as const;

// mostTyped is how much of what was typed may wait for the target, in bytes: beyond it keys are not taken.
const mostTyped = 64 << 10;

const mostNotices = 5;

// mostMessage is the longest message that is taken: the ring, with its kind.
const mostMessage = (1 << 20) + 1;

export class Shell {
  phase = $state<Phase>('idle');
  resuming = $state(false);
  prompt = $state.raw<Prompt>();
  notices = $state.raw<Notice[]>([]);
  channels = $state.raw<string[]>([]); // that policy allows beside the keyboard and the screen
  error = $state.raw<unknown>(); // why it has ended, where it has not in order
  farewell = $state(''); // how it has ended in order
  session = $state<string>();
  pasting = $state(false);

  private flow: Flow | undefined;
  private messages: Messages | undefined;
  private coming: AbortController | undefined; // of the flow, while it is not open yet
  private key: TabKey | undefined;
  private waiting = 0; // bytes typed that have no place yet
  private last: State | undefined;

  constructor(
    readonly target: string,
    private readonly canvas: Canvas,
  ) {}

  // start begins a session.
  async start(how: SignOn, key: TabKey | undefined): Promise<void> {
    this.key = key;
    const { cols, rows } = this.canvas;
    await this.open(undefined, {
      user: how.user,
      auth: how.method,
      cols,
      rows,
      term: 'xterm-256color',
      ...(key && { key: encode(key.publicKey), algorithms: key.algorithms }),
    });
  }

  // join goes on with a session that there is.
  async join(session: string): Promise<void> {
    const { cols, rows } = this.canvas;
    await this.open(session, { cols, rows, term: 'xterm-256color' });
  }

  private async open(session: string | undefined, start: object): Promise<void> {
    this.phase = 'connecting';
    this.error = this.prompt = this.last = undefined;
    this.farewell = '';
    this.notices = [];
    this.waiting = 0;
    const coming = (this.coming = new AbortController());
    try {
      const flow = await openFlow({ target: this.target, protocol: 'ssh', program: 'terminal', signal: coming.signal, onnotice: (sentence) => this.note({ sentence }), ...(session && { session }) });
      this.flow = flow;
      this.session = flow.session;
      flow.onstate = (s) => {
        this.resuming = s.state === 'lost';
        if (s.state === 'ended') this.over(flow, s.why);
      };
      flow.onend = () => flow.end(); // the program says no more, and neither do we
      this.messages = new Messages(flow, { most: mostMessage, take: (kind, body) => this.told(kind, body) });
      await this.messages.send(Say.start, json(start));
    } catch (err) {
      if (this.coming === coming) this.over(this.flow, err);
    }
  }

  private over(flow: Flow | undefined, why: unknown): void {
    if (flow !== this.flow || this.phase === 'ended') return;
    this.phase = 'ended';
    this.resuming = this.pasting = false;
    this.prompt = this.flow = this.messages = this.key = this.session = this.coming = undefined;
    if (why) this.error = why;
    else this.farewell = farewell(this.last);
  }

  private note(notice: Notice): void {
    this.notices = [...this.notices, notice].slice(-mostNotices);
  }

  dismiss(notice: Notice): void {
    this.notices = this.notices.filter((n) => n !== notice);
  }

  // told takes a message. That it waits until the screen has drawn holds up the target.
  private told(kind: number, body: Uint8Array<ArrayBuffer>): void | Promise<void> {
    switch (kind) {
      case Told.output:
        return this.canvas.write(body);
      case Told.replay:
        this.canvas.clear();
        return this.canvas.write(body);
      case Told.state:
        return this.became(fromJSON<State>(body));
      case Told.prompt:
        this.prompt = fromJSON<Prompt>(body);
        return;
      case Told.sign:
        return this.sign(fromJSON<{ algorithm: string; data: string }>(body));
      case Told.notice:
        return this.note(fromJSON<Notice>(body));
    }
  }

  private became(state: State): void {
    this.last = state;
    if (state.may) this.channels = state.may;
    if (state.state !== 'open') return;
    this.prompt = this.key = undefined; // what let somebody in is not kept
    this.phase = 'open';
  }

  private async sign(wanted: { algorithm: string; data: string }): Promise<void> {
    try {
      if (!this.key) throw new Error('there is no key in this tab');
      const signature = await this.key.sign(wanted.algorithm, decode(wanted.data));
      await this.messages?.send(Say.signature, json({ signature: encode(signature) }));
    } catch (err) {
      this.end(err);
    }
  }

  answer(answers: string[]): void {
    this.prompt = undefined;
    void this.messages?.send(Say.answer, json({ answers })).catch(ended);
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
      // The flow has ended, which onstate tells.
    } finally {
      this.pasting = false;
    }
  }

  resize(cols: number, rows: number): void {
    if (this.phase === 'open') void this.messages?.send(Say.resize, json({ cols, rows })).catch(ended);
  }

  may(channel: string): boolean {
    return this.channels.includes(channel);
  }

  // end leaves the session for good.
  end(why?: unknown): void {
    const { flow, coming } = this;
    this.over(flow, why);
    if (flow) flow.close();
    else coming?.abort();
  }
}

// ended takes that a flow has ended: onstate tells.
function ended(): void {}

function farewell(last: State | undefined): string {
  if (last?.signal) return `The shell was ended by the signal ${last.signal}.`;
  if (last?.exit) return `The shell has ended with status ${last.exit}.`;
  return 'The session is over.';
}
