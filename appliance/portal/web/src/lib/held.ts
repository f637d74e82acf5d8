// Which session this tab has with a target, for each program: it outlives the tab's document, so that who loads the page again, or
// comes back to it, finds it.

import { held, hold } from './storage';

export function heldSession(target: string, program: string): string | undefined {
  const session = held('sessionStorage', `${program} ${target}`);
  return typeof session === 'string' && /^[0-9a-f]{32}$/.test(session) ? session : undefined;
}

// holdSession keeps it; undefined lets it go.
export function holdSession(target: string, program: string, session: string | undefined): void {
  hold('sessionStorage', `${program} ${target}`, session);
}
