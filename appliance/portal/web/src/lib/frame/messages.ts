// The messages of PROTOCOL.md and what must hold in each.

import { decode, encode, type Fields } from './cbor';
import { malformed, type Reason } from './errors';
import { frame, isOffset, nonceSize, Type } from './wire';

export interface Hello {
  versions: Uint8Array; // one byte each, ascending
  software?: string;
  time?: bigint;
  device?: Uint8Array;
  name?: string;
  user?: string;
  code?: string;
  token?: Uint8Array;
  binding?: number;
  serverKey?: Uint8Array;
  nonce?: Uint8Array;
  share?: Uint8Array;
  signature?: Uint8Array;
}

export interface Challenge {
  nonce: Uint8Array;
  share: Uint8Array;
}

export interface Welcome {
  version?: number;
  software?: string;
  time?: bigint;
  name?: string;
  user?: string;
  device?: string;
  identity: Uint8Array[];
  signature: Uint8Array;
  token?: Uint8Array;
  expires?: bigint;
  flows?: number;
  notice?: string;
}

export interface OpenRequest {
  target?: string;
  protocol: string;
  port?: number;
  vnet?: string;
  session?: Uint8Array;
  grant?: Uint8Array;
  program?: string;
}

export interface Opened {
  flow: Uint8Array;
  session: Uint8Array;
  target?: string;
  port?: number;
  rule?: string;
  idle?: bigint;
  lifetime?: bigint;
  grace?: bigint;
  notice?: string;
  grant?: Uint8Array;
}

export interface Resume {
  flow: Uint8Array;
  epoch?: bigint;
  received?: bigint;
  limit?: bigint;
  nonce: Uint8Array;
  proof: Uint8Array;
  why?: number;
}

export interface Resumed {
  received?: bigint;
  limit?: bigint;
  nonce: Uint8Array;
  proof: Uint8Array;
}

export interface Notice {
  text?: string;
}

export interface Drain {
  left?: bigint;
  text?: string;
}

// A Message has its fields, and says what is wrong with one that decodes.
interface Message<T> {
  fields: Fields;
  check(m: T): string | undefined;
}

export const hello: Message<Hello> = {
  fields: [
    [1, 'versions', 'b'],
    [2, 'software', 't'],
    [3, 'time', 'i'],
    [4, 'device', 'b'],
    [5, 'name', 't'],
    [6, 'user', 't'],
    [7, 'code', 't'],
    [8, 'token', 'b'],
    [9, 'binding', 'u8'],
    [10, 'serverKey', 'b'],
    [11, 'nonce', 'b'],
    [12, 'share', 'b'],
    [13, 'signature', 'b'],
  ],
  check(h) {
    const binding = h.binding ?? 0;
    if (!h.versions?.length) return 'no version';
    if (h.versions.some((v, i) => i > 0 && v <= h.versions[i - 1]!)) return 'versions do not ascend';
    if (binding > 2) return `binding ${binding} is not known`;
    if ((h.token?.length ?? 0) > 12 << 10) return 'the access token is too long';
    if ([h.software, h.name, h.user, h.code].some((t) => bytesOf(t) > 255)) return 'a text is too long';
    return sizes(
      ['device key', h.device, 32, binding !== 0],
      ['server key', h.serverKey, 32, binding === 1],
      ['signature', h.signature, 64, binding !== 0],
      ['nonce', h.nonce, 32, binding === 2],
      ['share', h.share, 32, binding === 2],
    );
  },
};

export const challenge: Message<Challenge> = {
  fields: [
    [1, 'nonce', 'b'],
    [2, 'share', 'b'],
  ],
  check: (c) => sizes(['nonce', c.nonce, 32, true], ['share', c.share, 32, true]),
};

export const welcome: Message<Welcome> = {
  fields: [
    [1, 'version', 'u8'],
    [2, 'software', 't'],
    [3, 'time', 'i'],
    [4, 'name', 't'],
    [5, 'user', 't'],
    [6, 'device', 't'],
    [7, 'identity', 'B'],
    [8, 'signature', 'b'],
    [9, 'token', 'b'],
    [10, 'expires', 'i'],
    [11, 'flows', 'u16'],
    [12, 'notice', 't'],
  ],
  check(w) {
    if (!w.identity?.length) return 'no identity key';
    if (w.identity.some((k) => k.length !== 32)) return 'an identity key has 32 bytes';
    return sizes(['signature', w.signature, 64, true]);
  },
};

