// Logging out: the sign-in ends, and nothing of the person's stays in this browser.

import { forget } from './device';
import { away } from './files/away.svelte';

// leave does so as far as it can: what the appliance does not hear of ends there by itself.
export async function leave(everywhere = false): Promise<void> {
  if (away.all.some((w) => w.busy) && !confirm('Files are on their way, and do not all arrive if you log out now. Log out?')) return;
  for (const w of away.all) w.end();
  const tell = (path: string) => fetch(path, { method: 'POST' }).catch(() => undefined);
  await tell('/api/v1/logout' + (everywhere ? '?everywhere' : ''));
  await tell('/login/leave');
  await forget().catch(() => undefined);
  localStorage.clear();
  sessionStorage.clear();
  await import('./files/parts').then((m) => m.tidy(true)).catch(() => undefined); // of downloads
  location.assign('/login');
}
