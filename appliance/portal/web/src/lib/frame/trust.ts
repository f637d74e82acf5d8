// Whether an appliance is the one that it was: by the keys of a WELCOME whose signature is good. PROTOCOL.md §3.

import { refuse } from './errors';
import { same, type Bytes } from './keys';

// trusting is what the pins become: undefined, they stay. Another key than a pinned one is a hard stop.
export function trusting(pinned: Bytes[], keys: Bytes[]): Bytes[] | undefined {
  const known = (k: Bytes): boolean => pinned.some((p) => same(p, k));
  if (pinned.length === 0) return keys; // the first, on a connection whose certificate the browser has verified
  if (!known(keys[0]!))
    throw refuse(
      'E_APPLIANCE_CERT',
      'this is not the appliance that this browser signed in to: it has another identity key',
      "ask the appliance's administrator; if it was set up anew, sign in again",
    );
  if (!same(keys[0]!, pinned[0]!)) return keys; // a successor signs: the key before it is good no more
  const more = keys.slice(1).filter((k) => !known(k));
  return more.length > 0 ? [...pinned, ...more] : undefined;
}
