import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants } from 'node:zlib';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';
import { notices } from './notices.ts';
import { wasm } from './wasm.ts';

// Compressed once, here: the appliance sends what lies beside a file as it is, and compresses nothing itself.
function precompressed(): Plugin {
  let dir = '';
  return {
    name: 'precompressed',
    apply: 'build',
    configResolved(config) {
      dir = join(config.root, config.build.outDir, config.build.assetsDir);
    },
    closeBundle() {
      for (const name of readdirSync(dir)) {
        if (!/\.(js|css|svg|wasm)$/.test(name)) continue;
        const data = readFileSync(join(dir, name));
        const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: data.length };
        const small = brotliCompressSync(data, { params });
        if (small.length >= data.length) continue;
        writeFileSync(join(dir, name + '.br'), small);
        if (name.endsWith('.wasm')) rmSync(join(dir, name)); // what has WebAssembly has brotli, and the file is large
      }
    },
  };
}

const noted = notices();

// What is built is committed, so it depends on the sources alone: names are hashes of what is in the files, and nothing has
// a time or a path of the computer that built it.
export default defineConfig({
  plugins: [wasm(), svelte(), precompressed(), noted.page],
  worker: { plugins: () => [noted.worker] },
  build: {
    target: 'es2023',
    assetsInlineLimit: 0, // the policy of the pages has no data: for scripts or styles
    modulePreload: { polyfill: false },
    sourcemap: false,
    reportCompressedSize: false,
    emptyOutDir: true,
  },
});
