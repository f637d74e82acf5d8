// A terminal's page, as who sits before it has it.
import { fault, told } from './browser.mjs';

// signOn fills the form in and waits until something has come of it.
export async function signOn(page, { user = 'root', method = 'Certificate', button = 'Connect', expect = 'Connected' } = {}) {
  await page.getByLabel(/^User on /).fill(user);
  await page.getByRole('radio', { name: new RegExp('^' + method) }).check();
  await page.getByRole('button', { name: button, exact: true }).click();
  if (expect) await page.locator('.session .state', { hasText: expect }).waitFor();
}

export async function openTerminal(context, target, how = {}) {
  const page = await context.newPage();
  await page.goto(`${told.url}/session/${target}/terminal`);
  if (how !== null) await signOn(page, how);
  return page;
}

// rows is what stands on the screen, line by line, as screen readers are told.
export async function rows(page) {
  return page.evaluate(() => [...document.querySelectorAll('.xterm-accessibility-tree > div')].map((d) => d.innerText.replaceAll('\u00a0', ' ').trimEnd()));
}

export async function screen(page) {
  return (await rows(page)).join('\n');
}

// sees waits until something stands on the screen.
export async function sees(page, what, limit = 60_000) {
  const until = Date.now() + limit;
  for (;;) {
    const text = await screen(page);
    if (typeof what === 'string' ? text.includes(what) : what.test(text)) return text;
    if (Date.now() > until) throw new Error(`the screen does not show ${what}:\n${text}`);
    await page.waitForTimeout(30);
  }
}

// readable has the screen told to screen readers, and so to these tests.
export async function readable(page) {
  const button = page.getByRole('button', { name: 'Screen reader' });
  if ((await button.getAttribute('aria-pressed')) !== 'true') await button.click();
  await page.locator('.xterm-helper-textarea').focus();
}

export async function run(page, command) {
  await page.keyboard.type(command); // xterm.js takes no inserted text while it speaks to screen readers
  await page.keyboard.press('Enter');
}

// interrupt leaves the line that is being typed, and waits for another: a shell that is interrupted throws away what follows.
export async function interrupt(page, key = () => page.keyboard.press('Control+C')) {
  await key();
  await sees(page, /\^C[^]*lab\d*>\s*$/);
}

// fresh empties the screen and makes the prompt what these tests know. Each has its number: what screen readers are told comes
// a moment after what is drawn, and the prompt before would be taken for this one.
let prompts = 0;
export async function fresh(page) {
  prompts++;
  await page.locator('.xterm-helper-textarea').focus();
  await run(page, `cd; PS1='lab''${prompts}> '; stty -ixon; clear`);
  await sees(page, new RegExp(`^lab${prompts}>\\s*$`));
}

// all is the whole text of a terminal, by the clipboard.
export async function all(page) {
  await page.evaluate(() => navigator.clipboard.writeText('nothing yet'));
  await page.locator('.xterm-helper-textarea').focus();
  await page.keyboard.press('Control+Shift+A');
  await page.keyboard.press('Control+Shift+C');
  await page.waitForFunction(async () => (await navigator.clipboard.readText()) !== 'nothing yet');
  return page.evaluate(() => navigator.clipboard.readText());
}

export async function part(name, work) {
  const began = Date.now();
  try {
    const says = await work();
    console.log(`${name}: ${((Date.now() - began) / 1000).toFixed(1)} s${says ? ', ' + says : ''}`);
  } catch (err) {
    fault(`${name}: ${err.stack ?? err}`);
    console.log(`${name}: failed: ${err.message?.slice(0, 600) ?? err}`);
  }
}
