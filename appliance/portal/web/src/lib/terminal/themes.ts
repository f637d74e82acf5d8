// The colours of a terminal, by what the person's system prefers.

import type { ITheme } from '@xterm/xterm';

const dark: ITheme = {
  background: '#15181c',
  foreground: '#e6e9ed',
  cursor: '#7db2ff',
  cursorAccent: '#15181c',
  selectionBackground: '#33517d',
  black: '#2b3138',
  red: '#ff8a84',
  green: '#7fd59c',
  yellow: '#f0c27a',
  blue: '#7db2ff',
  magenta: '#d8a1f5',
  cyan: '#79d5df',
  white: '#d3d8de',
  brightBlack: '#8b96a3',
  brightRed: '#ffaba6',
  brightGreen: '#a4e8ba',
  brightYellow: '#ffdda3',
  brightBlue: '#a8ccff',
  brightMagenta: '#e9c6fb',
  brightCyan: '#a5eaf1',
  brightWhite: '#ffffff',
};

const light: ITheme = {
  background: '#ffffff',
  foreground: '#1b2026',
  cursor: '#1457b8',
  cursorAccent: '#ffffff',
  selectionBackground: '#bcd5f7',
  black: '#1b2026',
  red: '#a3141d',
  green: '#15703a',
  yellow: '#7a4a00',
  blue: '#1457b8',
  magenta: '#7a2b9c',
  cyan: '#0b6b78',
  white: '#56606b',
  brightBlack: '#56606b',
  brightRed: '#c4232d',
  brightGreen: '#1a8246',
  brightYellow: '#8f5a08',
  brightBlue: '#2a6fd4',
  brightMagenta: '#9340b8',
  brightCyan: '#127f8e',
  brightWhite: '#1b2026',
};

const prefersDark = matchMedia('(prefers-color-scheme: dark)');

export function theme(): ITheme {
  return prefersDark.matches ? dark : light;
}

// onTheme tells of a change; what it returns ends that.
export function onTheme(change: () => void): () => void {
  prefersDark.addEventListener('change', change);
  return () => prefersDark.removeEventListener('change', change);
}
