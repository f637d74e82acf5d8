// The worker of disk.ts. What is asked of one file is done in the order in which it was asked.

import { createSHA256, type IHasher } from 'hash-wasm';
import type { Call, Reply } from './disk';

// What workers alone have.
interface SyncAccess {
  getSize(): number;
  read(into: Uint8Array, options: { at: number }): number;
  write(from: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}
declare class FileReaderSync {
  readAsArrayBuffer(blob: Blob): ArrayBuffer;
}

// piece is how much is hashed before others have their turn.
const piece = 4 << 20;

const turn = () => new Promise<void>((resolve) => setTimeout(resolve));

const sha256 = async (): Promise<IHasher> => (await createSHA256()).init();

// sum is the hash of what there has been so far.
function sum(hash: IHasher): string {
  const state = hash.save();
  const hex = hash.digest();
  hash.load(state);
  return hex;
}

// A Kept file is written to at its end.
class Kept {
  private size = 0;
  private broken: unknown;

  constructor(
    private readonly access: SyncAccess,
    private readonly hash: IHasher,
  ) {}

  async hashed(open: () => boolean): Promise<number> {
    const buffer = new Uint8Array(piece);
    for (const end = this.access.getSize(); this.size < end; await turn()) {
      if (!open()) throw new DOMException('it was closed', 'AbortError');
      const n = this.access.read(buffer, { at: this.size });
      if (n === 0) break;
      this.hash.update(buffer.subarray(0, n));
      this.size += n;
    }
    return this.size;
  }

  // write leaves no gap: after a failure nothing more is written.
  write(bytes: Uint8Array): void {
    if (this.broken) throw this.broken;
    try {
      if (this.access.write(bytes, { at: this.size }) < bytes.length) throw new DOMException('', 'QuotaExceededError');
    } catch (err) {
      this.broken = err;
      throw err;
    }
    this.hash.update(bytes);
    this.size += bytes.length;
  }

  empty(): void {
    this.access.truncate(0);
    this.size = 0;
    this.hash.init();
  }

  sum(): string {
    return sum(this.hash);
  }

  close(): void {
    try {
      this.access.flush();
    } finally {
      this.access.close();
    }
  }
}

class Source {
  private at = 0;
  private hash = sha256();
  private reader = new FileReaderSync();

  constructor(private readonly file: File) {}

  async skip(to: number, open: () => boolean): Promise<void> {
    for (; this.at < to; await turn()) {
      if (!open()) throw new DOMException('it was closed', 'AbortError');
      if ((await this.read(Math.min(piece, to - this.at))).byteLength === 0) throw new DOMException('it has become shorter', 'NotReadableError');
    }
  }

  async read(size: number): Promise<ArrayBuffer> {
    const hash = await this.hash; // whoever waits first reads first
    const bytes = this.reader.readAsArrayBuffer(this.file.slice(this.at, this.at + size));
    hash.update(new Uint8Array(bytes));
    this.at += bytes.byteLength;
    return bytes;
  }

  async sum(): Promise<string> {
    return sum(await this.hash);
  }

  close(): void {}
}

const files = new Map<number, Kept | Source>();

async function open(folder: string, name: string): Promise<Kept> {
  const dir = await (await navigator.storage.getDirectory()).getDirectoryHandle(folder, { create: true });
  const handle = (await dir.getFileHandle(name, { create: true })) as FileSystemFileHandle & { createSyncAccessHandle(): Promise<SyncAccess> };
  return new Kept(await handle.createSyncAccessHandle(), await sha256());
}

function opened<T extends Kept | Source>(id: number, kind: new (...args: never[]) => T): T {
  const file = files.get(id);
  if (!(file instanceof kind)) throw new DOMException('it was closed', 'AbortError');
  return file;
}

async function done(c: Call): Promise<unknown> {
  switch (c.act) {
    case 'open': {
      const kept = await open(c.folder, c.name);
      files.set(c.file, kept);
      return kept.hashed(() => files.has(c.file));
    }
    case 'source':
      files.set(c.file, new Source(c.of));
      return;
    case 'write':
      return opened(c.file, Kept).write(c.bytes);
    case 'empty':
      return opened(c.file, Kept).empty();
    case 'skip':
      return opened(c.file, Source).skip(c.size, () => files.has(c.file));
    case 'read':
      return opened(c.file, Source).read(c.size);
    case 'sum':
      return files.get(c.file)?.sum();
    case 'close': {
      const file = files.get(c.file);
      files.delete(c.file);
      return file?.close();
    }
  }
}

self.onmessage = async ({ data }: MessageEvent<Call>) => {
  const { call } = data;
  try {
    const value = await done(data);
    self.postMessage({ call, value } satisfies Reply, { transfer: value instanceof ArrayBuffer ? [value] : [] });
  } catch (err) {
    const { name, message } = err as Error;
    self.postMessage({ call, error: { name, message } } satisfies Reply);
  }
};
