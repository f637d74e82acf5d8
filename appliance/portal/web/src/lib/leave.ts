// Logging out: the sign-in ends, and nothing of the person's stays in this browser.

import { api, post } from './api';

export async function leave(): Promise<void> {
  try {
    await api('POST', '/logout');
  } finally {
    await post('/login/leave', {});
    localStorage.clear();
    sessionStorage.clear();
    location.assign('/login');
  }
}
