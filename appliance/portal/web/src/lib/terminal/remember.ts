// What is remembered of terminals: for this browser how a person signs on to a target and how large letters are, never a
// secret; for this tab which session it has, so that a reload finds it.

export type Method = 'certificate' | 'password' | 'key';

export interface SignOn {
  user: string;
  method: Method;
}

const methods: readonly string[] = ['certificate', 'password', 'key'];
const mostTargets = 200;

function read(storage: Storage, key: string): unknown {
  try {
    return JSON.parse(storage.getItem(key) ?? 'null');
  } catch {
    return null;
  }
}

function write(storage: Storage, key: string, value: unknown): void {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch {
    // A browser that keeps nothing asks again.
  }
}

// signOns is a list, the latest first: names of targets come from outside and are no keys of objects.
function signOns(): [string, SignOn][] {
  const list = read(localStorage, 'sign-on');
  if (!Array.isArray(list)) return [];
  return list.filter((e): e is [string, SignOn] => Array.isArray(e) && typeof e[0] === 'string' && typeof e[1]?.user === 'string' && methods.includes(e[1]?.method));
}

export function signOnOf(target: string): SignOn | undefined {
  return signOns().find(([name]) => name === target)?.[1];
}

export function rememberSignOn(target: string, { user, method }: SignOn): void {
  write(localStorage, 'sign-on', [[target, { user, method }], ...signOns().filter(([name]) => name !== target)].slice(0, mostTargets));
}

export interface Looks {
  fontSize: number;
  reader: boolean;
}

export function looks(usual: Looks): Looks {
  const kept = read(localStorage, 'terminal') as Partial<Looks> | null;
  return { fontSize: typeof kept?.fontSize === 'number' ? kept.fontSize : usual.fontSize, reader: kept?.reader === true };
}

export function rememberLooks(l: Looks): void {
  write(localStorage, 'terminal', l);
}

interface Held {
  target: string;
  program: string;
  session: string;
}

// heldSession is the session that this tab had before it was loaded anew.
export function heldSession(target: string, program: string): string | undefined {
  const held = read(sessionStorage, 'session') as Partial<Held> | null;
  return held?.target === target && held.program === program && /^[0-9a-f]{32}$/.test(held.session ?? '') ? held.session : undefined;
}

export function holdSession(held: Held): void {
  write(sessionStorage, 'session', held);
}

export function letSessionGo(): void {
  sessionStorage.removeItem('session');
}
