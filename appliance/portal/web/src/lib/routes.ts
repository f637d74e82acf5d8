// The pages, by path. Those that a person does not see at once are loaded when they are.

import type { Component } from 'svelte';
import Targets from '../pages/Targets.svelte';

export interface PageProps {
  params: Record<string, string>;
  query: URLSearchParams;
}

type Page = Component<PageProps>;

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
