// What the portal's client makes of frames, against what the appliance's own parser does, and its parts by themselves.

import { deepEqual, equal, ok, throws } from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { decode, encode } from '../../appliance/portal/web/src/lib/frame/cbor';
import { Refusal } from '../../appliance/portal/web/src/lib/frame/errors';
import { applianceMessage, applianceProof, clientProof, deviceMessage, firstKey, nextKey, sha256, Ticket, type Bond } from '../../appliance/portal/web/src/lib/frame/keys';
import * as m from '../../appliance/portal/web/src/lib/frame/messages';
import { trusting } from '../../appliance/portal/web/src/lib/frame/trust';
import { ackFrame, finFrame, frame, headerSize, known, parseAck, parseFin, parseHeader, Splitter, Type } from '../../appliance/portal/web/src/lib/frame/wire';
import { Messages } from '../../appliance/portal/web/src/lib/messages';

type Bytes = Uint8Array<ArrayBuffer>;
interface Vector {
  frame: string;
  code: string;
  example: boolean; // of PROTOCOL.md
}

const vectors = JSON.parse(readFileSync(process.env['VECTORS']!, 'utf8')) as Vector[];
const examples = vectors.filter((v) => v.example).map((v) => bytes(v.frame));

function bytes(hex: string): Bytes {
  return Uint8Array.from(hex.match(/../g) ?? [], (x) => parseInt(x, 16));
}

const hex = (b: Uint8Array): string => Array.from(b, (x) => x.toString(16).padStart(2, '0')).join('');
const filled = (n: number, x: number): Bytes => new Uint8Array(n).fill(x);
const code = (err: unknown): string => (err instanceof Refusal ? err.code : String(err));

// again parses a frame and encodes what it says.
function again(b: Bytes): Bytes {
  const { type } = parseHeader(b);
  const p = b.subarray(headerSize);
  const message = m.messageOf.get(type);
  if (message) return m.frameOf(type, message, m.parse(message, p) as object as never);
  if (type === Type.ack) return ackFrame(parseAck(p));
  if (type === Type.fin) return finFrame(parseFin(p));
  return frame(type, p);
}

test('frames are taken and refused as the appliance does', () => {
  for (const v of vectors) {
    let got = '';
    try {
      equal(hex(again(bytes(v.frame))), v.frame, 'it encodes to other bytes');
    } catch (err) {
      got = code(err);
    }
    equal(got, v.code, v.frame);
  }
});

test('offsets beyond 2^62', () => {
  equal(parseFin(bytes('3fffffffffffffff')), (1n << 62n) - 1n);
  throws(() => parseFin(bytes('4000000000000000')), { code: 'E_CREDIT' });
});

// The first example of a type.
function payload(type: number): Bytes {
  return examples.find((b) => b[0] === type)!.subarray(headerSize);
}

test('keys and proofs are those of PROTOCOL.md', async () => {
  const request = m.parse(m.resume, payload(Type.resume));
  const answer = m.parse(m.resumed, payload(Type.resumed));
  const opened = m.parse(m.opened, payload(Type.opened));
  const device = m.parse(m.hello, payload(Type.hello)).device!;
  const bond: Bond = { user: 'ann', device: await sha256(device), binding: await sha256(filled(32, 0x33)), secret: filled(32, 0x44) };
  const first = await firstKey(bond, opened.flow, opened.session);
  const key = await nextKey(first, bond, filled(16, 0x55), filled(16, 0x66));
  deepEqual(await clientProof(key, bond, request), request.proof);
  deepEqual(await applianceProof(key, bond, request, answer), answer.proof);
});

test('what is signed is that of PROTOCOL.md', async () => {
  const verify = async (key: Uint8Array, signature: Uint8Array, message: Bytes): Promise<boolean> => {
    const k = await crypto.subtle.importKey('raw', key as Bytes, { name: 'Ed25519' }, false, ['verify']);
    return crypto.subtle.verify({ name: 'Ed25519' }, k, signature as Bytes, message);
  };
  const challenged = examples.filter((b) => b[0] === Type.hello).map((b) => m.parse(m.hello, b.subarray(headerSize))).find((h) => h.binding === 2)!;
  const { signature, ...unsigned } = challenged;
  ok(await verify(challenged.device!, signature!, await deviceMessage(payload(Type.challenge), m.payloadOf(m.hello, unsigned))));
  const w = m.parse(m.welcome, payload(Type.welcome));
  const { signature: theirs, ...welcome } = w;
  ok(await verify(w.identity[0]!, theirs, await applianceMessage(filled(32, 0x33), payload(Type.hello), m.payloadOf(m.welcome, welcome as m.Welcome))));
});

