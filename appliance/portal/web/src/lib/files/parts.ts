// Downloads on their way: each is put together in a file of the page's own, on disk, and handed over like any download when it
// is whole. So 10 GiB are never in memory, and what a page has begun is there when it is loaded again.
//
//	const part = await Part.make({ target, at, name, size, folder });
//	const kept = await part.open(signal);
//	await kept.write(bytes); await kept.close();
//	await part.hand();
//
// Who has a part holds a lock of its name, so that no other tab takes it for one that was left.

import { folder, Kept } from './disk';
import { saved, type Place } from './names';

// What a part is of.
export interface Wanted {
  target: string;
  at: Place;
  name: string; // for eyes
  size: number; // -1: it is not known
  folder: boolean; // it comes as an archive
}

// What is known of parts is kept by their names.
const prefix = 'download ';

const day = 24 * 3600_000;
const partFor = 7 * day; // a part is kept
const wholeFor = day / 24; // what was handed over is kept: the browser copies it

export class Part {
  private constructor(
    private readonly id: string,
    readonly of: Wanted,
    readonly release: () => void, // lets go of it: who comes next finds it left
  ) {}

  static async make(of: Wanted): Promise<Part> {
    const id = crypto.randomUUID();
    const release = await hold(id);
    try {
      localStorage.setItem(prefix + id, JSON.stringify(of));
    } catch {
      // A browser that keeps nothing has a part for as long as the page.
    }
    return new Part(id, of, release);
  }

  // left finds what is left of a target's downloads: at once, or when another tab gives it up.
  static left(target: string, found: (part: Part, size: number) => void): void {
    for (const [id, of] of known()) {
      if (of.target !== target) continue;
      void hold(id).then(async (release) => {
        const size = localStorage.getItem(prefix + id) ? await sizeOf(id).catch(() => 0) : 0;
        if (size > 0) return found(new Part(id, of, release), size);
        release();
      });
    }
  }

  open(signal: AbortSignal): Promise<Kept> {
    return Kept.open(this.id, signal);
  }

  // hand gives the file, which is whole, to the browser as a download.
  async hand(): Promise<void> {
    const file = await (await (await ours()).getFileHandle(this.id)).getFile();
    const address = URL.createObjectURL(file);
    const link = document.createElement('a');
    link.href = address;
    link.download = saved(this.of.name) + (this.of.folder ? '.zip' : '');
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
    this.forget();
  }

  async remove(): Promise<void> {
    await (await ours()).removeEntry(this.id).catch(() => undefined);
    this.forget();
  }

  private forget(): void {
    localStorage.removeItem(prefix + this.id);
    this.release();
  }
}

const ours = async (): Promise<FileSystemDirectoryHandle> => (await navigator.storage.getDirectory()).getDirectoryHandle(folder, { create: true });

const sizeOf = async (id: string): Promise<number> => (await (await (await ours()).getFileHandle(id)).getFile()).size;

// hold waits until nobody else has a part, and gives what lets go of it.
function hold(id: string): Promise<() => void> {
  return new Promise((resolve, reject) => {
    navigator.locks.request(prefix + id, () => new Promise<void>((release) => resolve(release))).catch(reject);
  });
}

function known(): [id: string, of: Wanted][] {
  const all: [string, Wanted][] = [];
  for (const key of Object.keys(localStorage)) {
    if (!key.startsWith(prefix)) continue;
    try {
      all.push([key.slice(prefix.length), JSON.parse(localStorage.getItem(key)!) as Wanted]);
    } catch {
      localStorage.removeItem(key);
    }
  }
  return all;
}

// tidy removes what nobody has come back for, and what the browser has copied since. Logging out removes all.
export async function tidy(all = false): Promise<void> {
  try {
    const dir = await (await navigator.storage.getDirectory()).getDirectoryHandle(folder);
    for await (const [id, handle] of dir as unknown as AsyncIterable<[string, FileSystemFileHandle]>) {
      const { lastModified } = await handle.getFile();
      const keep = localStorage.getItem(prefix + id) ? partFor : wholeFor;
      if (!all && Date.now() - lastModified < keep) continue;
      const gone = await dir.removeEntry(id).then(() => true, () => false); // false: another tab is at work on it
      if (gone) localStorage.removeItem(prefix + id);
    }
  } catch {
    // There is no such folder.
  }
}
