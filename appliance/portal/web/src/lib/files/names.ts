// Names and paths on a target. There they are bytes, which need not be text; here a string holds them, a character a byte.
// What people see is the text that the appliance writes of them.

export interface Place {
  path: string; // bytes
  text: string;
}

export const root: Place = { path: '/', text: '/' };

export function bytesOf(text: string): string {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

function below(folder: string, name: string): string {
  return folder === '/' ? '/' + name : folder + '/' + name;
}

export function join(folder: Place, name: Place): Place {
  return { path: below(folder.path, name.path), text: below(folder.text, name.text) };
}

// named is what a person's own name for something is on the target.
export function named(text: string): Place {
  return { path: bytesOf(text), text };
}

// crumbs are the folders on the way to a place, and the place.
export function crumbs(place: Place): { name: string; place: Place }[] {
  const all = [{ name: '/', place: root }];
  const texts = place.text.split('/').filter((n) => n !== '');
  for (const [i, path] of place.path.split('/').filter((n) => n !== '').entries()) {
    const name = { path, text: texts[i] ?? '' };
    all.push({ name: name.text, place: join(all.at(-1)!.place, name) });
  }
  return all;
}

// badName says why something cannot be the name of a new file or folder, in a sentence; nothing if it can.
export function badName(name: string): string {
  if (name === '') return 'A name has at least one character.';
  if (name === '.' || name === '..') return 'This name stands for a folder already.';
  if (name.includes('/')) return 'A name has no “/”.';
  if (/[\p{Cc}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u.test(name)) return 'A name has no control characters.';
  if (bytesOf(name).length > 255) return 'This name is too long.';
  return '';
}

// saved is a name for a file of this computer, whatever system that has.
export function saved(text: string): string {
  return text.replace(/[\p{Cc}\u202a-\u202e\u2066-\u2069\\/:*?"<>|]/gu, '_').replace(/^\.+$/, '_').slice(0, 200) || 'file';
}
