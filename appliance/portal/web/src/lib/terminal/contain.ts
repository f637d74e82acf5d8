// What a target may not do to the page of who looks at it, whatever it sends. xterm.js reports neither titles nor the
// clipboard; here is the rest.

import type { Terminal } from '@xterm/xterm';

// mostRepeats is how often one sequence may do something over: no screen has so many lines or columns. mostWork is how often
// all that is written at once may, which is a fifth of a second. Beyond them a few bytes would keep the page busy for minutes.
const mostRepeats = 1000;
const mostWork = 20_000;

// Final characters of sequences that do something as often as they say: insert and delete lines, scroll, tabulate, repeat.
const repeating = ['L', 'M', 'S', 'T', 'I', 'Z', 'b', '@', 'P'];

// mostCopied is the longest text that a program may offer to the clipboard, in characters of base64.
const mostCopied = 1 << 20;

export interface Wishes {
  copy: (text: string) => void; // to the clipboard, by OSC 52
  title: (text: string) => void;
}

export interface Containment {
  refill: () => void; // before something is written
  end: () => void;
}

export function contain(terminal: Terminal, wishes: Wishes): Containment {
  let left = mostWork;
  const absurd = ([times]: (number | number[])[]) => {
    const n = typeof times === 'number' ? times : 1;
    return n > mostRepeats || (left -= n) < 0;
  };
  const handlers = [
    ...repeating.map((final) => terminal.parser.registerCsiHandler({ final }, absurd)),
    terminal.parser.registerOscHandler(52, (data) => {
      const text = offered(data);
      if (text !== undefined) wishes.copy(text);
      return true;
    }),
    terminal.onTitleChange((text) => wishes.title(plainTitle(text))),
  ];
  return { refill: () => (left = mostWork), end: () => handlers.forEach((h) => h.dispose()) };
}

// offered is the text that an OSC 52 wants in the clipboard. A question for what is in there has no answer.
function offered(data: string): string | undefined {
  const at = data.indexOf(';');
  const body = data.slice(at + 1);
  if (at < 0 || at > 16 || body === '' || body === '?' || body.length > mostCopied) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(atob(body), (c) => c.charCodeAt(0)));
  } catch {
    return undefined; // neither base64 nor text
  }
}

// plainTitle is what of a title can stand in one line beside the target's name, and cannot turn its letters around.
function plainTitle(text: string): string {
  return Array.from(text.replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu, ' ').replace(/\s+/g, ' ').trim()).slice(0, 80).join('');
}

// plainLink is the address of a link that may be opened: others than web pages are not.
export function plainLink(address: string): string | undefined {
  try {
    const url = new URL(address);
    return (url.protocol === 'https:' || url.protocol === 'http:') && url.href.length <= 2048 ? url.href : undefined;
  } catch {
    return undefined;
  }
}
