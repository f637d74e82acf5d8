// What a browser keeps for the portal as text: for good, or for this tab. One that keeps nothing, or does not say, shows the
// same pages without.

type Where = 'localStorage' | 'sessionStorage';

// held is what is kept under a key, if it is what JSON is read from.
export function held(where: Where, key: string): unknown {
  try {
    return JSON.parse(window[where].getItem(key) ?? 'null');
  } catch {
    return null;
  }
}

// hold keeps a value in place of the one before; undefined takes that away.
export function hold(where: Where, key: string, value: unknown): void {
  try {
    if (value === undefined) window[where].removeItem(key);
    else window[where].setItem(key, JSON.stringify(value));
  } catch {
    // There is no place, or none for this page.
  }
}

// empty takes all away that is kept for good.
export function empty(): void {
  try {
    localStorage.clear();
  } catch {
    // There is nothing.
  }
}
