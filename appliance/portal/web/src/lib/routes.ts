// The pages, by path. Those that a person does not see at once are loaded when they are.

import type { Component } from 'svelte';
import Targets from '../pages/Targets.svelte';

export interface PageProps {
  params: Record<string, string>;
  query: URLSearchParams;
}

// Each page takes PageProps; those that need nothing of them declare nothing.
type Page = Component<any>;

export interface Route {
  path: string; // with :names
  title: string;
  page?: Page;
  load?: () => Promise<{ default: Page }>; // the page, where it does not come with the application
  full?: true; // the page has the whole window
  open?: true; // for who has not signed in too
  admin?: true;
}

export const routes: Route[] = [
  { path: '/', title: 'Targets', page: Targets },
  { path: '/targets', title: 'Targets', page: Targets },
  { path: '/login/browser', title: 'Signing in', open: true, load: () => import('../pages/SignedIn.svelte') },
  { path: '/login/code', title: 'Signing in', open: true, load: () => import('../pages/SignedIn.svelte') },
  { path: '/connect/:name', title: 'Connect', load: () => import('../pages/Connect.svelte') },
  { path: '/session/:name/terminal', title: 'Terminal', full: true, load: () => import('../pages/Terminal.svelte') },
  { path: '/session/:name/desktop', title: 'Desktop', full: true, load: () => import('../pages/Desktop.svelte') },
  { path: '/files/:name', title: 'Files', load: () => import('../pages/Files.svelte') },
  { path: '/sessions', title: 'My sessions', load: () => import('../pages/Sessions.svelte') },
  { path: '/approvals', title: 'Approvals', load: () => import('../pages/Approvals.svelte') },
  { path: '/guests', title: 'Guest links', load: () => import('../pages/Guests.svelte') },
  { path: '/account', title: 'Account', load: () => import('../pages/Account.svelte') },
  { path: '/downloads', title: 'The command', load: () => import('../pages/Downloads.svelte') },
  { path: '/admin/sessions', title: 'Live sessions', admin: true, load: () => import('../pages/LiveSessions.svelte') },
  { path: '/admin/access', title: 'Access', admin: true, load: () => import('../pages/Access.svelte') },
  { path: '/admin/accounts', title: 'Accounts', admin: true, load: () => import('../pages/Accounts.svelte') },
  { path: '/admin/devices', title: 'Devices', admin: true, load: () => import('../pages/Devices.svelte') },
  { path: '/admin/codes', title: 'One-time codes', admin: true, load: () => import('../pages/Codes.svelte') },
  { path: '/admin/locks', title: 'Locks', admin: true, load: () => import('../pages/Locks.svelte') },
  { path: '/admin/hostkeys', title: 'Host keys', admin: true, load: () => import('../pages/HostKeys.svelte') },
  { path: '/admin/audit', title: 'Audit log', admin: true, load: () => import('../pages/Audit.svelte') },
  { path: '/admin/health', title: 'Health', admin: true, load: () => import('../pages/Health.svelte') },
  { path: '/admin/settings', title: 'Settings', admin: true, load: () => import('../pages/Settings.svelte') },
];

export interface Match {
  route: Route;
  params: Record<string, string>;
}

export function match(path: string): Match | undefined {
  const parts = path.replace(/(.)\/$/, '$1').split('/');
  for (const route of routes) {
    const params = fits(route.path.split('/'), parts);
    if (params) return { route, params };
  }
  return undefined;
}

function fits(wanted: string[], parts: string[]): Record<string, string> | undefined {
  if (wanted.length !== parts.length) return undefined;
  const params: Record<string, string> = {};
  for (const [i, want] of wanted.entries()) {
    const part = parts[i] ?? '';
    if (!want.startsWith(':')) {
      if (want !== part) return undefined;
      continue;
    }
    try {
      params[want.slice(1)] = decodeURIComponent(part);
    } catch {
      return undefined; // no text
    }
  }
  return params;
}
