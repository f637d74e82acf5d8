// The files of a target, by the messages that appliance/files describes.
//
//	const remote = new Remote(messages, ready);
//	for await (const entries of remote.list(place, signal)) …
//	await remote.download(place, { from, sha256 }, signal, take);

import { Refusal } from '../frame/errors';
import { fromJSON, json, type Messages } from '../messages';
import type { Place } from './names';
import { SHA256 } from './sha256';

export interface Entry {
  name: string; // bytes
  text: string;
  kind: 'file' | 'folder' | 'link' | 'other';
  size: number;
  mode: string;
  modified: number; // milliseconds
  link?: Place;
}

export interface Ready {
  home: { path: string; text: string };
  upload?: boolean;
  download?: boolean;
}

export type Clash = 'refuse' | 'replace' | 'keep';

// discarded is why a transfer is given up for good: nothing of it is kept.
export const discarded = 'discarded';

// Kinds of messages; 19 and 20 mean another thing in each direction.
export const Kind = { request: 16, data: 17, credit: 18, cancel: 19, progress: 19, ready: 20 } as const;

// firstCredit is what either side sends before the other has said how far it may.
const firstCredit = 1 << 20;

// creditAt is how much a download has taken before the appliance is told.
const creditAt = 256 << 10;

// piece is how much is read of a file at once, and sent in one message.
const piece = 192 << 10;

interface Answer {
  id: number;
  more?: boolean;
  error?: { code: string; sentence: string; hint?: string };
  entries?: WireEntry[];
  truncated?: boolean;
  offset?: number;
  sha256?: string;
  size?: number;
}

interface WireEntry extends Omit<Entry, 'name' | 'link'> {
  name: string;
  link?: { path: string; text: string };
}

// A Request is one that is under way.
interface Request {
  answer: (a: Answer) => void;
  fail: (why: unknown) => void;
  data?: (offset: number, bytes: Uint8Array<ArrayBuffer>) => Promise<void>;
  credit?: (limit: number) => void;
}

const fromBase64 = (text: string): string => atob(text);

function entry(e: WireEntry): Entry {
  const { link, ...rest } = e;
  return { ...rest, size: e.size ?? 0, name: fromBase64(e.name), ...(link && { link: place(link) }) };
}

function place(p: { path: string; text: string }): Place {
  return { path: fromBase64(p.path), text: p.text };
}

export class Remote {
  readonly home: Place;

  private readonly requests = new Map<number, Request>();
  private last = 0;

  constructor(
    private readonly messages: Messages,
    ready: Ready,
  ) {
    this.home = place(ready.home);
  }

  // told takes a message of the program's.
  told(kind: number, body: Uint8Array<ArrayBuffer>): void | Promise<void> {
    if (kind === Kind.request) {
      const a = fromJSON<Answer>(body);
      const request = this.requests.get(a.id);
      if (!a.more) this.requests.delete(a.id);
      if (a.error) request?.fail(new Refusal(a.error, true));
      else request?.answer(a);
      return;
    }
    if (kind !== Kind.data && kind !== Kind.credit) return;
    const view = new DataView(body.buffer, body.byteOffset);
    const request = this.requests.get(view.getUint32(0));
    const offset = Number(view.getBigUint64(4));
    if (kind === Kind.credit) request?.credit?.(offset);
    else void request?.data?.(offset, body.slice(12)); // credit, not this flow, holds a download up
  }

  // lost ends what is under way.
  lost(why: unknown): void {
    for (const r of this.requests.values()) r.fail(why);
    this.requests.clear();
  }

  // ask sends a request, and gives its answers one after the other.
  private ask(what: object, signal?: AbortSignal, streams: Pick<Request, 'data' | 'credit'> = {}): { id: number; answers: AsyncGenerator<Answer, void>; fail: (why: unknown) => void } {
    const id = (this.last = (this.last % 0xffff_fffe) + 1);
    const arrived: Answer[] = [];
    let failed: { why: unknown } | undefined;
    let wake = () => {};
    const fail = (why: unknown): void => {
      failed ??= { why };
      wake();
    };
    const answer = (a: Answer): void => {
      arrived.push(a);
      wake();
    };
    this.requests.set(id, { answer, fail, ...streams });
    this.messages.send(Kind.request, json({ id, ...what })).catch(fail);
    const gone = (): void => fail(signal?.reason);
    signal?.addEventListener('abort', gone, { once: true });
    if (signal?.aborted) gone();
    const rest = () => {
      signal?.removeEventListener('abort', gone);
      if (!this.requests.delete(id)) return;
      const keep = signal?.reason === discarded ? 0 : 1;
      this.messages.send(Kind.cancel, head(id, Uint8Array.of(keep))).catch(() => {});
    };
    async function* answers(): AsyncGenerator<Answer, void> {
      try {
        for (;;) {
          for (let a = arrived.shift(); a; a = arrived.shift()) {
            yield a;
            if (!a.more) return;
          }
          if (failed) throw failed.why;
          await new Promise<void>((resolve) => (wake = resolve));
        }
      } finally {
        rest();
      }
    }
    return { id, answers: answers(), fail };
  }

  private async once(what: object): Promise<void> {
    for await (const _ of this.ask(what).answers);
  }

  async *list(at: Place, signal: AbortSignal): AsyncGenerator<{ entries: Entry[]; truncated: boolean }, void> {
    for await (const a of this.ask({ op: 'list', path: btoa(at.path) }, signal).answers) yield { entries: (a.entries ?? []).map(entry), truncated: a.truncated === true };
  }

