// A Session is a person's with a program that signs on to a target over SSH, as the page shows it: what the program says, in
// state that the page follows, and what the person answers, in messages. Terminals and files are such.
//
// Its flow outlives the network, and the session the page: who knows its id joins it.

import { decode } from '../base64';
import { openFlow, outlives, type Flow } from '../flow';
import { fromJSON, json, Messages } from '../messages';
import type { TabKey } from './key';
import type { SignOn } from './remember';

export type Phase = 'idle' | 'connecting' | 'open' | 'ended';

export interface Prompt {
  name?: string;
  instruction?: string;
  questions: { text: string; echo: boolean }[];
  again?: boolean; // the same was asked, and answered, just before
}

export interface Notice {
  code?: string;
  sentence: string;
  hint?: string;
}

export interface State {
  state: 'connecting' | 'open' | 'ended';
  may?: string[];
  banner?: string; // that the target shows before it lets anybody in
}

// Kinds of the messages that all programs of SSH have, by who says them.
const Say = { start: 0, answer: 3, signature: 4 } as const;
const Told = { state: 0, prompt: 2, sign: 3, notice: 5 } as const;

const mostNotices = 5;

// mostMessage is the longest message that is taken, with its kind.
const mostMessage = (1 << 20) + 1024;

export abstract class Session {
  phase = $state<Phase>('idle');
  resuming = $state(false);
  prompt = $state.raw<Prompt>();
  banner = $state('');
  notices = $state.raw<Notice[]>([]);
  channels = $state.raw<string[]>([]); // that policy allows beside the keyboard and the screen
  error = $state.raw<unknown>(); // why it has ended, where it has not in order, or is not reached yet
  session = $state<string>(); // by which it can be joined; stays where it may go on without this page

  protected messages: Messages | undefined;

  private flow: Flow | undefined;
  private coming: AbortController | undefined; // of the flow, while it is not open yet
  private key: TabKey | undefined;
  private asked = ''; // the last prompt
  private joined = false; // there was a session before the flow

  constructor(
    readonly target: string,
    private readonly program: string,
  ) {}

  // begin says what a start has beside how the person signs on.
  protected abstract begin(): object;

  // told takes a message of the program's own. That it waits holds the target up.
  protected abstract told(kind: number, body: Uint8Array<ArrayBuffer>): void | Promise<void>;

  protected became(_: State): void {}

  protected gone(): void {}

  // start begins a session.
  start(how: SignOn, key: TabKey | undefined): Promise<void> {
    this.key = key;
    return this.open(undefined, { user: how.user, auth: how.method, ...(key && { key: key.publicKey }) });
  }

  // join goes on with a session that there is.
  join(session: string): Promise<void> {
    return this.open(session, {});
  }

  private async open(session: string | undefined, how: object): Promise<void> {
    this.phase = 'connecting';
    this.joined = session !== undefined;
    this.session = session;
    this.error = this.prompt = undefined;
    this.banner = this.asked = '';
    this.notices = [];
    const coming = (this.coming = new AbortController());
    try {
      const flow = await openFlow({
        target: this.target,
        protocol: 'ssh',
        program: this.program,
        signal: coming.signal,
        onnotice: (sentence) => this.note({ sentence }),
        ondelay: (why) => {
          this.error = why;
          this.resuming = true;
        },
        ...(session && { session }),
      });
      this.flow = flow;
      this.error = undefined;
      this.session = flow.session;
      flow.onnotice = (sentence) => this.note({ sentence });
      flow.onstate = (s) => {
        this.resuming = s.state === 'lost';
        if (s.state === 'ended') this.over(flow, s.why);
      };
      flow.onend = () => flow.end(); // the program says no more, and neither do we
      const messages = new Messages(flow, { most: mostMessage, take: (kind, body) => this.take(kind, body) });
      this.messages = messages;
      await messages.send(Say.start, json({ ...how, ...this.begin() }));
    } catch (err) {
      if (this.coming === coming) this.over(this.flow, err);
    }
  }

  private over(flow: Flow | undefined, why: unknown): void {
    if (flow !== this.flow || this.phase === 'ended') return;
    this.phase = 'ended';
    this.resuming = false;
    this.prompt = this.flow = this.messages = this.key = this.coming = undefined;
    this.error = why;
    if (!outlives(why, flow !== undefined)) this.session = undefined;
    this.gone();
  }

  note(notice: Notice): void {
    this.notices = [...this.notices, notice].slice(-mostNotices);
  }

  dismiss(notice: Notice): void {
    this.notices = this.notices.filter((n) => n !== notice);
  }

  private take(kind: number, body: Uint8Array<ArrayBuffer>): void | Promise<void> {
    switch (kind) {
      case Told.state:
        return this.changed(fromJSON<State>(body));
      case Told.prompt:
        return this.ask(fromJSON<Prompt>(body));
      case Told.sign:
        return this.sign(fromJSON<{ algorithm: string; data: string }>(body));
      case Told.notice:
        return this.note(fromJSON<Notice>(body));
      default:
        return this.told(kind, body);
    }
  }

  private ask(prompt: Prompt): void {
    const asked = JSON.stringify(prompt);
    if (prompt.questions.length > 0) this.prompt = { ...prompt, again: asked === this.asked };
    else this.note({ sentence: `${this.target} says: ${[prompt.name, prompt.instruction].filter(Boolean).join(': ')}` });
    this.asked = asked;
  }

  private changed(state: State): void {
    if (state.banner) this.banner = state.banner;
    this.became(state);
    if (state.state === 'open') this.signedOn(state);
  }

  protected signedOn(state: State): void {
    this.opened(state.may ?? []);
  }

  // opened is when the person may begin.
  protected opened(channels: string[]): void {
    this.channels = channels;
    this.prompt = this.key = undefined; // what let somebody in is not kept
    this.phase = 'open';
  }

  private async sign(wanted: { algorithm: string; data: string }): Promise<void> {
    try {
      if (!this.key) throw new Error('there is no key in this tab');
      const blob = await this.key.sign(wanted.algorithm, decode(wanted.data));
      await this.messages?.send(Say.signature, json({ format: wanted.algorithm, blob: btoa(String.fromCharCode(...blob)) }));
    } catch (err) {
      this.end(err);
    }
  }

  answer(answers: string[]): void {
    this.prompt = undefined;
    void this.messages?.send(Say.answer, json({ answers })).catch(ended);
  }

  may(channel: string): boolean {
    return this.channels.includes(channel);
  }

  // leave is for a page that is left: what can be joined goes on without it, for as long as the appliance keeps a flow that has no
  // connection, and nothing else does.
  leave(): void {
    const { flow, coming } = this;
    this.flow = this.coming = undefined; // so that nothing is told any more
    if (!flow) coming?.abort();
    else if (this.joined || this.phase === 'open') flow.leave();
    else flow.close();
  }

  // end ends the session.
  end(why?: unknown): void {
    const { flow, coming } = this;
    this.over(flow, why ?? (flow ? undefined : this.error)); // that was not reached is not over
    if (flow) flow.close();
    else coming?.abort();
  }
}

// ended takes that a flow has ended: onstate tells.
export function ended(): void {}
