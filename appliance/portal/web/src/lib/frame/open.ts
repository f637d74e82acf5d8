// Flows as the pages know them, by whatever connects.

import { clip, refuse, Refusal } from './errors';
import { introduce, type Identity } from './hello';
import type { Bytes } from './keys';
import { Socket, type Dial } from './socket';
import { hopeless, Stream, type Connect, type State } from './stream';
import { trusting } from './trust';

export interface Ask {
  target: string;
  protocol: string;
  program?: string; // what of the appliance's speaks the protocol; absent: the bytes are the target's own
  session?: string; // that the flow joins, 32 hex digits; absent: a new one
  port?: number;
  vnet?: string;
  signal?: AbortSignal; // gives up while the flow is not open yet
  onnotice?: (line: string) => void; // lines for the person: while an approval is waited for, too
  ondelay?: (why: Refusal) => void; // the session is not reached, and tried again
}

const joinFor = 60_000; // milliseconds that a session is tried to be reached for

export interface Flow {
  readonly id: string; // hex, as are those of sessions
  readonly session: string;
  readonly target: string; // as the appliance calls it
  readonly port: number;
  readonly rule: string; // that allowed it
  readonly idle: number; // milliseconds without a byte after which it ends; 0: no limit
  readonly lifetime: number; // milliseconds after which it ends; 0: no limit
  readonly state: State;
  readonly delay: number; // of the way to the appliance, in milliseconds

  // send waits while much is under way. It keeps b, which must not change any more. It rejects when the flow has ended.
  send(b: Uint8Array): Promise<void>;

  // end says that nothing more is sent; what the far side still says arrives.
  end(): void;

  // close ends the flow: what was sent still leaves.
  close(): void;

  // leave lets go of it, and ends nothing: the session can be joined until the flow's grace is over.
  leave(): void;

  // abort ends it at once, and says why.
  abort(why: Refusal): void;

  // onbytes gets what arrives, one piece after the other: what comes before it is set waits for it. A promise holds up what
  // follows until it is kept.
  onbytes: (b: Bytes) => void | Promise<void>;
  onend: () => void; // the far side says no more
  onstate: (s: State) => void; // is told at once, too, how the flow is when it is set
  onnotice: (line: string) => void;
}

// openWith opens a flow by whatever connects.
export async function openWith(connect: Connect, ask: Ask): Promise<Flow> {
  const { session, signal = new AbortController().signal, onnotice = () => {}, ondelay = () => {}, target, protocol, program, port, vnet } = ask;
  const request = { target, protocol, ...(program && { program }), ...(port && { port }), ...(vnet && { vnet }), ...(session && { session: fromHex(session) }) };
  const open = (): Promise<Stream> => Stream.open(connect, request, signal, onnotice);
  const stream = await (session ? join(open, signal, ondelay) : open());
  const unwatch = watchNetwork(() => stream.wake());
  const o = stream.opened;
  let onbytes: Flow['onbytes'] = () => {};
  let onstate: Flow['onstate'] = () => {};
  stream.onstate = (s) => {
    if (s.state === 'ended') unwatch();
    onstate(s);
  };
  if (o.notice) onnotice(clip(o.notice));
  return {
    id: hex(o.flow),
    session: hex(o.session),
    target: o.target ?? target,
    port: o.port ?? 0,
    rule: o.rule ?? '',
    idle: Number(o.idle ?? 0n),
    lifetime: Number(o.lifetime ?? 0n),
    get state() {
      return stream.state;
    },
    get delay() {
      return stream.roundTrip;
    },
    send: (b) => stream.send(b),
    end: () => stream.end(),
    close: () => stream.close(),
    leave: () => stream.leave(),
    abort: (why) => stream.abort(why),
    get onbytes() {
      return onbytes;
    },
    set onbytes(f) {
      onbytes = f;
      stream.deliver((b) => onbytes(b));
    },
    get onend() {
      return stream.onend;
    },
    set onend(f) {
      stream.onend = f;
    },
    get onstate() {
      return onstate;
    },
    set onstate(f) {
      onstate = f;
      f(stream.state);
    },
    get onnotice() {
      return stream.onnotice;
    },
    set onnotice(f) {
      stream.onnotice = f;
    },
  };
}

