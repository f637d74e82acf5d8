// What the sign-in pages have kept for this tab: see script.js, which writes it.

const codeKey = 'sallyport-code'; // of a command that waits for its login to be confirmed
const nextKey = 'sallyport-next'; // where the person wanted to go

export function waitingCode(): boolean {
  return written(codeKey) !== '';
}

// written is what stands there, or '' where the browser does not say: without cookies nobody gets further, and is told so later.
function written(key: string): string {
  try {
    return sessionStorage.getItem(key) ?? '';
  } catch {
    return '';
  }
}

// takeNext is where the person goes on: to a page of this appliance, whatever has been written there.
export function takeNext(): string {
  const next = written(nextKey);
  if (!next.startsWith('/')) return '/';
  sessionStorage.removeItem(nextKey);
  const url = new URL(next, location.origin);
  return url.origin === location.origin ? url.pathname + url.search : '/';
}
