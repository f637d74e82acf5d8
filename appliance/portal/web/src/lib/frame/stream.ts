// A Stream is a page's end of a flow: PROTOCOL.md §5 to §7. It lives on without its WebSocket.
//
//	carried → WebSocket lost, or silent → rejoin, again and again → carried …
//	                                    → the grace is over, or the appliance refuses: the flow has ended
//
// What has arrived in the page is acknowledged: it is in the memory of the program that reads it, and nothing but the end of
// the page takes it from there. How far the appliance may send follows what the program has dealt with, so that no more than
// maxRoom waits.

import { Refusal, refuse, clip } from './errors';
import { applianceProof, concat, firstKey, random, same, Ticket, type Attempt, type Bond, type Bytes } from './keys';
import { drain, frameOf, notice, opened, openRequest, parse, reason, resume, resumed, type Opened, type OpenRequest, type Resumed } from './messages';
import { lost, type Socket } from './socket';
import { ackFrame, finFrame, firstLimit, frame, headerSize, maxData, parseAck, parseFin, Type, type Frame } from './wire';

// Connected is a WebSocket whose HELLO is admitted.
export interface Connected {
  socket: Socket;
  bond: Bond;
}

// Connect waits so many milliseconds for a WebSocket to open, or until signal ends.
export type Connect = (signal: AbortSignal, patience: number) => Promise<Connected>;

export type State =
  | { state: 'open'; attached: number } // how many WebSockets it has had
  | { state: 'lost'; why: Refusal } // it is being resumed
  | { state: 'ended'; why: Refusal | undefined }; // undefined: in order

const maxRoom = 1 << 20; // bytes that the appliance may be ahead of what was dealt with
const maxHeld = 1 << 20; // bytes that are kept until they are acknowledged
const maxQueued = 256 << 10; // bytes in the WebSocket's own buffer: what stands there cannot be overtaken by an ACK
const piece = 32 << 10; // of DATA
const ackAt = 32 << 10; // bytes taken after which the appliance is told at once
const ackDelay = 20; // milliseconds after which it is told in any case
const closeGrace = 10_000;

const tick = 500;
const silentFor = 1000; // with bytes under way, after which the appliance is asked
const answerIn = 1500; // or four times the delay
const suspectIn = 1000; // after a sleep, or in another network
const idleProbe = 10_000;
const sleptFor = 2000;

const resumeWait = 10_000;

// The first attempts to connect give up soon: what was lost on the way is asked for again sooner by another one.
const dialFirst = 2000;
const dialLong = 10_000;
const hurried = 500; // an attempt that has taken as long when the network comes back is another's that was there before

interface Chunk {
  offset: number;
  bytes: Bytes;
}

interface Pending {
  bytes: Uint8Array;
  at: number;
  resolve: () => void;
  reject: (why: Refusal) => void;
}

// An Attachment is a WebSocket while it has the flow.
interface Attachment {
  socket: Socket;
  next: Bytes | undefined; // the key of the epoch that it begins, while the appliance may not know yet that it did
}

export class Stream {
  opened!: Opened;
  attached = 0;

  private at: Attachment | undefined;
  private ticket: Ticket | undefined;
  private ending = new AbortController();
  private ended = false;
  private why: Refusal | undefined;

  // Sending.
  private pending: Pending[] = [];
  private replay: Chunk[] = []; // unacknowledged, the sent ones first
  private unsent = 0; // index of the first that was not sent
  private committed = 0;
  private sent = 0;
  private reached = 0; // the most that was ever sent, and one more for FIN
  private acked = 0;
  private sendLimit = firstLimit;
  private endQueued = false;
  private finSent = false;
  private finAcked = false;
  private buffer = new Uint8Array(headerSize + maxData); // of the frame that is being sent
  private later: ReturnType<typeof setTimeout> | undefined;

  // Receiving.
  private spill: Bytes[] = [];
  private delivering = false;
  private handler: ((b: Bytes) => void | Promise<void>) | undefined;
  private received = 0;
  private consumed = 0;
  private told = 0;
  private limit = firstLimit;
  private room = firstLimit;
  private used = 0;
  private finSeen = false;
  private finTaken = false;
  private deaf = false;
  private wasted = false;
  private ackDue = false;
  private ackTimer: ReturnType<typeof setTimeout> | undefined;
  private graceTimer: ReturnType<typeof setTimeout> | undefined;