  // mkdir makes a folder; existing: one that is there will do.
  mkdir(at: Place, existing: boolean): Promise<void> {
    return this.once({ op: 'mkdir', path: btoa(at.path), existing });
  }

  rename(from: Place, to: Place): Promise<void> {
    return this.once({ op: 'rename', path: btoa(from.path), to: btoa(to.path) });
  }

  remove(at: Place, folder: boolean): Promise<void> {
    return this.once({ op: 'remove', path: btoa(at.path), recursive: folder });
  }

  // download gives a file from an offset on; hash is of what the person has already, and takes in what comes. take keeps
  // the bytes, one piece after the other.
  async download(at: Place, from: number, hash: SHA256, signal: AbortSignal, take: (bytes: Uint8Array<ArrayBuffer>) => Promise<void>): Promise<void> {
    let taken = from;
    let told = from;
    let writing = Promise.resolve();
    const data = (offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> =>
      (writing = writing.then(async () => {
        if (signal.aborted) return;
        if (offset !== taken) throw new Error('the appliance has left a part of the file out');
        hash.write(bytes);
        taken += bytes.length;
        await take(bytes);
        if (taken - told < creditAt) return;
        told = taken;
        await this.messages.send(Kind.credit, head(request.id, uint64(taken + firstCredit)));
      }).catch((err: unknown) => request.fail(err)));
    const request = this.ask({ op: 'download', path: btoa(at.path), ...(from > 0 && { from, sha256: hash.hex() }) }, signal, { data });
    let end: Answer | undefined;
    try {
      for await (const a of request.answers) end = a;
    } finally {
      await writing;
    }
    if (end?.size !== taken || end.sha256 !== hash.hex()) throw new Refusal({ code: 'E_FILE_CHANGED', sentence: 'the file has changed while it was on its way', hint: 'download it again' });
  }

  // upload brings a file. What an interrupted upload of it has left there is gone on with.
  async upload(at: Place, file: File, clash: Clash, signal: AbortSignal, done: (bytes: number) => void): Promise<void> {
    let limit = 0;
    let wake = () => {};
    const credit = (to: number): void => {
      limit = Math.max(limit, to);
      wake();
    };
    const request = this.ask({ op: 'upload', path: btoa(at.path), size: file.size, modified: file.lastModified, clash }, signal, { credit });
    try {
      const first = (await request.answers.next()).value;
      if (!first) throw new Error('the appliance has not answered');
      const hash = new SHA256();
      let offset = first.offset ?? 0;
      if (offset > 0) {
        for await (const bytes of read(file, 0, offset)) {
          hash.write(bytes);
          signal.throwIfAborted();
        }
        if (hash.hex() !== first.sha256) offset = 0;
      }
      const sum = offset > 0 ? hash : new SHA256();
      limit = Math.max(limit, offset + firstCredit);
      done(offset);
      let over = false;
      const last = this.rest(request.answers).finally(() => {
        over = true;
        wake();
      });
      last.catch(() => {}); // it is waited for below
      if (offset === file.size) await this.messages.send(Kind.data, head(request.id, uint64(offset)));
      for await (const bytes of read(file, offset, file.size)) {
        while (offset + bytes.length > limit && !over) await new Promise<void>((resolve) => (wake = resolve));
        if (over) break;
        await this.messages.send(Kind.data, head(request.id, uint64(offset), bytes));
        sum.write(bytes);
        offset += bytes.length;
        done(offset);
      }
      const end = await last;
      if (end?.sha256 !== sum.hex()) throw new Refusal({ code: 'E_FILE_CHANGED', sentence: 'the target has another file than was sent', hint: 'upload it again' });
    } catch (err) {
      request.fail(err); // which cancels what is left of it
      throw err;
    }
  }

  // discard removes what an interrupted upload has left on the target.
  async discard(at: Place, file: File): Promise<void> {
    const stop = new AbortController();
    const request = this.ask({ op: 'upload', path: btoa(at.path), size: file.size, modified: file.lastModified, clash: 'replace' }, stop.signal);
    await request.answers.next();
    stop.abort(discarded);
    await request.answers.next().catch(() => {});
  }

  private async rest(answers: AsyncGenerator<Answer, void>): Promise<Answer | undefined> {
    let last: Answer | undefined;
    for await (const a of answers) last = a;
    return last;
  }
}

// read gives a part of a file in pieces. The next is on its way from the disk while one is dealt with.
async function* read(file: File, from: number, to: number): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  const part = async (at: number) =>
    new Uint8Array(
      await file
        .slice(at, Math.min(at + piece, to))
        .arrayBuffer()
        .catch(() => {
          throw new Refusal({ code: 'E_FILE_CHANGED', sentence: `${file.name} cannot be read any more`, hint: 'it may have been changed or moved; choose it again' });
        }),
    );
  let next = from < to ? part(from) : undefined;
  for (let at = from; next; at += piece) {
    const bytes = await next;
    next = at + piece < to ? part(at + piece) : undefined;
    next?.catch(() => {}); // told when its turn comes
    yield bytes;
  }
}

function uint64(n: number): Uint8Array<ArrayBuffer> {
  const b = new Uint8Array(8);
  new DataView(b.buffer).setBigUint64(0, BigInt(n));
  return b;
}

// head is a body that begins with an id.
function head(id: number, ...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const b = new Uint8Array(4 + parts.reduce((n, p) => n + p.length, 0));
  new DataView(b.buffer).setUint32(0, id);
  let at = 4;
  for (const p of parts) {
    b.set(p, at);
    at += p.length;
  }
  return b;
}
