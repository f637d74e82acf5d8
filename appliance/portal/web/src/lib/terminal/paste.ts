// Text from the clipboard on its way into a terminal.

// piece is the longest part of a paste that is sent in one message.
const piece = 192 << 10;

// mostPasted is the longest paste that is taken.
export const mostPasted = 8 << 20;

// pasted is what a program reads for a text: a line ends with a carriage return, as with the key. A text that would end the
// brackets of a paste itself could type commands after it, so escapes in it are left out.
export function pasted(text: string, bracketed: boolean): Uint8Array<ArrayBuffer> {
  const lines = text.replace(/\r?\n/g, '\r').replace(/\x1b/g, '');
  return new TextEncoder().encode(bracketed ? `\x1b[200~${lines}\x1b[201~` : lines);
}

export function* pieces(bytes: Uint8Array<ArrayBuffer>): Generator<Uint8Array<ArrayBuffer>> {
  for (let at = 0; at < bytes.length; at += piece) yield bytes.subarray(at, at + piece);
}

// linesOf counts the lines that a shell would run at once.
export function linesOf(text: string): number {
  return text.split(/\r?\n|\r/).length;
}
