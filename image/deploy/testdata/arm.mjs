// Extracts from Azure's own client libraries (npm's @azure/arm-compute and @azure/arm-network) what the test of the Bicep
// files needs to know: which properties each resource may have and must have, down to the leaves.
//
//   npm pack @azure/arm-compute@22.4.0 and @azure/arm-network@33.5.0, unpacked as DIR/compute and DIR/network
//   node arm.mjs DIR >arm.json
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const dir = process.argv[2];
const libraries = [
  ['compute', 'dist/esm/models', {
    'Microsoft.Compute/galleries': ['Gallery', '2024-03-03'],
    'Microsoft.Compute/galleries/images': ['GalleryImage', '2024-03-03'],
    'Microsoft.Compute/galleries/images/versions': ['GalleryImageVersion', '2024-03-03'],
    'Microsoft.Compute/virtualMachineScaleSets': ['VirtualMachineScaleSet', '2024-11-01'],
  }],
  ['network', 'dist-esm/src/models', {
    'Microsoft.Network/loadBalancers': ['LoadBalancer', '2024-05-01'],
    'Microsoft.Network/networkSecurityGroups': ['NetworkSecurityGroup', '2024-05-01'],
    'Microsoft.Network/publicIPAddresses': ['PublicIPAddress', '2024-05-01'],
  }],
];
// What belongs to the language or to the resource manager, and is in no model.
const common = { 'name!': '*', parent: '*', scope: '*', location: '*', tags: '*', zones: '*' };

const result = { resources: {}, types: {} };
for (const [library, models, resources] of libraries) {
  const mappers = await import(join(dir, library, models, 'mappers.js'));
  const byName = Object.fromEntries(Object.values(mappers).filter((m) => m.type?.className).map((m) => [m.type.className, m]));
  const parameters = readFileSync(join(dir, library, models, 'parameters.js'), 'utf8');

  const reference = (type) => {
    switch (type.name) {
      case 'Composite': return add(type.className);
      case 'Sequence': return '[]' + reference(type.element.type);
      case 'Dictionary': return '*'; // anything
      default: return ''; // text, a number, true or false
    }
  };
  // A property "properties.virtualMachineProfile" of a model lies in a nested object, which becomes a type of its own.
  const add = (className) => {
    const name = library + '.' + className;
    if (result.types[name]) return name;
    result.types[name] = {};
    for (const p of Object.values(byName[className].type.modelProperties)) {
      if (p.readOnly || !p.serializedName) continue;
      const path = p.serializedName.split('.');
      let at = name;
      while (path.length > 1) {
        const next = at + '.' + path[0];
        result.types[at][path.shift()] = next;
        result.types[at = next] ??= {};
      }
      result.types[at][path[0] + (p.required ? '!' : '')] = reference(p.type); // ! must be given
    }
    return name;
  };
  for (const [resource, [model, version]] of Object.entries(resources)) {
    if (!parameters.includes(`defaultValue: "${version}"`)) throw new Error(`${library} does not speak ${version}`);
    const type = { ...result.types[add(model)] };
    for (const [name, of] of Object.entries(common)) {
      if (!(name in type) && !(name + '!' in type)) type[name] = of;
    }
    result.types[resource] = type;
    result.resources[resource] = version;
  }
}
console.log(JSON.stringify(result, null, 1));