// join opens a flow of a session that there is: again and again, for a while, where what keeps it from that may pass. The session
// goes on meanwhile.
async function join(open: () => Promise<Stream>, signal: AbortSignal, ondelay: (why: Refusal) => void): Promise<Stream> {
  const began = Date.now();
  for (let wait = 250; ; wait = Math.min(2 * wait, 4000)) {
    try {
      return await open();
    } catch (err) {
      const left = joinFor - (Date.now() - began);
      if (signal.aborted || !(err instanceof Refusal) || hopeless(err) || left <= 0) throw err;
      ondelay(err);
      await pause(Math.min(Math.max(wait, err.retry), left), signal);
    }
  }
}

// pause waits, but no longer than until the network may be another.
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      unwatch();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    const unwatch = watchNetwork(done);
    signal.addEventListener('abort', done);
  });
}

// outlives says whether a session may go on though its flow has ended, or was not even had: another tab has it, or nobody knows but
// the appliance, which was not reached. What that itself has ended is over.
export function outlives(why: unknown, had: boolean): boolean {
  if (!(why instanceof Refusal) || why.code === 'E_RESUME_EXPIRED') return false;
  return !why.remote || why.code === 'E_SUPERSEDED' || (!had && !hopeless(why));
}

// connecting makes WebSockets whose HELLO is admitted. why says what a WebSocket that did not open means, for browsers do not.
export function connecting(dial: Dial, identity: () => Promise<Identity>, why: () => Promise<Refusal | undefined>): Connect {
  return async (signal, patience) => {
    const me = await identity();
    let socket: Socket;
    try {
      socket = await Socket.dial(dial, patience, signal);
    } catch (err) {
      throw (await why()) ?? err;
    }
    try {
      const { bond } = await introduce(socket, me);
      return { socket, bond };
    } catch (err) {
      socket.close();
      throw err;
    }
  };
}

// A Key is what a device has.
export interface Key {
  publicKey: Bytes; // Ed25519, 32 bytes
  privateKey: CryptoKey;

  // The appliance's identity keys: the one that signs, and those that it has named as its successors.
  identity: Bytes[];
}

// identityOf is a key as HELLO needs it. pin keeps other identity keys.
export function identityOf(me: Key, pin: (identity: Bytes[]) => Promise<void>): Identity {
  return {
    publicKey: me.publicKey,
    sign: async (message) => new Uint8Array(await crypto.subtle.sign({ name: 'Ed25519' }, me.privateKey, message)),
    trust: async (keys) => {
      const pins = trusting(me.identity, keys);
      if (pins) await pin(pins);
    },
  };
}

// watchNetwork calls back when the network may be another, or the page was asleep.
function watchNetwork(wake: () => void): () => void {
  if (typeof window === 'undefined') return () => {};
  const seen = (): void => {
    if (document.visibilityState === 'visible') wake();
  };
  for (const event of ['online', 'offline', 'pageshow']) window.addEventListener(event, wake);
  document.addEventListener('visibilitychange', seen);
  document.addEventListener('resume', wake);
  return () => {
    for (const event of ['online', 'offline', 'pageshow']) window.removeEventListener(event, wake);
    document.removeEventListener('visibilitychange', seen);
    document.removeEventListener('resume', wake);
  };
}

export function hex(b: Uint8Array): string {
  return Array.from(b, (x) => x.toString(16).padStart(2, '0')).join('');
}

function fromHex(text: string): Uint8Array {
  if (!/^([0-9a-f]{2})+$/.test(text)) throw refuse('E_NAME', 'a session is named by hex digits');
  return Uint8Array.from(text.match(/../g)!, (x) => parseInt(x, 16));
}
