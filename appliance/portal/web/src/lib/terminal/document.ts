// xterm.js makes <style> elements and style attributes, which the policy of the pages forbids. The same can be said by style
// sheets that a script makes and by properties of style, which it allows. So while there is a terminal the document answers
// for elements that say it this way. xterm.js has an option for a document of its own, but parts of it take the window's.
//
//	const end = strictly();
//	terminal.open(parent);
//	…
//	end();

const plain = document.createElement.bind(document);

// styled sets the attribute style by its properties.
function styled(this: HTMLElement, name: string, value: string): void {
  if (name === 'style') this.style.cssText = value;
  else Element.prototype.setAttribute.call(this, name, value);
}

// sheetElement stands for a <style>: its text is a sheet of the document for as long as it is there.
function sheetElement(): HTMLElement {
  const sheet = new CSSStyleSheet();
  const element = plain('span');
  element.hidden = true;
  let text = '';
  Object.defineProperty(element, 'textContent', {
    get: () => text,
    set: (value: string) => {
      text = value;
      sheet.replaceSync(value);
      if (!document.adoptedStyleSheets.includes(sheet)) document.adoptedStyleSheets.push(sheet);
    },
  });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((s) => s !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}

function createElement(name: string, options?: ElementCreationOptions): HTMLElement {
  if (name === 'style') return sheetElement();
  const element = plain(name, options);
  if (name === 'span') element.setAttribute = styled;
  return element;
}

let terminals = 0;

export function strictly(): () => void {
  terminals++;
  document.createElement = createElement;
  return () => {
    if (--terminals === 0) Reflect.deleteProperty(document, 'createElement');
  };
}
