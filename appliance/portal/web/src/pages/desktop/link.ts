// A Link is the flow of one connection to a desktop, and the client's Socket on it. It goes on when the network changes; the
// client sees nothing of that.

import { openFlow, outlives, type Flow } from '../../lib/flow';
import { Messages, fromJSON, json } from '../../lib/messages';
import { over, why, type Ending } from './ends';
import { kind, type Notice, type Start, type State } from './program';
import { Socket, offer, type Bytes, type Pipe } from './socket';

// Heard is what a Link tells the page.
export interface Heard {
  state(state: State): void;
  notice(notice: Notice): void;
  resuming(lost: boolean): void;
  line(text: string): void; // from the appliance, about the flow
}

const most = 1 << 20; // bytes of a message
const breath = 256 << 10; // bytes after which the client has time to paint

export class Link implements Pipe {
  ended: Ending | undefined; // once the flow is over, why
  outlived = false; // then: by the session, as far as is known

  readonly answered: Promise<void>; // until the appliance has begun, or the flow is over

  private socket: Socket | undefined;
  private begun!: () => void;
  private early: Bytes[] = []; // came before the client was there
  private taken = 0;
  private gone = false;
  private finished!: () => void;
  private readonly end = new Promise<void>((done) => (this.finished = done));
  private readonly messages: Messages;

  private constructor(
    private readonly flow: Flow,
    private readonly heard: Heard,
  ) {
    this.answered = new Promise((done) => (this.begun = done));
    this.messages = new Messages(flow, { most, take: (what, body) => this.came(what, body) });
    flow.onnotice = (line) => heard.line(line);
    flow.onstate = (s) => {
      if (s.state === 'ended') this.finish(s.why ? why(s.why) : over, outlives(s.why, true));
      else if (!this.gone) heard.resuming(s.state === 'lost');
    };
  }

  // open begins a session of the program, or joins one. It gives up with signal.
  static async open(target: string, session: string | undefined, start: Start, heard: Heard, signal: AbortSignal): Promise<Link> {
    const flow = await openFlow({ target, protocol: 'rdp', program: 'desktop', signal, ...(session && { session }), onnotice: (line) => heard.line(line), ondelay: () => heard.resuming(true) });
    const link = new Link(flow, heard);
    await link.messages.send(kind.start, json(start));
    return link;
  }

  get session(): string {
    return this.flow.session;
  }

  // offer has the client's next WebSocket ride on this flow.
  offer(): void {
    offer(this);
  }

  // until is over when the flow is, or after a time: what the appliance says may come after the client's own failure.
  async until(ms: number): Promise<void> {
    await Promise.race([this.end, new Promise((done) => setTimeout(done, ms))]);
  }

  // let takes the client's stream away; the flow stays. What still comes is for nobody.
  let(): void {
    this.gone = true;
    this.early = [];
    this.socket?.close();
  }

  // leave lets go of the flow too; the session can be joined.
  leave(): void {
    this.let();
    this.flow.leave();
  }

  // close is the end of the flow too.
  close(): void {
    this.let();
    this.flow.close();
  }

  opened(socket: Socket): void {
    this.socket = socket;
    for (const pdu of this.early.splice(0)) socket.take(pdu);
    if (this.gone || this.ended) socket.close();
  }

  send(pdu: Bytes): void {
    this.messages.send(kind.bytes, pdu).catch(() => {}); // the flow's end is told by its state
  }

  private came(what: number, body: Bytes): Promise<void> | undefined {
    if (this.gone) return undefined;
    if (what === kind.state) {
      const state = fromJSON<State>(body);
      this.heard.state(state);
      this.begun();
      if (state.state === 'ended') this.finish(over);
    }
    if (what === kind.notice) this.heard.notice(fromJSON<Notice>(body));
    if (what !== kind.pdu) return undefined;
    if (!this.socket) this.early.push(body);
    else this.socket.take(body);
    this.taken += body.length;
    if (this.taken < breath) return undefined;
    this.taken = 0;
    return turn(); // the client deals with what it has before there is more
  }

  private finish(why: Ending, outlived = false): void {
    if (this.ended) return;
    this.ended = why;
    this.outlived = outlived;
    this.flow.close();
    this.begun();
    this.finished();
    this.socket?.close();
  }
}

// turn lets what is queued run first. A timer would be slow in a tab that nobody sees.
function turn(): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  return new Promise((done) => {
    port1.onmessage = () => {
      port1.close();
      done();
    };
    port2.postMessage(0);
  });
}
