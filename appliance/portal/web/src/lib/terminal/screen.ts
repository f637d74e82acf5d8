// The screen of a terminal: xterm.js with what it needs here.
//
//	const screen = new Screen(parent, { … });
//	await screen.write(bytes); // resolves when it has taken them
//
// Bytes are taken as fast as they are drawn, and not faster: who writes waits.

import '@xterm/xterm/css/xterm.css';
import { FitAddon } from '@xterm/addon-fit';
import { SearchAddon, type ISearchOptions } from '@xterm/addon-search';
import { Unicode11Addon } from '@xterm/addon-unicode11';
import { WebglAddon } from '@xterm/addon-webgl';
import { Terminal, type IDisposable } from '@xterm/xterm';
import { contain, plainLink, type Containment, type Wishes } from './contain';
import { strictly } from './document';
import { onTheme, theme } from './themes';

// scrollback is how many lines stay above the screen.
const scrollback = 10_000;

// piece is how much is given to xterm.js at once: the page answers in between.
const piece = 16 << 10;

export const fontSizes = { least: 8, most: 32, usual: 14 };

export interface ScreenEvents extends Wishes {
  typed: (text: string) => void;
  raw: (bytes: Uint8Array) => void; // reports of the mouse that are no text
  resized: (cols: number, rows: number) => void;
  link: (address: string) => void; // somebody has clicked on it
  found: (at: number, count: number) => void;
  key: (event: KeyboardEvent) => boolean; // false: the page has it
}

export class Screen {
  readonly terminal: Terminal;
  private readonly fit = new FitAddon();
  private readonly search = new SearchAddon();
  private readonly watch: ResizeObserver;
  private readonly contained: Containment;
  private readonly ends: (() => void)[] = [];

  constructor(parent: HTMLElement, events: ScreenEvents, options: { fontSize: number; reader: boolean }) {
    this.ends.push(strictly());
    const t = new Terminal({
      allowProposedApi: true, // of unicode11 and search
      scrollback,
      fontSize: options.fontSize,
      fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace',
      screenReaderMode: options.reader,
      cursorBlink: !matchMedia('(prefers-reduced-motion: reduce)').matches,
      minimumContrastRatio: 4.5,
      macOptionIsMeta: true,
      theme: theme(),
      linkHandler: {
        activate: (event, address) => {
          event.preventDefault();
          const plain = plainLink(address);
          if (plain) events.link(plain);
        },
      },
    });
    this.terminal = t;
    t.loadAddon(this.fit);
    t.loadAddon(this.search);
    t.loadAddon(new Unicode11Addon());
    t.unicode.activeVersion = '11';
    this.contained = contain(t, events);
    const kept: IDisposable[] = [
      t.onData(events.typed),
      t.onBinary((text) => events.raw(Uint8Array.from(text, (c) => c.charCodeAt(0) & 255))),
      t.onResize(({ cols, rows }) => events.resized(cols, rows)),
      this.search.onDidChangeResults(({ resultIndex, resultCount }) => events.found(resultIndex, resultCount)),
    ];
    t.attachCustomKeyEventHandler(events.key);
    t.open(parent);
    this.quicken();
    this.fit.fit();
    this.watch = new ResizeObserver(() => this.fit.fit());
    this.watch.observe(parent);
    this.ends.push(
      onTheme(() => (t.options.theme = theme())),
      () => kept.forEach((k) => k.dispose()),
      this.contained.end,
    );
  }

  // quicken draws by WebGL where there is one; without, and when it is lost, xterm.js draws by the DOM.
  private quicken(): void {
    try {
      const webgl = new WebglAddon();
      webgl.onContextLoss(() => webgl.dispose());
      this.terminal.loadAddon(webgl);
    } catch {
      // This browser has none.
    }
  }

  get cols(): number {
    return this.terminal.cols;
  }

  get rows(): number {
    return this.terminal.rows;
  }

  // bracketed says whether the program at the other end tells a paste from typing.
  get bracketed(): boolean {
    return this.terminal.modes.bracketedPasteMode;
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += piece) {
      const part = bytes.subarray(at, at + piece);
      this.contained.refill();
      await new Promise<void>((resolve) => this.terminal.write(part, resolve));
    }
  }

  // clear is for a screen that is painted anew. A reset does not bring back a cursor that a program has hidden.
  clear(): void {
    this.terminal.reset();
    this.terminal.write('\x1b[?25h');
  }

  selection(): string {
    return this.terminal.getSelection();
  }

  selectAll(): void {
    this.terminal.selectAll();
  }

  find(text: string, back: boolean): void {
    const options: ISearchOptions = {
      decorations: { matchBackground: '#8a6d1f', activeMatchBackground: '#c98a00', matchOverviewRuler: '#8a6d1f', activeMatchColorOverviewRuler: '#c98a00' },
    };
    if (text === '') this.search.clearDecorations();
    else if (back) this.search.findPrevious(text, options);
    else this.search.findNext(text, { ...options, incremental: false });
  }

  endFind(): void {
    this.search.clearDecorations();
    this.terminal.clearSelection();
  }

  fontSize(size: number): void {
    this.terminal.options.fontSize = size;
    this.fit.fit();
  }

  reader(on: boolean): void {
    this.terminal.options.screenReaderMode = on;
  }

  // readOnly is for a session that is over: its text stays.
  readOnly(on: boolean): void {
    this.terminal.options.disableStdin = on;
  }

  // input is what a key of the page's own types. Programs may want the arrows in another form.
  input(text: string): void {
    const arrow = /^\x1b\[([A-D])$/.exec(text);
    this.terminal.input(arrow && this.terminal.modes.applicationCursorKeysMode ? '\x1bO' + arrow[1] : text);
  }

  focus(): void {
    this.terminal.focus();
  }

  dispose(): void {
    this.watch.disconnect();
    this.terminal.dispose();
    this.ends.forEach((end) => end());
  }
}
