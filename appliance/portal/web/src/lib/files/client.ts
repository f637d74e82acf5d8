// The files of a target, by the messages that appliance/files describes.
//
//	const remote = new Remote(messages, ready);
//	for await (const entries of remote.list(place, signal)) …
//	await remote.download(place, false, kept, signal, moved);

import { Refusal } from '../frame/errors';
import { fromJSON, json, type Messages } from '../messages';
import { Source, type Kept } from './disk';
import type { Place } from './names';

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

// readAtOnce is how much is read of a file at once: browsers take their time for each call.
const readAtOnce = 1 << 20;

// piece is how much is sent in one message.
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
  omitted?: Omitted;
}

// Omitted is what of a folder is not in its archive.
export interface Omitted {
  count: number;
  first: string;
}

interface WireEntry extends Omit<Entry, 'name' | 'link'> {
  name: string;
  link?: { path: string; text: string };
}

// A Request is one that is under way.
interface Request {
  answer: (a: Answer) => void;
  fail: (why: unknown) => void;
  data?: (offset: number, bytes: Uint8Array<ArrayBuffer>) => void;
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
    else request?.data?.(offset, body.subarray(12)); // credit, not this flow, holds a download up
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
      this.messages.send(Kind.cancel, uint32(id), Uint8Array.of(keep)).catch(() => {});
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

  // download brings what a file, or a folder as an archive, has beyond what is kept of it.
  async download(at: Place, folder: boolean, kept: Kept, signal: AbortSignal, moved: (bytes: number) => void): Promise<Omitted | undefined> {
    const from = kept.size;
    let written = from;
    let told = from;
    let writing = Promise.resolve();
    const data = (offset: number, bytes: Uint8Array<ArrayBuffer>): void => {
      if (signal.aborted) return;
      if (offset !== kept.size) return request.fail(new Error('the appliance has left a part of the file out'));
      const { length } = bytes;
      writing = kept.write(bytes).then(() => {
        moved((written += length));
        if (written - told < creditAt) return;
        told = written;
        return this.messages.send(Kind.credit, uint32(request.id), uint64(written + firstCredit));
      });
      writing.catch(request.fail);
    };
    const request = this.ask({ op: folder ? 'archive' : 'download', path: btoa(at.path), ...(from > 0 && { from, sha256: await kept.sum() }) }, signal, { data });
    let end: Answer | undefined;
    for await (const a of request.answers) end = a;
    await writing;
    if (end?.size !== kept.size || end.sha256 !== (await kept.sum())) throw new Refusal({ code: 'E_FILE_CHANGED', sentence: 'the file has changed while it was on its way', hint: 'download it again' });
    return end.omitted;
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
    const source = new Source(file);
    signal.addEventListener('abort', () => source.close(), { once: true });
    try {
      const first = (await request.answers.next()).value;
      if (!first) throw new Error('the appliance has not answered');
      let offset = first.offset ?? 0;
      if (offset > 0 && (await source.skip(offset)) !== first.sha256) {
        offset = 0;
        source.again();
      }
      signal.throwIfAborted();
      limit = Math.max(limit, offset + firstCredit);
      done(offset);
      let over = false;
      const last = this.rest(request.answers).finally(() => {
        over = true;
        wake();
      });
      last.catch(() => {}); // it is waited for below
      if (offset === file.size) await this.messages.send(Kind.data, uint32(request.id), uint64(offset));
      for (let next = source.read(readAtOnce); offset < file.size && !over; ) {
        const bytes = await next;
        if (bytes.length === 0) throw new Refusal({ code: 'E_FILE_CHANGED', sentence: 'the file on this computer has become shorter', hint: 'choose it again' });
        next = source.read(readAtOnce); // is on its way from the disk while this leaves
        next.catch(() => {}); // told when its turn comes
        for (let at = 0; at < bytes.length; at += piece) {
          const part = bytes.subarray(at, at + piece);
          while (offset + part.length > limit && !over) await new Promise<void>((resolve) => (wake = resolve));
          if (over) break;
          await this.messages.send(Kind.data, uint32(request.id), uint64(offset), part);
          offset += part.length;
          done(offset);
        }
      }
      const end = await last;
      if (end?.sha256 !== (await source.sum())) throw new Refusal({ code: 'E_FILE_CHANGED', sentence: 'the target has another file than was sent', hint: 'upload it again' });
    } catch (err) {
      request.fail(err); // which cancels what is left of it
      throw err;
    } finally {
      source.close();
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

function uint32(n: number): Uint8Array {
  const b = new Uint8Array(4);
  new DataView(b.buffer).setUint32(0, n);
  return b;
}

function uint64(n: number): Uint8Array {
  const b = new Uint8Array(8);
  new DataView(b.buffer).setBigUint64(0, BigInt(n));
  return b;
}
