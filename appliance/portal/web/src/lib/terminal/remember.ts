// What this browser remembers of terminals: how a person signs on to a target, and how large letters are; never a secret.

import { held, hold } from '../storage';

export type Method = 'certificate' | 'password' | 'key';

export interface SignOn {
  user: string;
  method: Method;
}

const methods: readonly string[] = ['certificate', 'password', 'key'];
const mostTargets = 200;

// signOns is a list, the latest first: names of targets come from outside and are no keys of objects.
function signOns(): [string, SignOn][] {
  const list = held('localStorage', 'sign-on');
  if (!Array.isArray(list)) return [];
  return list.filter((e): e is [string, SignOn] => Array.isArray(e) && typeof e[0] === 'string' && typeof e[1]?.user === 'string' && methods.includes(e[1]?.method));
}

export function signOnOf(target: string): SignOn | undefined {
  return signOns().find(([name]) => name === target)?.[1];
}

export function rememberSignOn(target: string, { user, method }: SignOn): void {
  hold('localStorage', 'sign-on', [[target, { user, method }], ...signOns().filter(([name]) => name !== target)].slice(0, mostTargets));
}

export interface Looks {
  fontSize: number;
  reader: boolean;
}

export function looks(usual: Looks): Looks {
  const kept = held('localStorage', 'terminal') as Partial<Looks> | null;
  return { fontSize: typeof kept?.fontSize === 'number' ? kept.fontSize : usual.fontSize, reader: kept?.reader === true };
}

export function rememberLooks(l: Looks): void {
  hold('localStorage', 'terminal', l);
}
