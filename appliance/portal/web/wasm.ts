// The npm package of the desktop's client has its program inline, as base64 in a string, and opens WebSockets of its own.
// Here the program becomes a file beside the others, which streams, is cached, and needs no data: in the pages' policy; and
// the client's WebSocket becomes ours, which rides on a flow (src/pages/desktop/socket.ts). It sends Blobs, whose bytes a
// browser gives out late: so those become ours too.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Plugin } from 'vite';

const client = /\/@devolutions\/iron-remote-desktop-rdp\/iron-remote-desktop-rdp\.js$/;
const inline = /"data:application\/wasm;base64,([A-Za-z0-9+/=]+)"/g;
const opens = /\bnew WebSocket\(/g;
const blobs = /\breturn new Blob\(/g;
const name = 'desktop.wasm'; // in the bundle; the file's name has a hash of what is in it

export function wasm(): Plugin {
  let socket = '';
  return {
    name: 'wasm',
    enforce: 'pre',
    apply: 'build',
    configResolved(config) {
      socket = join(config.root, 'src/pages/desktop/socket.ts');
    },
    load(id) {
      if (!client.test(id)) return null;
      const text = readFileSync(id, 'utf8');
      const program = only(text, inline);
      only(text, opens);
      only(text, blobs);
      const ref = this.emitFile({ type: 'asset', name, source: Buffer.from(program[1]!, 'base64') });
      const code = text
        .replace(program[0], () => `import.meta.ROLLUP_FILE_URL_${ref}`)
        .replace(opens, 'new Socket(')
        .replace(blobs, 'return new Parts(');
      return { code: `import { Parts, Socket } from ${JSON.stringify(socket)};\n` + code, map: null };
    },
  };
}

// only is the one match. Another version of the package may have none, or two: nobody shall find out in a browser.
function only(text: string, what: RegExp): RegExpMatchArray {
  const found = [...text.matchAll(what)];
  if (found.length !== 1) throw new Error(`the desktop's client has ${what} ${found.length} times, and not once`);
  return found[0]!;
}