  // Vitals.
  private heard = 0;
  private asked = 0; // when the PING left that nobody has answered; 0: none
  private ping: Bytes = new Uint8Array(8);
  private delay = 1000;
  private suspect = false;
  private ticker: ReturnType<typeof setTimeout> | undefined;
  private lastTick = 0;
  private hurry: (() => void) | undefined; // ends a pause between attempts, or an attempt that has taken long

  onstate: (s: State) => void = () => {};
  onnotice: (line: string) => void = () => {};
  onend: () => void = () => {}; // the far side says no more

  private constructor(private readonly connect: Connect) {}

  // open asks for a flow and waits for the answer, which may take as long as somebody's approval does.
  static async open(connect: Connect, request: OpenRequest, signal: AbortSignal, onnotice: (line: string) => void): Promise<Stream> {
    const stream = new Stream(connect);
    stream.onnotice = onnotice;
    const { socket, bond } = await connect(signal, dialLong);
    const abort = (): void => socket.close();
    signal.addEventListener('abort', abort, { once: true });
    try {
      socket.send(frameOf(Type.open, openRequest, request));
      const f = await stream.answer(socket, Type.opened, Infinity);
      stream.opened = parse(opened, f.payload);
      if ((stream.opened.grace ?? 0n) > 0n) {
        const { flow, session } = stream.opened;
        stream.ticket = new Ticket(concat(flow), await firstKey(bond, flow, session));
      }
      signal.throwIfAborted();
    } catch (err) {
      socket.close();
      throw err;
    } finally {
      signal.removeEventListener('abort', abort);
    }
    stream.ackDue = true; // now the appliance knows that we do
    stream.moveTo({ socket, next: undefined });
    return stream;
  }

  // answer waits for a frame of a type, and deals with those that may stand before it.
  private async answer(socket: Socket, want: number, patience: number): Promise<Frame> {
    for (;;) {
      const f = await socket.next(patience);
      switch (f.type) {
        case want:
          return f;
        case Type.refused:
        case Type.reset:
          throw new Refusal(parse(reason, f.payload), true);
        case Type.superseded:
          throw refuse('E_SUPERSEDED', 'another attempt has the flow');
        case Type.ping:
          socket.send(frame(Type.pong, f.payload));
          break;
        case Type.pong:
        case Type.ack:
          break;
        case Type.notice:
        case Type.drain:
          this.line(f);
          break;
        default:
          throw refuse('E_FRAME_TYPE', 'a frame does not belong here');
      }
    }
  }

  private line(f: Frame): void {
    const text = f.type === Type.notice ? parse(notice, f.payload).text : parse(drain, f.payload).text;
    if (text) this.onnotice(clip(text));
  }

  // state is how the flow is.
  get state(): State {
    if (this.ended) return { state: 'ended', why: this.why };
    if (this.at) return { state: 'open', attached: this.attached };
    return { state: 'lost', why: this.why ?? lost() };
  }

  // ---- What the program does.

  // send keeps b until it is acknowledged, and returns when there is room for more: so it holds up who sends faster than the far
  // side takes. Nothing is copied: new memory is what sending costs most of.
  send(b: Uint8Array): Promise<void> {
    if (this.ended) return Promise.reject(this.why ?? closedHere());
    if (this.endQueued) return Promise.reject(refuse('E_CLOSED', 'the flow has been ended'));
    return new Promise((resolve, reject) => {
      this.pending.push({ bytes: b, at: 0, resolve, reject });
      this.admit();
    });
  }

  // admit keeps what is to be sent, as far as there is room.
  private admit(): void {
    for (let p = this.pending[0]; p; p = this.pending[0]) {
      while (p.at < p.bytes.length && this.committed - this.acked < maxHeld) {
        const bytes = p.bytes.subarray(p.at, p.at + piece) as Bytes;
        this.replay.push({ offset: this.committed, bytes });
        this.committed += bytes.length;
        p.at += bytes.length;
      }
      if (p.at < p.bytes.length) break;
      this.pending.shift();
      p.resolve();
    }
    this.pump();
  }

  // deliver names who takes what arrives. A promise holds up what follows, and when too much waits the far side.
  deliver(handler: (b: Bytes) => void | Promise<void>): void {
    this.handler = handler;
    this.offer();
  }

