// Where downloads go, a piece at a time: 10 GiB are never in memory.
//
//	const sink = await openSink('db.dump', size);
//	await sink.write(bytes); // one after the other
//	await sink.close();      // the file is the person's
//
// A browser that lets a person choose the file writes into it. Others have a private folder of the page's own, on disk: there
// the file is put together, and then handed over like any download.

import { saved } from './names';

export interface Sink {
  write(bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  close(): Promise<void>;
  abort(): Promise<void>;
}

// askFrom is the size from which on a person is asked for the place: what is put together first needs its room twice.
const askFrom = 256 << 20;

const folder = 'sallyport-downloads';

interface Picker {
  showSaveFilePicker?: (options: { suggestedName: string }) => Promise<FileSystemFileHandle>;
}

export async function openSink(name: string, size: number): Promise<Sink> {
  const pick = (window as Picker).showSaveFilePicker;
  if (pick && size >= askFrom) return chosen(await pick({ suggestedName: saved(name) }));
  return assembled(saved(name));
}

async function chosen(handle: FileSystemFileHandle): Promise<Sink> {
  const file = await handle.createWritable();
  return { write: (b) => file.write(b), close: () => file.close(), abort: () => file.abort().catch(() => undefined) };
}

async function assembled(name: string): Promise<Sink> {
  const dir = await (await navigator.storage.getDirectory()).getDirectoryHandle(folder, { create: true });
  const id = crypto.randomUUID();
  const handle = await dir.getFileHandle(id, { create: true });
  const file = await handle.createWritable();
  const remove = () => dir.removeEntry(id).catch(() => undefined);
  return {
    write: (b) => file.write(b),
    close: async () => {
      await file.close();
      hand(await handle.getFile(), name);
    },
    abort: async () => {
      await file.abort().catch(() => undefined);
      await remove();
    },
  };
}

// hand gives a file to the browser, as a download of that name.
function hand(file: File, name: string): void {
  const address = URL.createObjectURL(file);
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

// tidy removes what downloads have left in the page's own folder: the browser has copied it since, or the tab was closed.
// Another tab may be at work there: what is young stays.
export async function tidy(olderThan = 24 * 3600_000): Promise<void> {
  try {
    const dir = await (await navigator.storage.getDirectory()).getDirectoryHandle(folder);
    for await (const [name, handle] of dir as unknown as AsyncIterable<[string, FileSystemHandle]>) {
      if (handle.kind !== 'file') continue;
      const { lastModified } = await (handle as FileSystemFileHandle).getFile();
      if (Date.now() - lastModified > olderThan) await dir.removeEntry(name).catch(() => undefined);
    }
  } catch {
    // There is no such folder.
  }
}
