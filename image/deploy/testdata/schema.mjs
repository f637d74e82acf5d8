// Extracts from the bindings that are generated from the providers' schemas (npm's @cdktf/provider-azurerm, -aws and
// -google) what the templates' test needs to know: of each type that they use, its arguments, its nested blocks and what it
// exports.
//
//   npm pack @cdktf/provider-azurerm@14.23.1 …, unpacked as DIR/azurerm, DIR/aws and DIR/google
//   node schema.mjs DIR azurerm_lb azurerm_lb_rule data.aws_vpc … >schema.json
import { readFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';

const [dir, ...types] = process.argv.slice(2);
const result = { providers: {}, types: {} };

for (const type of types.sort()) {
  const data = type.startsWith('data.');
  const [, provider, rest] = /^(?:data\.)?([a-z]+)_(.+)$/.exec(type);
  const root = join(dir, provider);
  const folder = ['', 'data-' + provider + '-'].map((p) => join(root, 'lib', p + rest.replaceAll('_', '-')))[data ? 1 : 0];
  if (!existsSync(folder)) {
    console.error(`${provider} has no ${type}`);
    process.exit(1);
  }
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  result.providers[provider] ??= /provider version (\S+)/.exec(readme)[1];
  result.types[type] = extract(readFileSync(join(folder, 'index.js'), 'utf8'), readFileSync(join(folder, 'index.d.ts'), 'utf8'));
}
console.log(JSON.stringify(result, null, 1));

function extract(js, dts) {
  // What must be given: the interfaces' properties without a question mark.
  const properties = {};
  for (const [, name, body] of dts.matchAll(/export interface (\w+)[^{]*\{\n([\s\S]*?)\n\}/g)) {
    properties[name] = new Set([...body.matchAll(/^    readonly (\w+): /gm)].map((m) => m[1]));
  }
  const config = Object.keys(properties).find((n) => n.endsWith('Config') && new RegExp(`config(\\?)?: ${n}\\b`).test(dts));

  const functions = {};
  for (const [, name, body] of js.matchAll(/function (\w+)ToHclTerraform\(struct\) \{\n([\s\S]*?)\n\}\n/g)) {
    functions[name] = body;
  }
  const block = (body, must) => {
    const required = [], optional = [], blocks = {};
    for (const [, name, value, isBlock] of body.matchAll(
      /^ +(\w+): \{\n +value: (.*),\n +isBlock: (true|false),\n +type: "\w+",\n +storageClassType: "\w+",\n/gm)) {
      const property = /(?:struct\.|this\._)(\w+)/.exec(value)[1];
      const need = must?.has(property) ?? false;
      const inner = /(\w+)ToHclTerraform[,(]/.exec(value.replace(/cdktf\.listMapperHcl\(/, ''))?.[1];
      if (isBlock === 'true' && functions[inner]) {
        const struct = inner[0].toUpperCase() + inner.slice(1);
        blocks[name] = block(functions[inner], properties[struct]);
      } else if (!need) {
        optional.push(name);
        continue;
      }
      if (need) required.push(name);
    }
    return {
      required: required.sort().join(' '), optional: optional.sort().join(' '),
      ...(Object.keys(blocks).length ? { blocks } : {}),
    };
  };
  const main = js.slice(js.indexOf('    synthesizeHclAttributes() {'));
  const found = block(main.slice(0, main.indexOf('// remove undefined attributes')), properties[config]);

  // What others may refer to: what the main class reads back, which comes last in the file.
  const tail = js.slice(js.lastIndexOf('extends cdktf.Terraform'));
  const exports = [...tail.matchAll(/get\w*Attribute\('(\w+)'\)/g), ...tail.matchAll(/new \w+\(this, "(\w+)"/g)].map((m) => m[1]);
  return { ...found, exports: [...new Set(exports)].sort().join(' ') };
}