  // end says that nothing more is sent; what was sent still arrives.
  end(): void {
    this.endQueued = true;
    this.pump();
  }

  // close ends the flow: what was sent still leaves, for ten seconds at most, and nothing more is taken.
  close(): void {
    if (this.ended || this.deaf) return;
    this.deaf = true;
    if (this.spill.length > 0) this.wasted = true;
    this.spill = [];
    this.end();
    this.graceTimer = setTimeout(() => this.fail(closedHere()), closeGrace);
    this.refuseRest();
  }

  // abort ends the flow at once, for a reason that the appliance is told.
  abort(why: Refusal): void {
    this.fail(why);
  }

  // leave is no end of the flow: for the appliance its connection is lost, and nobody here comes back to it. Until the grace is
  // over its session can be joined by another.
  leave(): void {
    this.finish(undefined);
  }

  private refuseRest(): void {
    if (this.ended || !this.deaf) return;
    if (this.wasted && this.at && this.pending.length === 0 && this.unsent === this.replay.length) this.fail(closedHere());
    else if (!this.wasted && this.finSeen && !this.finTaken) this.tookFin();
  }

  // ---- What arrives.

  private frame(at: Attachment, f: Frame): void {
    if (at !== this.at || this.ended) return;
    try {
      this.heard = performance.now();
      if (at.next && (f.type === Type.ack || f.type === Type.data || f.type === Type.fin)) {
        this.ticket!.settle(at.next); // what an appliance says only to who has confirmed
        at.next = undefined;
      }
      this.control(at, f);
    } catch (err) {
      this.fail(err instanceof Refusal ? err : refuse('E_INTERNAL', String(err)));
    }
  }

  private control(at: Attachment, f: Frame): void {
    switch (f.type) {
      case Type.data:
        return this.data(f.payload);
      case Type.ack:
        return this.acknowledged(f.payload);
      case Type.fin:
        return this.fin(Number(parseFin(f.payload)));
      case Type.ping:
        return at.socket.send(frame(Type.pong, f.payload));
      case Type.pong:
        return this.ponged(f.payload);
      case Type.notice:
      case Type.drain:
        return this.line(f);
      case Type.reset:
        return this.reset(new Refusal(parse(reason, f.payload), true));
      case Type.superseded:
        return this.superseded(at);
      default:
        throw refuse('E_FRAME_TYPE', 'a frame does not belong here');
    }
  }

  private superseded(at: Attachment): void {
    const why = refuse('E_SUPERSEDED', 'another connection has taken this flow over');
    if (this.ticket?.racing) this.lose(at, why); // it may be ours
    else this.finish(why);
  }

  private reset(why: Refusal): void {
    if (why.code === 'E_CONNECTION') this.lose(this.at!, why);
    else this.finish(why);
  }

  private data(b: Bytes): void {
    if (this.finSeen) throw refuse('E_FIN', 'data came after FIN');
    if (this.received + b.length > this.limit) throw refuse('E_CREDIT', `data went beyond the limit of ${this.limit}`);
    this.received += b.length;
    if (this.deaf) {
      this.wasted = true;
      return this.refuseRest();
    }
    this.spill.push(b);
    this.offer();
    this.oweAck();
  }

  private fin(offset: number): void {
    if (this.finSeen) throw refuse('E_FIN', 'a second FIN came');
    if (offset !== this.received) throw refuse('E_FIN', `FIN states ${offset} bytes, ${this.received} arrived`);
    this.finSeen = true;
    if (this.deaf) this.refuseRest();
    else this.offer();
  }

  private acknowledged(p: Uint8Array): void {
    const a = parseAck(p);
    const acked = Number(a.acked);
    const limit = Number(a.limit);
    if (a.nonces.length > 0) throw refuse('E_ACK', 'an acknowledgement confirms a RESUME that there was not');
    if (acked > this.sent + (this.finSent ? 1 : 0)) throw refuse('E_ACK', `${acked} bytes were acknowledged, ${this.sent} were sent`);
    if (acked < this.acked || limit < this.sendLimit) throw refuse('E_ACK', 'an acknowledgement went back');
    this.acked = acked;
    this.sendLimit = limit;
    let done = 0;
    while (done < this.unsent && this.replay[done]!.offset + this.replay[done]!.bytes.length <= acked) done++;
    this.replay.splice(0, done);
    this.unsent -= done;
    this.finAcked = this.finSent && acked === this.committed + 1;
    this.admit();
  }

