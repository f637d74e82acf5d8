// A browser with one person's pages, and what is asked of every page: that it breaks no policy, complains of nothing, has
// nothing that lies over or runs out of something, and that everybody can use it.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

export const told = JSON.parse(readFileSync(0, 'utf8'));

const faults = [];

// fault is something that is wrong. The script goes on, to find all of it.
export function fault(text) {
  if (faults.length < 200) faults.push(text);
}

export function must(ok, text) {
  if (!ok) fault(text);
}

const how = {
  executablePath: told.chromium,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-proxy-server', '--ignore-certificate-errors', `--host-resolver-rules=MAP ${new URL(told.url).hostname} ${told.address}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1`],
};

export const browser = await chromium.launch(how);

// person is a browser window of somebody's, with nothing of anybody else's: a private one, or if there is a folder for what it
// keeps, a usual one.
export async function person({ profile, ...options } = {}) {
  const window = { ignoreHTTPSErrors: true, viewport: { width: 1440, height: 900 }, ...options };
  const context = profile ? await chromium.launchPersistentContext(profile, { ...how, ...window }) : await browser.newContext(window);
  context.setDefaultTimeout(60_000);
  await context.addInitScript(() => {
    window.broken = [];
    document.addEventListener('securitypolicyviolation', (e) => window.broken.push(`${e.violatedDirective} ${e.blockedURI} ${e.sample}`));
  });
  const page = await context.newPage();
  watch(page);
  return { context, page };
}

// What a page must not say on its console; the browser itself says there that a request was refused, or has not got through.
const expected = /Failed to load resource: (the server responded with a status of (400|401|403|404|409)|net::ERR_(FAILED|SOCKET_NOT_CONNECTED|CONNECTION_\w+))|WebSocket connection to .* failed/;

// asked is what a dialog of the browser's says that is expected, and is answered with no.
let asking;
export const asked = () => new Promise((resolve) => (asking = resolve));

export function watch(page) {
  page.on('console', (m) => {
    if (!page.url().startsWith(told.url)) return; // another's, such as an identity provider's
    if (m.type() === 'error' && !expected.test(m.text())) fault(`${page.url()} says on the console: ${m.text()}`);
  });
  page.on('pageerror', (e) => fault(`${page.url()} throws: ${e.stack ?? e}`));
  page.on('dialog', (d) => {
    if (d.type() === 'beforeunload') return d.accept(); // of a page with a session
    if (asking) {
      asking(d.message());
      asking = undefined;
      return d.dismiss();
    }
    fault(`${page.url()} opens a dialog of the browser's: ${d.message()}`);
    void d.dismiss();
  });
}

// sound is asked at the end of a page's life.
export async function sound(page) {
  const broken = await page.evaluate(() => window.broken.splice(0));
  for (const b of broken) fault(`${page.url()} breaks its policy: ${b}`);
}

// settled waits until a page shows what it has to show.
export async function settled(page) {
  await page.locator('h1').first().waitFor();
  await page.waitForFunction(() => !document.querySelector('[aria-busy=true]'));
}

// fits finds what runs out of the window, text that runs out of its box, and what can be pressed and lies over something else
// that can.
export async function fits(page, what) {
  const wrong = await page.evaluate(() => {
    const found = [];
    const root = document.documentElement;
    if (root.scrollWidth > root.clientWidth) {
      const widest = [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > root.clientWidth + 1 && getComputedStyle(e).position !== 'absolute');
      found.push(`is ${root.scrollWidth} wide in ${root.clientWidth}: ${widest.slice(0, 3).map((e) => e.outerHTML.slice(0, 120)).join(' | ')}`);
    }
    const modal = document.querySelector('dialog:modal'); // which is over all the rest
    const boxes = [...(modal ?? document).querySelectorAll('a, button, input, select, textarea, summary')]
      .filter((e) => e.checkVisibility({ visibilityProperty: true }) && !e.closest('.unseen, .skip'))
      .flatMap((e) => [...e.getClientRects()].map((r) => ({ e, r })))
      .filter(({ r }) => r.width > 1 && r.height > 1);
    for (const [i, a] of boxes.entries()) {
      for (const b of boxes.slice(i + 1)) {
        if (a.e === b.e || a.e.contains(b.e) || b.e.contains(a.e)) continue;
        const w = Math.min(a.r.right, b.r.right) - Math.max(a.r.left, b.r.left);
        const h = Math.min(a.r.bottom, b.r.bottom) - Math.max(a.r.top, b.r.top);
        if (w > 1 && h > 1) found.push(`${a.e.outerHTML.slice(0, 100)} lies over ${b.e.outerHTML.slice(0, 100)}`);
      }
    }
    for (const { e, r } of boxes) {
      if (r.right > root.clientWidth + 1 || r.left < -1) found.push(`${e.outerHTML.slice(0, 100)} is outside of the window`);
    }
    for (const e of document.querySelectorAll('body *:not(.unseen, .skip, .xterm *)')) {
      const text = [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim() !== '');
      if (!text || !e.checkVisibility() || e.closest('.unseen, option') || getComputedStyle(e).display === 'inline') continue;
      const { textOverflow, overflowX } = getComputedStyle(e);
      if (e.scrollWidth > e.clientWidth + 1 && textOverflow !== 'ellipsis' && overflowX !== 'auto') found.push(`the text runs out of ${e.outerHTML.slice(0, 160)}`);
    }
    return found.slice(0, 5);
  });
  for (const w of wrong) fault(`${what}: ${w}`);
}

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

// usable asks axe what keeps somebody from using the page. It is given to the page by the browser, past the page's policy.
export async function usable(page, what) {
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(axe);
  const violations = await page.evaluate(async () => {
    const result = await window.axe.run(document, { resultTypes: ['violations'] });
    return result.violations.filter((v) => v.impact === 'serious' || v.impact === 'critical').map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 2).map((n) => `${n.html.slice(0, 160)} (${n.any[0]?.message ?? ''})`).join(' | ')}`);
  });
  for (const v of violations) fault(`${what}: ${v}`);
}

// picture keeps what a window shows, for people to look at, where they want that.
export async function picture(page, name, options = {}) {
  if (told.shots) await page.screenshot({ path: join(told.shots, name + '.png'), fullPage: true, animations: 'disabled', ...options });
}

// seen looks at what a window shows on a large screen, a small one and a phone, in the light and in the dark, without loading
// it anew.
export async function seen(page, name) {
  const before = page.viewportSize();
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const width of [1440, 1024, 390]) {
      await page.setViewportSize({ width, height: 900 });
      const what = `${name} at ${width} in ${scheme}`;
      await fits(page, what);
      if (width === 1440 || (width === 390 && scheme === 'light')) await usable(page, what); // colours are the same at all widths
      if (width !== 1024) await picture(page, `${name}-${width}-${scheme}`);
    }
  }
  await page.emulateMedia({ colorScheme: null });
  await page.setViewportSize(before);
  await sound(page);
}

process.on('uncaughtException', (err) => {
  for (const f of faults) console.log('FAULT ' + f);
  console.log(err.stack ?? err);
  process.exit(1);
});

// done ends the script: with what was wrong, if anything was.
export async function done(says) {
  await browser.close();
  console.log(says);
  for (const f of faults) console.log('FAULT ' + f);
  process.exit(faults.length > 0 ? 1 : 0);
}
