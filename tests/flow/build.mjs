// Makes one script of a test's page, or of its Node program, and of what of the portal's it imports.
import { rolldown } from 'rolldown';

const [input, file] = process.argv.slice(2);
const bundle = await rolldown({ input, platform: 'neutral', external: /^node:/, logLevel: 'warn' });
await bundle.write({ file, format: 'esm' });
await bundle.close();
