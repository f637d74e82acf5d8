// Prints what is wrong with Bicep files, as far as that can be seen without Azure: syntax, names that are not declared or
// not used, and properties that the resources do not have, lack, or have in another shape.
//
//   node check.mjs arm.json FILE.bicep…
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { basename } from 'node:path';
import { Parser, Language } from 'web-tree-sitter';

const [schemaFile, ...files] = process.argv.slice(2);
const schema = JSON.parse(readFileSync(schemaFile, 'utf8'));
const functions = 'base64 concat description empty items join loadTextContent map maxValue minValue newGuid replace resourceGroup resourceId secure string toLower union'.split(' ');

await Parser.init();
const parser = new Parser();
parser.setLanguage(await Language.load(fileURLToPath(import.meta.resolve('tree-sitter-bicep/tree-sitter-bicep.wasm'))));
for (const file of files) check(file);

function check(file) {
  const root = parser.parse(readFileSync(file, 'utf8')).rootNode;
  const fault = (node, text) => console.log(`${basename(file)}:${node.startPosition.row + 1}:${node.startPosition.column + 1}: ${text}`);
  if (root.hasError) {
    for (const node of broken(root)) fault(node, 'this is no Bicep');
    return;
  }
  const children = (node) => node.namedChildren.filter((c) => c.type !== 'comment');
  const text = (node) => node.text.replace(/^'|'$/g, '');

  // What is declared: the value of a variable, or null.
  const declared = {}, used = new Set();
  for (const node of children(root)) {
    const [name, ...rest] = children(node);
    if (['parameter_declaration', 'variable_declaration', 'resource_declaration'].includes(node.type)) {
      if (name.text in declared) fault(name, `${name.text} is declared twice`);
      declared[name.text] = node.type === 'variable_declaration' ? rest.at(-1) : null;
    }
  }
  for (const node of children(root)) {
    const [name, ...rest] = children(node);
    if (node.type.endsWith('_declaration')) rest.forEach((n) => names(n, []));
    else names(node, []);
    if (node.type !== 'resource_declaration') continue;
    const [type, version] = text(rest[0]).split('@');
    const of = schema.resources[type];
    if (!of) fault(rest[0], `the schema has no ${type}; extract it again`);
    else if (of !== version) fault(rest[0], `version ${version}, and the schema is that of ${of}`);
    else value(rest.at(-1), rest.at(-1).type === 'for_statement' ? '[]' + type : type);
  }
  for (const node of children(root)) {
    if (!['parameter_declaration', 'variable_declaration'].includes(node.type)) continue;
    const name = children(node)[0];
    if (!used.has(name.text)) fault(name, `${name.text} is not used`);
  }

  // names looks for what identifiers stand for; loop has the names of the loops and lambdas around.
  function names(node, loop) {
    if (node.type === 'identifier') {
      used.add(node.text);
      if (!(node.text in declared) && !loop.includes(node.text) && !functions.includes(node.text)) fault(node, `there is no ${node.text}`);
      return;
    }
    if (node.type === 'type') return;
    let inner = children(node);
    if (node.type === 'object_property' && inner[0].type === 'identifier') inner = inner.slice(1);
    if (node.type === 'lambda_expression') loop = [...loop, inner[0].text];
    if (node.type === 'for_statement') loop = [...loop, ...node.descendantsOfType(['loop_variable', 'loop_enumerator']).map((n) => n.text), ...bare(node)];
    for (const c of inner) names(c, loop);
  }

  // bare is the variable of "for x in …", which the grammar does not wrap.
  function bare(node) {
    const variable = node.childForFieldName('initializer');
    return variable ? [variable.text] : [];
  }

  // value checks a value against a type: "" is a plain one, "*" any, "[]T" a list, else a name of the schema.
  function value(node, type) {
    if (type === '*') return;
    switch (node.type) {
      case 'ternary_expression':
        value(node.childForFieldName('consequence'), type);
        value(node.childForFieldName('alternative'), type);
        return;
      case 'identifier':
        if (declared[node.text]) value(declared[node.text], type);
        return;
      case 'subscript_expression': { // of a variable: each of its values will do
        const of = declared[node.childForFieldName('object').text];
        if (of?.type === 'object') children(of).forEach((p) => value(children(p).at(-1), type));
        return;
      }
      case 'call_expression':
        if (['concat', 'union'].includes(children(node)[0].text)) children(children(node)[1]).forEach((a) => value(a, type));
        return;
      case 'member_expression': case 'null':
        return;
      case 'for_statement':
        if (!type.startsWith('[]')) fault(node, 'a list where none is wanted');
        else value(node.childForFieldName('body'), type.slice(2));
        return;
      case 'array':
        if (!type.startsWith('[]')) fault(node, 'a list where none is wanted');
        else children(node).forEach((c) => value(c, type.slice(2)));
        return;
      case 'object':
        if (type === '' || type.startsWith('[]')) fault(node, 'an object where none is wanted');
        else object(node, schema.types[type]);
        return;
      default:
        if (type !== '') fault(node, 'a plain value where none is wanted');
    }
  }

  function object(node, type) {
    const given = new Set();
    for (const property of children(node)) {
      const [key, inner] = children(property);
      const name = text(key);
      given.add(name);
      const of = type[name] ?? type[name + '!'];
      if (of === undefined) fault(key, `there is no property ${name}`);
      else value(inner, of);
    }
    for (const name of Object.keys(type)) {
      if (name.endsWith('!') && !given.has(name.slice(0, -1))) fault(node, `${name.slice(0, -1)} must be given`);
    }
  }
}

function broken(node) {
  if (node.isError || node.isMissing) return [node];
  return node.children.filter((c) => c.hasError).flatMap(broken);
}
