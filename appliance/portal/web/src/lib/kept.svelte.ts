// What this browser keeps for a person between visits: names of targets, nothing else. Logging out takes it away.

const most = 12; // recent targets

function read(key: string): string[] {
  try {
    const list: unknown = JSON.parse(localStorage.getItem(key) ?? '[]');
    return Array.isArray(list) ? list.filter((n): n is string => typeof n === 'string').slice(0, 500) : [];
  } catch {
    return [];
  }
}

function write(key: string, list: string[]): void {
  try {
    localStorage.setItem(key, JSON.stringify(list));
  } catch {
    // A browser that keeps nothing shows the same pages without.
  }
}

export const kept = $state({ favourites: read('favourites'), recent: read('recent') });

// ofUser forgets what was kept for somebody else.
export function ofUser(user: string): void {
  if (localStorage.getItem('user') === user) return;
  localStorage.clear();
  localStorage.setItem('user', user);
  kept.favourites = [];
  kept.recent = [];
}

export function favour(name: string): void {
  kept.favourites = kept.favourites.includes(name) ? kept.favourites.filter((n) => n !== name) : [...kept.favourites, name];
  write('favourites', kept.favourites);
}

export function used(name: string): void {
  kept.recent = [name, ...kept.recent.filter((n) => n !== name)].slice(0, most);
  write('recent', kept.recent);
}