test('a ticket tries the next epoch first, and the one before once more', async () => {
  const bond: Bond = { user: 'ann', device: filled(32, 1), binding: filled(32, 2), secret: filled(32, 3) };
  const t = new Ticket(filled(16, 4), filled(32, 5));
  const a = await t.attempt(bond, 0n, 0n, 0);
  equal(a.attempt.epoch, 0n);
  const { key, nonces } = await t.attach(bond, a.attempt, { nonce: filled(16, 6), proof: filled(32, 0) });
  deepEqual(nonces, [a.attempt.nonce]);
  const b = await t.attempt(bond, 0n, 0n, 0); // the appliance may have heard
  equal(b.attempt.epoch, 1n);
  equal(t.refused(b.attempt), 'again'); // and has not
  const c = await t.attempt(bond, 0n, 0n, 0);
  equal(c.attempt.epoch, 0n);
  equal(t.refused(c.attempt), 'over');
  t.settle(key);
  equal((await t.attempt(bond, 0n, 0n, 0)).attempt.epoch, 1n);
});

test('a splitter takes frames from messages however they are cut, and skips optional ones', () => {
  const all: Bytes[] = examples.filter((b) => known(b[0]!));
  const skipped = frame(0x90, filled(300, 7));
  const stream = new Uint8Array(all.flatMap((b) => [...b, ...skipped]));
  for (const size of [1, 2, 3, 5, 7, 64, 1000, stream.length]) {
    const got: string[] = [];
    const s = new Splitter((f) => got.push(hex(frame(f.type, f.payload))));
    for (let at = 0; at < stream.length; at += size) s.push(stream.subarray(at, at + size));
    deepEqual(got, all.map(hex));
  }
  const s = new Splitter(() => undefined);
  throws(() => s.push(bytes('20010001')), { code: 'E_FRAME_SIZE' });
});

test('CBOR has one encoding', () => {
  const fields = [[1, 'n', 'i'], [2, 't', 't'], [3, 'l', 'B']] as const;
  for (const n of [1n, 23n, 24n, 255n, 256n, 65535n, 65536n, (1n << 32n) - 1n, 1n << 32n, -1n, -25n, (1n << 63n) - 1n, -(1n << 63n)]) {
    const b = encode(fields, { n, t: 'ä\u0000', l: [filled(1, 2), filled(0, 0)] });
    deepEqual(decode(fields, b), { n, t: 'ä\u0000', l: [filled(1, 2), filled(0, 0)] });
  }
  equal(hex(encode(fields, { n: 0n, t: '' })), 'a0');
});

test('an appliance is known by its keys', () => {
  const [a, b, c] = [filled(32, 1), filled(32, 2), filled(32, 3)];
  deepEqual(trusting([], [a]), [a]);
  equal(trusting([a], [a]), undefined);
  deepEqual(trusting([a], [a, b]), [a, b]);
  equal(trusting([a, b], [a, b]), undefined);
  deepEqual(trusting([a, b], [b, c]), [b, c]);
  throws(() => trusting([a], [b]), { code: 'E_APPLIANCE_CERT' });
  throws(() => trusting([a], [b, a]), { code: 'E_APPLIANCE_CERT' });
});

test('messages in a flow', async () => {
  const sent: number[] = [];
  let aborted = '';
  const flow = {
    onbytes: (_: Bytes): void | Promise<void> => undefined,
    send: async (b: Uint8Array) => void sent.push(...b),
    abort: (why: Refusal) => void (aborted = why.code),
  };
  const got: string[] = [];
  const wire = new Messages(flow as never, { most: 100, take: (kind, body) => void got.push(kind + ' ' + hex(body)) });
  await wire.send(1, bytes('0102'));
  await wire.send(2, bytes(''));
  equal(hex(Uint8Array.from(sent)), '00000003010102' + '0000000102');
  for (const x of sent) await flow.onbytes(Uint8Array.of(x));
  await flow.onbytes(Uint8Array.from(sent));
  deepEqual(got, ['1 0102', '2 ', '1 0102', '2 ']);
  await flow.onbytes(bytes('00000065'));
  equal(aborted, 'E_FRAME');
});
