// Keys by their place on the keyboard, as scancodes of set 1: what the key means is the desktop's layout to say. Those that
// a keyboard sends behind 0xE0 have that in the high byte. Media and browser keys are left to the browser's own computer.

const e = (code: number): number => 0xe000 | code;

const rows: Record<string, number> = {
  Escape: 0x01, Backspace: 0x0e, Tab: 0x0f, Enter: 0x1c, Space: 0x39, CapsLock: 0x3a,
  ControlLeft: 0x1d, ShiftLeft: 0x2a, AltLeft: 0x38, MetaLeft: e(0x5b),
  ControlRight: e(0x1d), ShiftRight: 0x36, AltRight: e(0x38), MetaRight: e(0x5c), ContextMenu: e(0x5d),
  Backquote: 0x29, Minus: 0x0c, Equal: 0x0d, BracketLeft: 0x1a, BracketRight: 0x1b, Backslash: 0x2b,
  Semicolon: 0x27, Quote: 0x28, Comma: 0x33, Period: 0x34, Slash: 0x35,
  IntlBackslash: 0x56, IntlRo: 0x73, IntlYen: 0x7d, KanaMode: 0x70, Convert: 0x79, NonConvert: 0x7b, Lang1: 0x72, Lang2: 0x71, Lang3: 0x78, Lang4: 0x77,
  ArrowUp: e(0x48), ArrowLeft: e(0x4b), ArrowRight: e(0x4d), ArrowDown: e(0x50),
  Home: e(0x47), End: e(0x4f), PageUp: e(0x49), PageDown: e(0x51), Insert: e(0x52), Delete: e(0x53),
  PrintScreen: e(0x37), ScrollLock: 0x46, Pause: e(0x46), NumLock: 0x45,
  NumpadMultiply: 0x37, NumpadSubtract: 0x4a, NumpadAdd: 0x4e, NumpadDecimal: 0x53, NumpadDivide: e(0x35), NumpadEnter: e(0x1c), NumpadEqual: 0x59, NumpadComma: 0x7e,
  F11: 0x57, F12: 0x58, F24: 0x76,
};

// in a row: 'Digit1' is 2, and those after it follow.
function row(first: number, ...codes: string[]): void {
  for (const [i, code] of codes.entries()) rows[code] = first + i;
}

row(0x02, ...[...'1234567890'].map((d) => 'Digit' + d));
row(0x10, ...[...'QWERTYUIOP'].map((c) => 'Key' + c));
row(0x1e, ...[...'ASDFGHJKL'].map((c) => 'Key' + c));
row(0x2c, ...[...'ZXCVBNM'].map((c) => 'Key' + c));
row(0x3b, 'F1', 'F2', 'F3', 'F4', 'F5', 'F6', 'F7', 'F8', 'F9', 'F10');
row(0x64, 'F13', 'F14', 'F15', 'F16', 'F17', 'F18', 'F19', 'F20', 'F21', 'F22', 'F23');
row(0x47, 'Numpad7', 'Numpad8', 'Numpad9');
row(0x4b, 'Numpad4', 'Numpad5', 'Numpad6');
row(0x4f, 'Numpad1', 'Numpad2', 'Numpad3', 'Numpad0');

// scancode is that of a KeyboardEvent.code, unless the key stays with the browser.
export function scancode(code: string): number | undefined {
  return Object.hasOwn(rows, code) ? rows[code] : undefined;
}

// A Chord is keys that a person cannot press for the desktop alone, because their own computer takes them.
export interface Chord {
  name: string;
  keys: string[];
}

export const ctrlAltDelete: Chord = { name: 'Ctrl+Alt+Del', keys: ['ControlLeft', 'AltLeft', 'Delete'] };

export const chords: Chord[] = [
  ctrlAltDelete,
  { name: 'Windows key', keys: ['MetaLeft'] },
  { name: 'Windows+R', keys: ['MetaLeft', 'KeyR'] },
  { name: 'Windows+E', keys: ['MetaLeft', 'KeyE'] },
  { name: 'Windows+L', keys: ['MetaLeft', 'KeyL'] },
  { name: 'Alt+Tab', keys: ['AltLeft', 'Tab'] },
  { name: 'Alt+F4', keys: ['AltLeft', 'F4'] },
  { name: 'Ctrl+Esc', keys: ['ControlLeft', 'Escape'] },
  { name: 'Ctrl+Shift+Esc', keys: ['ControlLeft', 'ShiftLeft', 'Escape'] },
  { name: 'Ctrl+W', keys: ['ControlLeft', 'KeyW'] },
  { name: 'Print screen', keys: ['PrintScreen'] },
  { name: 'Alt+Print screen', keys: ['AltLeft', 'PrintScreen'] },
  { name: 'Pause', keys: ['Pause'] },
];