export const openRequest: Message<OpenRequest> = {
  fields: [
    [1, 'target', 't'],
    [2, 'protocol', 't'],
    [3, 'port', 'u16'],
    [4, 'vnet', 't'],
    [5, 'session', 'b'],
    [6, 'grant', 'b'],
    [7, 'program', 't'],
  ],
  check(o) {
    if (!o.protocol || bytesOf(o.protocol) > 16) return "a protocol's name has 1 to 16 bytes";
    if (bytesOf(o.program) > 16) return "a program's name has 1 to 16 bytes";
    if (bytesOf(o.target) > 255 || bytesOf(o.vnet) > 64) return 'a name is too long';
    return sizes(['session id', o.session, 16, false], ['grant', o.grant, 72, false]);
  },
};

export const opened: Message<Opened> = {
  fields: [
    [1, 'flow', 'b'],
    [2, 'session', 'b'],
    [3, 'target', 't'],
    [4, 'port', 'u16'],
    [5, 'rule', 't'],
    [6, 'idle', 'i'],
    [7, 'lifetime', 'i'],
    [8, 'grace', 'i'],
    [9, 'notice', 't'],
    [10, 'grant', 'b'],
  ],
  check: (o) => sizes(['flow id', o.flow, 16, true], ['session id', o.session, 16, true], ['grant', o.grant, 72, false]),
};

export const reason: Message<Reason> = {
  fields: [
    [1, 'code', 't'],
    [2, 'sentence', 't'],
    [3, 'hint', 't'],
    [4, 'rule', 't'],
    [5, 'retry', 'i'],
    [6, 'incident', 't'],
  ],
  check: (r) => (/^[A-Z0-9_]{3,32}$/.test(r.code ?? '') ? undefined : 'a code has 3 to 32 capital letters, digits and underscores'),
};

export const resume: Message<Resume> = {
  fields: [
    [1, 'flow', 'b'],
    [2, 'epoch', 'u'],
    [3, 'received', 'u'],
    [4, 'limit', 'u'],
    [5, 'nonce', 'b'],
    [6, 'proof', 'b'],
    [7, 'why', 'u8'],
  ],
  check(r) {
    if (!isOffset(r.received) || !isOffset(r.limit)) return 'an offset is beyond 2^62';
    return sizes(['flow id', r.flow, 16, true], ['nonce', r.nonce, nonceSize, true], ['proof', r.proof, 32, true]);
  },
};

export const resumed: Message<Resumed> = {
  fields: [
    [1, 'received', 'u'],
    [2, 'limit', 'u'],
    [3, 'nonce', 'b'],
    [4, 'proof', 'b'],
  ],
  check(r) {
    if (!isOffset(r.received) || !isOffset(r.limit)) return 'an offset is beyond 2^62';
    return sizes(['nonce', r.nonce, nonceSize, true], ['proof', r.proof, 32, true]);
  },
};

export const notice: Message<Notice> = { fields: [[1, 'text', 't']], check: () => undefined };

export const drain: Message<Drain> = {
  fields: [
    [1, 'left', 'i'],
    [2, 'text', 't'],
  ],
  check: () => undefined,
};

// messageOf is the message that a frame of a type carries; undefined for those that carry none.
export const messageOf = new Map<number, Message<never>>([
  [Type.hello, hello],
  [Type.challenge, challenge],
  [Type.welcome, welcome],
  [Type.open, openRequest],
  [Type.opened, opened],
  [Type.refused, reason],
  [Type.reset, reason],
  [Type.resume, resume],
  [Type.resumed, resumed],
  [Type.notice, notice],
  [Type.drain, drain],
] as [number, Message<never>][]);

export function parse<T>(m: Message<T>, payload: Uint8Array): T {
  const value = decode(m.fields, payload) as T;
  const wrong = m.check(value);
  if (wrong) throw malformed(wrong);
  return value;
}

export function payloadOf<T extends object>(m: Message<T>, value: T): Uint8Array<ArrayBuffer> {
  return encode(m.fields, value);
}

export function frameOf<T extends object>(type: number, m: Message<T>, value: T): Uint8Array<ArrayBuffer> {
  return frame(type, payloadOf(m, value));
}

const utf8 = new TextEncoder();
const bytesOf = (text: string | undefined): number => (text === undefined ? 0 : utf8.encode(text).length);

function sizes(...fields: [name: string, b: Uint8Array | undefined, n: number, must: boolean][]): string | undefined {
  for (const [name, b, n, must] of fields) {
    const length = b?.length ?? 0;
    if (length !== n && (must || length !== 0)) return `the ${name} has ${length} bytes, not ${n}`;
  }
  return undefined;
}
