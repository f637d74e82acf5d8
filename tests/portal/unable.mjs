// What a person sees where a browser, or what is between, keeps the portal from working: a sentence that says what to do, and
// no page that is blank or waits for ever. What these pages say on the console is the browser's trouble.
import { browser, must, picture, told } from './browser.mjs';

// fresh is a page of a browser to which something has been done.
async function fresh(harm, options = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1024, height: 700 }, ...options });
  context.setDefaultTimeout(20_000);
  if (harm) await context.addInitScript(harm);
  return context.newPage();
}

const harms = [
  ['This browser keeps no cookies for this page.', () => Object.defineProperty(Navigator.prototype, 'cookieEnabled', { get: () => false })],
  [
    'This browser keeps nothing for this page.',
    () => {
      IDBFactory.prototype.open = () => {
        throw new DOMException('The operation is insecure.', 'SecurityError');
      };
    },
  ],
  [
    'This browser keeps nothing for this page.',
    () => {
      IDBObjectStore.prototype.put = () => {
        throw new DOMException('The object could not be cloned.', 'DataCloneError');
      };
    },
  ],
  [
    'This browser is too old to make the keys that it needs.',
    () => {
      const generateKey = SubtleCrypto.prototype.generateKey;
      SubtleCrypto.prototype.generateKey = function (algorithm, ...rest) {
        return algorithm === 'X25519' ? Promise.reject(new DOMException('Unrecognized name.', 'NotSupportedError')) : generateKey.call(this, algorithm, ...rest);
      };
    },
  ],
  [
    'This browser keeps no cookies for this page.', // nor what a page keeps otherwise
    () => {
      Object.defineProperty(Navigator.prototype, 'cookieEnabled', { get: () => false });
      for (const name of ['localStorage', 'sessionStorage'])
        Object.defineProperty(window, name, {
          get() {
            throw new DOMException('Access is denied for this document.', 'SecurityError');
          },
        });
    },
  ],
];

// unableToSignIn is tried with a link that works once: it works afterwards.
export async function unableToSignIn(link) {
  for (const [says, harm] of harms) {
    const page = await fresh(harm);
    await page.goto(link);
    await page.getByText(says).waitFor();
    must(await page.getByRole('link', { name: 'Sign in' }).isVisible(), `${says} has no way on`);
    await page.context().close();
  }
  const page = await fresh(undefined, { javaScriptEnabled: false });
  await page.goto(link);
  await page.locator('p.no-script').waitFor();
  await page.context().close();
}

// unableToLoad is tried by who has signed in: parts of the application do not come, since they are another version's by now.
export async function unableToLoad(state) {
  const page = await fresh(undefined, { storageState: state });
  const gone = (route) => route.fulfill({ status: 404, body: '404 page not found' });
  await page.route('**/assets/Health-*.js', gone);
  await page.goto(told.url + '/admin/health');
  await page.getByText('the appliance may have a new version').waitFor();
  await page.unroute('**/assets/Health-*.js');
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.getByRole('heading', { name: 'Health', level: 1 }).waitFor();

  await page.route('**/assets/index-*.js', gone);
  await page.goto(told.url + '/');
  await page.getByText('This page has not started').waitFor();
  await picture(page, 'not-started');
  await page.unroute('**/assets/index-*.js');
  await page.getByRole('link', { name: 'load the page again' }).click();
  await page.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();

  // The sign-in of a tab that was left open is over.
  await page.context().clearCookies();
  await page.getByRole('link', { name: 'My sessions' }).click();
  await page.waitForURL('**/login?next=%2Fsessions');
  await page.context().close();
}
