// Logging out: the sign-in ends, and nothing of the person's stays in this browser.

import { forget } from './device';

// leave does so as far as it can: what the appliance does not hear of ends there by itself.
export async function leave(everywhere = false): Promise<void> {
  const tell = (path: string) => fetch(path, { method: 'POST' }).catch(() => undefined);
  await tell('/api/v1/logout' + (everywhere ? '?everywhere' : ''));
  await tell('/login/leave');
  await forget().catch(() => undefined);
  localStorage.clear();
  sessionStorage.clear();
  await import('./files/parts').then((m) => m.tidy(true)).catch(() => undefined); // of downloads
  location.assign('/login');
}
