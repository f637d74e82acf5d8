// Bringing what a person has chosen to a folder: the folders among it are made, and where a name is taken the person decides.

import type { Chosen } from './chosen';
import type { Clash, Remote } from './client';
import { badName, bytesOf, join, named, type Place } from './names';

export type Decision = 'replace' | 'keep' | 'skip';

export interface Decider {
  // decide asks about a name that is taken; left is how many more there are to bring.
  decide: (name: string, left: number) => Promise<{ how: Decision; always: boolean }>;
  start: (folder: Place, name: Place, file: File, clash: Clash) => void;
}

export async function bring(remote: Remote, to: Place, chosen: Chosen[], { decide, start }: Decider): Promise<void> {
  for (const c of chosen) {
    const bad = c.path.split('/').map(badName).find((why) => why !== '');
    if (bad) throw new Error(`${c.path}: ${bad}`);
  }
  const taken = new Map<string, Set<string>>(); // names in a folder, by its path
  const namesIn = async (folder: Place): Promise<Set<string>> => {
    const known = taken.get(folder.path);
    if (known) return known;
    const names = new Set<string>();
    for await (const { entries } of remote.list(folder, new AbortController().signal)) for (const e of entries) names.add(e.name);
    taken.set(folder.path, names);
    return names;
  };
  const made = new Set<string>([to.path]);
  const make = async (names: string[]): Promise<Place> => {
    let folder = to;
    for (const name of names) {
      folder = join(folder, named(name));
      if (made.has(folder.path)) continue;
      await remote.mkdir(folder, true);
      made.add(folder.path);
    }
    return folder;
  };
  let always: Decision | undefined;
  for (const [i, c] of chosen.entries()) {
    const names = c.path.split('/');
    if (!c.file) {
      await make(names);
      continue;
    }
    const name = names.pop()!;
    const folder = await make(names);
    const there = await namesIn(folder);
    let clash: Clash = 'refuse';
    if (there.has(bytesOf(name))) {
      let how = always;
      if (!how) {
        const decided = await decide(name, chosen.length - i - 1);
        how = decided.how;
        if (decided.always) always = how;
      }
      if (how === 'skip') continue;
      clash = how;
    }
    there.add(bytesOf(name));
    start(folder, named(name), c.file, clash);
  }
}
