// Text from the clipboard on its way into a terminal. What a program reads of it, the appliance makes: it writes down what was
// pasted, and has it as it was.

// piece is the longest part of a paste that is sent in one message.
const piece = 192 << 10;

// mostPasted is the longest paste that the appliance takes, in bytes.
export const mostPasted = 4 << 20;

// tooLong says whether a text is longer than what is taken.
export function tooLong(text: string): boolean {
  return text.length > mostPasted || new TextEncoder().encode(text).length > mostPasted;
}

export function* pieces(text: string): Generator<Uint8Array<ArrayBuffer>> {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length; at += piece) yield bytes.subarray(at, at + piece);
}

// linesOf counts the lines that a shell would run at once.
export function linesOf(text: string): number {
  return text.split(/\r?\n|\r/).length;
}
