// The disk of this computer, as a page has it: a worker reads, hashes and writes beside the page, which stays lively.
//
//	const kept = await Kept.open(name); // a file of the page's own, hashed as far as it is there
//	await kept.write(bytes);
//	const source = new Source(file);    // a file of the person's
//	const bytes = await source.read(size);

import { refuse } from '../frame/errors';

// What is asked of the worker about one of its files.
export type Act =
  | { act: 'open'; folder: string; name: string }
  | { act: 'write'; bytes: Uint8Array<ArrayBuffer> }
  | { act: 'empty' }
  | { act: 'source'; of: File }
  | { act: 'skip'; size: number }
  | { act: 'read'; size: number }
  | { act: 'sum' }
  | { act: 'close' };

export type Call = Act & { call: number; file: number };

export type Reply = { call: number; value: unknown } | { call: number; error: { name: string; message: string } };

// folder is where the page's own files are, in the private file system that a browser gives a site.
export const folder = 'sallyport-downloads';

interface Waiting {
  resolve: (value: unknown) => void;
  reject: (why: Error) => void;
}

const waiting = new Map<number, Waiting>();
let worker: Worker | undefined;
let calls = 0;
let files = 0;

function ask<T>(file: number, act: Act, transfer: Transferable[] = []): Promise<T> {
  worker ??= start();
  const call = ++calls;
  return new Promise<T>((resolve, reject) => {
    waiting.set(call, { resolve: resolve as Waiting['resolve'], reject });
    worker!.postMessage({ ...act, call, file } satisfies Call, transfer);
  });
}

function start(): Worker {
  const w = new Worker(new URL('./disk.worker.ts', import.meta.url), { type: 'module' });
  w.onmessage = ({ data }: MessageEvent<Reply>) => {
    const who = waiting.get(data.call);
    waiting.delete(data.call);
    if ('error' in data) who?.reject(failure(data.error));
    else who?.resolve(data.value);
  };
  w.onerror = () => {
    worker = undefined;
    w.terminate();
    for (const { reject } of waiting.values()) reject(refuse('E_INTERNAL', 'the part of this page that works with files has failed', 'load the page again'));
    waiting.clear();
  };
  return w;
}

function failure({ name, message }: { name: string; message: string }): Error {
  switch (name) {
    case 'QuotaExceededError':
      return refuse('E_ROOM', 'this browser has no more room for the file', 'make room on this computer, then go on');
    case 'NoModificationAllowedError':
      return refuse('E_BUSY', 'another tab is at work on this file', 'go on there, or close that tab');
    case 'NotReadableError':
    case 'NotFoundError':
      return refuse('E_FILE_CHANGED', 'the file on this computer cannot be read any more', 'it may have been changed or moved; choose it again');
    case 'SecurityError':
    case 'TypeError':
      return refuse('E_ROOM', 'this browser keeps no files for this page', 'a private window may be the reason');
  }
  return refuse('E_INTERNAL', message || name);
}

// A Kept file is one of the page's own while it is written to. Nobody else can.
export class Kept {
  private readonly file = ++files;

  private constructor(public size: number) {}

  static async open(name: string, signal: AbortSignal): Promise<Kept> {
    const kept = new Kept(0);
    const stop = () => void kept.close().catch(() => {});
    signal.addEventListener('abort', stop, { once: true });
    try {
      kept.size = await ask<number>(kept.file, { act: 'open', folder, name });
    } catch (err) {
      stop();
      throw err;
    } finally {
      signal.removeEventListener('abort', stop);
    }
    return kept;
  }

  // write appends; the memory of the bytes is given away. Those before it are written by then.
  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.size += bytes.length;
    return ask(this.file, { act: 'write', bytes }, [bytes.buffer]);
  }

  empty(): Promise<void> {
    this.size = 0;
    return ask(this.file, { act: 'empty' });
  }

  // sum is the SHA-256 of all of it, in hexadecimal.
  sum(): Promise<string> {
    return ask(this.file, { act: 'sum' });
  }

  // close lets go of it; it rejects if something of it may not be there.
  close(): Promise<void> {
    return ask(this.file, { act: 'close' });
  }
}

// A Source is a file of the person's, which is hashed as it is read.
export class Source {
  private readonly file = ++files;

  constructor(private readonly of: File) {
    this.again();
  }

  // again goes back to where it begins.
  again(): void {
    ask(this.file, { act: 'source', of: this.of }).catch(() => {}); // what follows would fail too
  }

  // skip goes on to an offset, and gives the hash of what is before it.
  async skip(to: number): Promise<string> {
    await ask(this.file, { act: 'skip', size: to });
    return this.sum();
  }

  // read gives so many bytes, or what is left.
  async read(size: number): Promise<Uint8Array<ArrayBuffer>> {
    return new Uint8Array(await ask<ArrayBuffer>(this.file, { act: 'read', size }));
  }

  // sum is the SHA-256 of what has been read.
  sum(): Promise<string> {
    return ask(this.file, { act: 'sum' });
  }

  close(): void {
    ask(this.file, { act: 'close' }).catch(() => {});
  }
}
