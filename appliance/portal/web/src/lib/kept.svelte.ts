// What this browser keeps for a person between visits: names of targets, nothing else. Logging out takes it away.

import { empty, held, hold } from './storage';

const most = 12; // recent targets

function read(key: string): string[] {
  const list = held('localStorage', key);
  return Array.isArray(list) ? list.filter((n): n is string => typeof n === 'string').slice(0, 500) : [];
}

export const kept = $state({ favourites: read('favourites'), recent: read('recent') });

// What another tab keeps is kept here too: sessions are in tabs of their own.
addEventListener('storage', () => {
  kept.favourites = read('favourites');
  kept.recent = read('recent');
});

// ofUser forgets what was kept for somebody else.
export function ofUser(user: string): void {
  if (held('localStorage', 'user') === user) return;
  empty();
  hold('localStorage', 'user', user);
  kept.favourites = [];
  kept.recent = [];
}

export function favour(name: string): void {
  kept.favourites = kept.favourites.includes(name) ? kept.favourites.filter((n) => n !== name) : [...kept.favourites, name];
  hold('localStorage', 'favourites', kept.favourites);
}

export function used(name: string): void {
  kept.recent = [name, ...kept.recent.filter((n) => n !== name)].slice(0, most);
  hold('localStorage', 'recent', kept.recent);
}
