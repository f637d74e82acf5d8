// Who is signed in. Everything that is shown to a person alone hangs on it.

import { api } from './api';
import type { Me } from './types';

export const who = $state<{ me: Me | undefined; error: unknown }>({ me: undefined, error: undefined });

export async function meet(): Promise<void> {
  try {
    who.me = await api<Me>('GET', '/me');
    who.error = undefined;
  } catch (err) {
    who.error = err;
  }
}
