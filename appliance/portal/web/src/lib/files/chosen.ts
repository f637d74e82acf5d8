// What a person has chosen to upload: files by a button, files and folders by dropping them.

import { refuse } from '../frame/errors';

export interface Chosen {
  path: string; // below the folder that is uploaded to, with / between names
  file: File | undefined; // undefined: a folder
}

// most is how many files and folders are taken at once: each is a line of the page. Who chooses more is told, before any
// of them is sent.
export const most = 10_000;

const tooMany = () => refuse('E_LIMIT', `there are more than ${most.toLocaleString('en')} files and folders, and none has been sent`, 'upload them in parts, or as one archive');

export async function ofInput(list: FileList): Promise<Chosen[]> {
  if (list.length > most) throw tooMany();
  return Array.from(list, (file) => ({ path: file.webkitRelativePath || file.name, file }));
}

// ofDrop reads what was dropped, folders whole. The entries have to be taken before anything is waited for.
export async function ofDrop(transfer: DataTransfer): Promise<Chosen[]> {
  const entries = Array.from(transfer.items, (i) => i.webkitGetAsEntry()).filter((e) => e !== null);
  const found: Chosen[] = [];
  const add = (one: Chosen): void => {
    if (found.push(one) > most) throw tooMany();
  };
  const below = async (entry: FileSystemEntry, path: string): Promise<void> => {
    if (entry.isFile) return add({ path, file: await new Promise((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject)) });
    add({ path, file: undefined });
    const reader = (entry as FileSystemDirectoryEntry).createReader();
    for (;;) {
      const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
      if (some.length === 0) return;
      for (const e of some) await below(e, `${path}/${e.name}`);
    }
  };
  for (const e of entries) await below(e, e.name);
  return found;
}