  // offer gives the program what has arrived, one after the other.
  private offer(): void {
    while (!this.delivering && this.handler && this.spill.length > 0 && !this.ended) {
      const b = this.spill.shift()!;
      const taken = this.handler(b);
      if (!taken) {
        this.dealtWith(b.length);
        continue;
      }
      this.delivering = true;
      taken.then(
        () => {
          this.delivering = false;
          this.dealtWith(b.length);
          this.offer();
        },
        (err: unknown) => this.fail(refuse('E_INTERNAL', `the page met a bug: ${String(err)}`, 'load it again')),
      );
    }
    if (this.finSeen && !this.finTaken && !this.delivering && this.spill.length === 0 && this.handler && !this.ended) {
      this.tookFin();
      this.onend();
    }
  }

  private dealtWith(n: number): void {
    this.consumed += n;
    this.used += n;
    if (this.used >= this.room && this.spill.length <= 1) {
      this.used = 0;
      this.room = Math.min(2 * this.room, maxRoom);
    }
    this.oweAck();
  }

  private tookFin(): void {
    this.finTaken = true;
    this.ackDue = true;
    this.pump();
  }

  private get taken(): number {
    return this.received + (this.finTaken ? 1 : 0);
  }

  // oweAck tells the appliance what was taken and how far it may go on, now or soon.
  private oweAck(): void {
    if (this.ended) return;
    const taken = this.taken - this.told;
    const room = this.consumed + this.room - this.limit;
    if (taken <= 0 && room <= 0) return;
    if (taken >= Math.min(ackAt, this.room / 4) || room >= this.room / 4) {
      this.ackDue = true;
      this.pump();
    } else
      this.ackTimer ??= setTimeout(() => {
        this.ackTimer = undefined;
        this.ackDue = true;
        this.pump();
      }, ackDelay);
  }

  private ack(nonces: Bytes[] = []): Bytes {
    clearTimeout(this.ackTimer);
    this.ackTimer = undefined;
    this.ackDue = false;
    this.told = this.taken;
    this.limit = Math.max(this.limit, this.consumed + this.room);
    return ackFrame({ acked: BigInt(this.told), limit: BigInt(this.limit), nonces });
  }

  // ---- What leaves.

  private pump(): void {
    const at = this.at;
    if (!at || this.ended) return;
    if (this.ackDue) at.socket.send(this.ack());
    while (this.unsent < this.replay.length && at.socket.buffered < maxQueued) {
      const c = this.replay[this.unsent]!;
      const room = this.sendLimit - c.offset;
      if (room <= 0) break;
      if (room < c.bytes.length)
        this.replay.splice(this.unsent, 1, { offset: c.offset, bytes: c.bytes.subarray(0, room) }, { offset: c.offset + room, bytes: c.bytes.subarray(room) });
      const { bytes } = this.replay[this.unsent]!;
      this.unsent++;
      this.sent = c.offset + bytes.length;
      this.reached = Math.max(this.reached, this.sent);
      at.socket.send(frame(Type.data, bytes, this.buffer));
    }
    const all = this.unsent === this.replay.length && this.pending.length === 0;
    if (this.endQueued && !this.finSent && all) {
      this.finSent = true;
      this.reached = this.committed + 1;
      at.socket.send(finFrame(BigInt(this.committed)));
    }
    if (this.finAcked && this.finTaken && this.told === this.taken) return this.finish(undefined);
    if (this.unsent < this.replay.length && this.replay[this.unsent]!.offset < this.sendLimit)
      this.later ??= setTimeout(() => {
        // a WebSocket does not say when its buffer has room
        this.later = undefined;
        this.pump();
      }, 5);
    if (this.deaf) this.refuseRest();
  }

  // ---- The end.

  // fail ends the flow for a reason of ours, which the appliance is told.
  private fail(why: Refusal): void {
    if (this.ended) return;
    this.at?.socket.send(frameOf(Type.reset, reason, why.toReason()));
    this.finish(why);
  }

  private finish(why: Refusal | undefined): void {
    if (this.ended) return;
    this.ended = true;
    this.why = why;
    this.ending.abort();
    this.hurry?.();
    for (const t of [this.later, this.ackTimer, this.graceTimer, this.ticker]) clearTimeout(t);
    const { pending, at } = this;
    this.pending = [];
    this.replay = [];
    this.spill = [];
    this.unsent = 0;
    this.at = undefined;
    at?.socket.close();
    for (const p of pending) p.reject(why ?? closedHere());
    this.onstate(this.state);
  }

