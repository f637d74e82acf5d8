// What a person has chosen to upload: files by a button, files and folders by dropping them.

export interface Chosen {
  path: string; // below the folder that is uploaded to, with / between names
  file: File | undefined; // undefined: a folder
}

// most is how many files and folders are taken at once.
export const most = 10_000;

export function ofInput(list: FileList): Chosen[] {
  return Array.from(list).slice(0, most).map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

// ofDrop reads what was dropped, folders whole. The entries have to be taken before anything is waited for.
export async function ofDrop(transfer: DataTransfer): Promise<Chosen[]> {
  const entries = Array.from(transfer.items, (i) => i.webkitGetAsEntry()).filter((e) => e !== null);
  const found: Chosen[] = [];
  const below = async (entry: FileSystemEntry, path: string): Promise<void> => {
    if (found.length >= most) return;
    if (entry.isFile) {
      found.push({ path, file: await new Promise((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject)) });
      return;
    }
    found.push({ path, file: undefined });
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
