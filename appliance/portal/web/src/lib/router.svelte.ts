// Where in the application a person is: the path of the address, matched against routes.ts.

export const here = $state({ path: location.pathname, query: location.search });

export function go(to: string, replace = false): void {
  const url = new URL(to, location.origin);
  if (replace) history.replaceState(null, '', url.pathname + url.search);
  else history.pushState(null, '', url.pathname + url.search);
  look();
  scrollTo(0, 0);
}

function look(): void {
  here.path = location.pathname;
  here.query = location.search;
}

addEventListener('popstate', look);

// follow goes where a link of the application leads, without loading the page anew. What opens elsewhere is the browser's.
export function follow(event: MouseEvent, mine: (path: string) => boolean): void {
  if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const link = (event.target as Element | null)?.closest('a');
  if (!link || link.target || link.download || link.origin !== location.origin || !mine(link.pathname)) return;
  if (link.hash && link.pathname === location.pathname) return;
  event.preventDefault();
  go(link.pathname + link.search);
}

// signInAgain leaves for the sign-in page, which leads back.
export function signInAgain(): void {
  location.assign('/login?next=' + encodeURIComponent(location.pathname + location.search));
}