  // ---- One WebSocket after the other.

  private moveTo(at: Attachment): void {
    this.at = at;
    this.attached++;
    this.asked = 0;
    this.suspect = false;
    this.why = undefined;
    this.heard = performance.now();
    at.socket.attach(
      (f) => this.frame(at, f),
      (why) => this.lose(at, why),
    );
    if (at !== this.at) return; // it was lost already
    this.pump();
    this.probe();
    this.watchSoon();
    this.onstate(this.state);
  }

  private lose(at: Attachment, why: Refusal): void {
    if (at !== this.at || this.ended) return;
    if (why.code !== 'E_CONNECTION' && why.code !== 'E_SUPERSEDED') return this.fail(why); // what came does not parse
    this.at = undefined;
    clearTimeout(this.ticker);
    at.socket.close();
    if (!this.ticket) return this.finish(why);
    this.why = why;
    this.onstate(this.state);
    void this.rejoin();
  }

  // rejoin tries until the flow has a WebSocket again, or has ended.
  private async rejoin(): Promise<void> {
    const began = Date.now();
    const grace = Number(this.opened.grace ?? 0n);
    for (let attempt = 0; !this.ended && !this.at; attempt++) {
      let retry = 0;
      try {
        await this.resume(Math.min(dialFirst << Math.min(attempt, 3), dialLong));
        return;
      } catch (err) {
        const why = err instanceof Refusal ? err : lost(String(err));
        if (this.ended) return;
        if (hopeless(why)) return this.finish(why);
        if (why.code === again) {
          attempt--;
          continue;
        }
        retry = why.retry;
      }
      const gone = Date.now() - began;
      if (gone > grace) {
        const text = `the connection was gone for ${Math.round(gone / 1000)} s, and a flow is kept for ${Math.round(grace / 1000)} s`;
        return this.finish(refuse('E_RESUME_EXPIRED', text, 'connect again'));
      }
      if (await this.pause(attempt, gone, retry)) attempt = -1;
    }
  }

