// Of which npm packages something is in the bundle: licenses.txt has their licences, which want to be passed on, packages.json
// their names, versions and hashes, for the bill of materials. A package that brings no licence has the one in licenses/ that
// its package.json names.

import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Plugin, Rollup } from 'vite';

interface Locked {
  version: string;
  integrity: string;
  license: string;
}

const isNotice = /^(licen[cs]e|copying|notice)([-._].*)?$/i;
const rule = '='.repeat(80);

function noticesIn(dir: string): [file: string, text: string][] {
  const files = readdirSync(dir).filter((f) => isNotice.test(f));
  return files.sort().map((f) => [f, readFileSync(join(dir, f), 'utf8').replaceAll('\r\n', '\n').trim()]);
}

// A worker is a bundle of its own, which is made first: its plugin notes what is in it.
export function notices(): { page: Plugin; worker: Plugin } {
  let root = '';
  const names = new Set<string>();
  const note = (bundle: Rollup.OutputBundle): void => {
    for (const part of Object.values(bundle)) {
      for (const id of part.type === 'chunk' ? part.moduleIds : []) {
        const name = /\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(id)?.[1];
        if (name) names.add(name);
      }
    }
  };
  const worker: Plugin = { name: 'notices-of-workers', apply: 'build', generateBundle: (_, bundle) => note(bundle) };
  const page: Plugin = {
    name: 'notices',
    apply: 'build',
    configResolved(config) {
      root = config.root;
    },
    generateBundle(_, bundle) {
      note(bundle);
      const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as { packages: Record<string, Locked> };
      const list = [...names].sort().map((name) => {
        const { version, integrity, license } = packages['node_modules/' + name]!;
        return { name, version, integrity, license };
      });
      const texts = list.flatMap(({ name, version }) => {
        const found = noticesIn(join(root, 'node_modules', name));
        const texts = found.length > 0 ? found : noticesIn(join(root, 'licenses', name)); // which must be there
        return texts.map(([file, text]) => `\n${rule}\n${name} ${version}, ${file}\n\n${text}\n`);
      });
      this.emitFile({ type: 'asset', fileName: 'licenses.txt', source: 'The portal consists of what follows, besides its own source.\n' + texts.join('') });
      this.emitFile({ type: 'asset', fileName: 'packages.json', source: JSON.stringify(list, null, 2) + '\n' });
    },
  };
  return { page, worker };
}