  // pause waits before the next attempt: shortly at first, and as long as the appliance says if it has. It is true when
  // something happened that makes an attempt worth while.
  private async pause(attempt: number, gone: number, retry: number): Promise<boolean> {
    let wait = Math.min(50 << Math.min(attempt, 4), 800);
    if (gone > 600_000) wait = 10_000;
    else if (gone > 60_000) wait = 5000;
    wait = Math.max(wait / 2 + (Math.random() * wait) / 2, retry);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const hurried = await new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), wait);
      this.hurry = () => {
        if (retry === 0 || this.ended) resolve(true);
      };
    });
    clearTimeout(timer);
    this.hurry = undefined;
    return hurried;
  }

  private async resume(patience: number): Promise<void> {
    const ticket = this.ticket!;
    const stale = new AbortController();
    const began = performance.now();
    const hurry = (): void => {
      if (performance.now() - began > hurried) stale.abort();
    };
    this.hurry = hurry;
    const { socket, bond } = await this.connect(AbortSignal.any([this.ending.signal, stale.signal]), patience);
    try {
      this.limit = Math.max(this.limit, this.consumed + this.room);
      const { attempt, request } = await ticket.attempt(bond, BigInt(this.taken), BigInt(this.limit), 0);
      socket.send(frameOf(Type.resume, resume, request));
      let answer: Resumed;
      try {
        answer = parse(resumed, (await this.answer(socket, Type.resumed, resumeWait)).payload);
      } catch (err) {
        throw this.refused(attempt, err);
      }
      if (!same(answer.proof, await applianceProof(attempt.key, bond, request, answer))) throw lost("the appliance's proof is not valid");
      const { key, nonces } = await ticket.attach(bond, attempt, answer);
      if (this.ended) throw closedHere();
      this.attach(socket, key, nonces, answer);
    } catch (err) {
      socket.close();
      throw err;
    } finally {
      if (this.hurry === hurry) this.hurry = undefined; // else it was lost again already
    }
  }

  // refused says what the answer to an attempt means.
  private refused(attempt: Attempt, err: unknown): unknown {
    if (!(err instanceof Refusal) || !err.remote || err.code !== 'E_RESUME_UNKNOWN') return err;
    switch (this.ticket!.refused(attempt)) {
      case 'again':
        return refuse(again, 'the appliance has not heard of the epoch before this attempt');
      case 'wait':
        return refuse('E_SUPERSEDED', 'another attempt has the flow');
      case 'over':
        return err;
    }
  }

  // attach gives the flow to a WebSocket: each side sends from what the other has taken.
  private attach(socket: Socket, next: Bytes, nonces: Bytes[], answer: Resumed): void {
    const taken = Number(answer.received ?? 0n);
    const limit = Number(answer.limit ?? 0n);
    if (taken < this.acked || taken > this.reached || limit < this.sendLimit) {
      const text = `the two ends disagree about the flow: ${taken} bytes taken, ${this.acked} acknowledged, ${this.reached} sent`;
      const why = refuse('E_RESUME_DESYNC', text, 'connect again');
      socket.send(this.ack(nonces));
      socket.send(frameOf(Type.reset, reason, why.toReason()));
      socket.close();
      return this.finish(why);
    }
    this.acked = taken;
    while (this.replay.length > 0) {
      const c = this.replay[0]!;
      if (c.offset + c.bytes.length > taken) {
        if (taken > c.offset) this.replay[0] = { offset: taken, bytes: c.bytes.subarray(taken - c.offset) };
        break;
      }
      this.replay.shift();
    }
    this.unsent = 0;
    this.sent = Math.min(taken, this.committed);
    this.finAcked = taken > this.committed;
    this.finSent = this.finAcked;
    this.sendLimit = limit;
    socket.send(this.ack(nonces));
    this.moveTo({ socket, next });
    this.admit();
  }

  // ---- Whether the WebSocket is alive.

  // wake is told that the network may be another, or that the page has slept.
  wake(): void {
    if (this.ended) return;
    if (!this.at) {
      this.hurry?.();
      return;
    }
    this.suspect = true;
    this.asked = 0;
    this.probe();
    this.watchSoon();
  }

  private watchSoon(): void {
    clearTimeout(this.ticker);
    this.lastTick = Date.now();
    this.ticker = setTimeout(() => this.watch(), tick);
  }

  private watch(): void {
    const at = this.at;
    if (!at || this.ended) return;
    if (Date.now() - this.lastTick - tick > sleptFor) {
      // What came while the page slept is still to be told to it: an answer counts from now.
      this.suspect = true;
      this.asked = 0;
    }
    const now = performance.now();
    const silent = now - this.heard;
    const waiting = this.replay.length > 0 || (this.finSent && !this.finAcked);
    this.suspect &&= this.asked > 0 || silent > tick;
    if (this.suspect || silent > idleProbe || (waiting && silent > silentFor)) this.probe();
    const patience = Math.max(this.suspect ? suspectIn : answerIn, Math.min(4 * this.delay, 4000));
    if (this.asked > 0 && now - this.asked > patience && silent >= now - this.asked) return this.lose(at, lost('it has gone silent'));
    this.watchSoon();
  }

  private probe(): void {
    if (!this.at || this.asked > 0) return;
    this.asked = performance.now();
    this.ping = random(8);
    this.at.socket.send(frame(Type.ping, this.ping));
  }

  private ponged(id: Uint8Array): void {
    if (this.asked === 0 || !same(id, this.ping)) return;
    const took = performance.now() - this.asked;
    this.asked = 0;
    this.delay = took < this.delay ? took : this.delay + (Math.min(took, 2 * this.delay) - this.delay) / 8;
  }

  // roundTrip is the delay of this way, in milliseconds.
  get roundTrip(): number {
    return this.delay;
  }
}

// again is the code of an attempt that another one repairs at once. It never leaves this file.
const again = 'AGAIN';

function closedHere(): Refusal {
  return refuse('E_CLOSED', 'the other side has closed the flow');
}

// hopeless says that the appliance itself will not have the flow back, or a page not the appliance.
export function hopeless(why: Refusal): boolean {
  if (['E_APPLIANCE_CERT', 'E_AUTH', 'E_VERSION'].includes(why.code)) return true;
  if (!why.remote) return false;
  return !['E_BUSY', 'E_DRAINING', 'E_LIMIT', 'E_CONTROL_DOWN', 'E_CONNECTION', 'E_SUPERSEDED'].includes(why.code);
}
