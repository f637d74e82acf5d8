// Signing in by every way that needs no other server, and leaving.
import { createHmac } from 'node:crypto';
import { done, fault, must, person, seen, settled, sound, told } from './browser.mjs';

const password = 'an owl in the attic of fay';

// oneTime is what an authenticator app shows.
function oneTime(secret, ahead = 0) {
  const bits = [...secret].map((c) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g).map((b) => parseInt(b, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + ahead));
  const hash = createHmac('sha1', key).update(counter).digest();
  const at = hash[19] & 15;
  return String((hash.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}

const { page, context } = await person();
const cdp = await context.newCDPSession(page);
await cdp.send('WebAuthn.enable');
const authenticator = (transport) => cdp.send('WebAuthn.addVirtualAuthenticator', { options: { protocol: 'ctap2', transport, hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } });
const computer = await authenticator('internal');

await page.goto(told.url + told.setup);
await page.getByText('Welcome, fay').waitFor();
const secret = await page.locator('.secret').innerText();
await page.getByRole('button', { name: 'Make a passkey' }).click();
await page.getByText('The passkey is made').waitFor();
await seen(page, 'open-setup-account');
await page.getByLabel('Password', { exact: true }).fill(password);
await page.getByLabel('Repeat the password').fill(password);
await page.getByLabel('Code that the app shows').fill(oneTime(secret));
await page.getByRole('button', { name: 'Finish' }).click();
await page.getByText('Your account is ready').waitFor();
await seen(page, 'open-setup-done');
const recovery = await page.locator('.recovery li').first().innerText();

const key = () => page.evaluate(() => new Promise((resolve) => {
  const opening = indexedDB.open('sallyport', 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore('device');
  opening.onsuccess = () => {
    const asked = opening.result.transaction('device').objectStore('device').get('key');
    asked.onsuccess = async () => {
      opening.result.close();
      const d = asked.result;
      if (!d) return resolve(null);
      const refused = await crypto.subtle.exportKey('pkcs8', d.privateKey).then(() => false, () => true);
      resolve({ id: d.id, user: d.user, extractable: d.privateKey.extractable, refused, publicKey: d.publicKey.length, identity: d.identity.map((k) => k.length) });
    };
  };
}));

// By password and one-time code, to where the person wanted to go.
await page.goto(told.url + '/connect/db-1?a=b');
await page.getByRole('heading', { name: 'Sign in' }).waitFor();
must(new URL(page.url()).searchParams.get('next') === '/connect/db-1?a=b', `the sign-in does not know the way back: ${page.url()}`);
await page.getByLabel('User name').fill('fay');
await page.getByLabel('Password').fill(password);
await page.getByRole('button', { name: 'Sign in', exact: true }).click();
await page.getByLabel('Code of your authenticator app').fill('000000');
await page.getByRole('button', { name: 'Continue' }).first().click();
await page.locator('.error:not([hidden])').waitFor();
await page.getByText('Use a recovery code').click();
await seen(page, 'open-factor-wrong');
await page.getByLabel('Code of your authenticator app').fill(oneTime(secret, 1));
await page.getByRole('button', { name: 'Continue' }).first().click();
await page.getByRole('heading', { name: 'db-1', level: 1 }).waitFor();
must(page.url() === told.url + '/connect/db-1?a=b', `after the sign-in the browser is at ${page.url()}`);
const first = await key();
must(first?.user === 'fay' && first.extractable === false && first.refused && first.publicKey === 32 && first.identity[0] === 32, `the key is ${JSON.stringify(first)}`);
await sound(page);

// A cookie alone keeps a person signed in, and script cannot read it.
const cookie = (await context.cookies()).find((c) => c.name === '__Host-sallyport-session');
must(cookie?.httpOnly && cookie.secure && cookie.sameSite === 'Strict' && cookie.path === '/' && cookie.expires > Date.now() / 1000 + 3600, `the cookie is ${JSON.stringify(cookie)}`);
must((await page.evaluate(() => document.cookie)) === '', 'script sees cookies');

// Leaving takes everything along.
await page.goto(told.url + '/');
await settled(page);
await page.getByRole('button', { name: 'db-1 is a favourite' }).click();
await page.getByRole('button', { name: 'Log out' }).click();
await page.getByRole('heading', { name: 'Sign in' }).waitFor();
must((await key()) === null, 'the key outlives the log-out');
must((await page.evaluate(() => localStorage.length + sessionStorage.length)) === 0, 'something is kept after the log-out');
must(!(await context.cookies()).some((c) => c.name === '__Host-sallyport-session'), 'the cookie outlives the log-out');
await context.addCookies([cookie]);
must((await page.evaluate(async () => (await fetch('/api/v1/me')).status)) === 401, 'a copy of the cookie is still good');
await context.clearCookies();

// By passkey, and with a next that leads elsewhere.
for (const next of ['//evil.example/', 'https://evil.example/', '/\\evil.example', 'javascript:alert(1)']) {
  await page.goto(told.url + '/login?next=' + encodeURIComponent(next));
  await page.getByRole('button', { name: 'Use a passkey' }).click();
  await page.getByRole('heading', { name: /Targets|Not found/, level: 1 }).waitFor();
  must(new URL(page.url()).origin === told.url, `${next} leads to ${page.url()}`);
}
const second = await key();
must(second?.user === 'fay' && second.id !== first?.id, `after the passkey the key is ${JSON.stringify(second)}`);
must((await page.evaluate(async () => (await fetch('/api/v1/devices')).status)) === 403, 'fay sees devices');
await page.goto(told.url + '/admin/devices');
await page.getByText('This page is for administrators').waitFor();

// Any page may send somebody here. Who is signed in stays so, unless they want to be somebody else.
for (const path of ['/login/browser', '/login/code', '/login/code#0000-0000-0000-0000']) {
  await page.goto('about:blank');
  await page.goto(told.url + path);
  await page.getByRole('heading', { name: /^(That did not work|You are signed in as fay)$/ }).waitFor();
  must((await page.evaluate(async () => (await fetch('/api/v1/me')).status)) === 200, `${path} has signed fay out`);
}
await page.getByRole('button', { name: 'Sign in by the link' }).click();
await page.getByText('That did not work').waitFor();
must((await page.evaluate(async () => (await fetch('/api/v1/me')).status)) === 200 && (await key())?.id === second?.id, 'a code that is none has signed fay out');
// A command that waits for its person, who says yes, or no.
for (const [button, says] of [['Yes, this is my device', 'goes on by itself'], ['No, I did not begin this', 'is not signed in']]) {
  const { code } = await page.evaluate(async () => {
    const key = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(32)))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
    return (await fetch('/api/v1/login', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ key, name: 'a laptop of fay', platform: 'linux/amd64' }) })).json();
  });
  await page.goto(told.url + '/login?next=/login/device');
  await page.getByRole('button', { name: 'Use a passkey' }).click();
  await page.getByLabel('Code').fill(code);
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByText('Is this your device?').waitFor();
  if (says.startsWith('goes')) await seen(page, 'open-device-confirm');
  await page.getByRole('button', { name: button }).click();
  await page.getByText(says).waitFor();
  await seen(page, says.startsWith('goes') ? 'open-device-done' : 'open-device-denied');
}

// A person changes what they sign in with, who has shown it once more.
const { page: elsewhere } = await person();
await elsewhere.goto(told.url + '/login');
await elsewhere.getByLabel('User name').fill('fay');
await elsewhere.getByLabel('Password').fill(password);
await elsewhere.getByRole('button', { name: 'Sign in', exact: true }).click();
await elsewhere.getByText('Use a recovery code').click();
await elsewhere.getByLabel('Recovery code').fill(recovery);
await elsewhere.getByRole('button', { name: 'Continue' }).last().click();
await elsewhere.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();
await page.goto(told.url + '/account');
await page.getByText('9 left').waitFor();
await settled(page);
await seen(page, 'account-local');
await context.clearCookies({ name: '__Host-sallyport-visit' }); // of what was denied, which is a proof too
await page.getByRole('link', { name: 'Change password, passkeys and codes' }).click();
await page.getByRole('heading', { name: 'Is it you?' }).waitFor();
must((await page.getByLabel('User name').inputValue()) === 'fay', 'it is not asked for fay');
await seen(page, 'open-account-proof');
await page.getByRole('button', { name: 'Use a passkey' }).click();
await page.getByRole('heading', { name: 'What you sign in with, fay' }).waitFor();
await page.evaluate(() => document.querySelectorAll('details').forEach((d) => (d.open = true)));
await seen(page, 'open-account');

const open = (section) => page.locator('h2 ~ details', { has: page.locator('summary', { hasText: new RegExp(`^${section}$`) }) }).evaluate((d) => (d.open = true));
const changed = 'a lynx on the roof of fay';
await open('Password');
await page.getByLabel('New password').fill(changed);
await page.getByLabel('Repeat the password').fill(changed);
await page.getByRole('button', { name: 'Change the password' }).click();
await page.getByText('Your password is changed. You are signed out everywhere else.').waitFor();
must((await page.evaluate(async () => (await fetch('/api/v1/me')).status)) === 200, 'fay is signed out here too');
await elsewhere.goto(told.url + '/sessions');
await elsewhere.getByRole('heading', { name: 'Sign in' }).waitFor();

await open('Another passkey');
await page.getByLabel('Name, to know it by').fill('Blue key');
await page.getByRole('button', { name: 'Make a passkey' }).click();
await page.getByText('there is a passkey of yours in it already').waitFor();
await cdp.send('WebAuthn.removeVirtualAuthenticator', computer);
await authenticator('usb');
await page.getByLabel('Name, to know it by').press('Enter');
await page.getByText('The passkey is added.').waitFor();

await open('Authenticator app');
await page.getByRole('button', { name: 'Show the secret' }).click();
const next = await page.locator('.secret').innerText();
await page.getByLabel('Code that the app shows').fill(oneTime(next));
await page.getByRole('button', { name: 'Use this app' }).click();
await page.getByText('Your authenticator app is set up.').waitFor();
await page.getByLabel('Remove Passkey', { exact: true }).click();
await page.getByRole('button', { name: 'Remove Passkey' }).click();
await page.getByText('The passkey is removed.').waitFor();
await open('Recovery codes');
await page.getByRole('button', { name: 'Make new codes' }).click();
await page.getByText('Those of before are worth nothing now.').waitFor();
must((await page.locator('.recovery li').count()) === 10, 'there are not ten new codes');
await seen(page, 'open-account-codes');
await page.getByRole('button', { name: 'Done' }).click();
await page.getByText('Blue key').waitFor();
await page.goto(told.url + '/login/account');
await page.getByRole('heading', { name: 'Is it you?' }).waitFor();

// What was before signs nobody in, and what is now does.
await elsewhere.getByLabel('User name').fill('fay');
await elsewhere.getByLabel('Password').fill(password);
await elsewhere.getByRole('button', { name: 'Sign in', exact: true }).click();
await elsewhere.locator('.error:not([hidden])').filter({ hasText: 'the password is wrong' }).waitFor();
await elsewhere.getByLabel('Password').fill(changed);
await elsewhere.getByRole('button', { name: 'Sign in', exact: true }).click();
await elsewhere.getByLabel('Code of your authenticator app').fill(oneTime(next, 1));
await elsewhere.getByRole('button', { name: 'Continue' }).first().click();
await elsewhere.getByRole('heading', { name: 'My sessions', level: 1 }).waitFor();
await page.goto(told.url + '/login?next=/targets');
await page.getByRole('button', { name: 'Use a passkey' }).click();
await page.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();
must((await key())?.user === 'fay', 'by the new passkey somebody else has come in');

// A link of one use is of one use, and one that is wrong says what to do.
await page.goto('about:blank'); // from the same path it would load nothing
await page.goto(told.link);
await page.getByRole('heading', { name: 'You are signed in as fay' }).waitFor();
await page.getByRole('button', { name: 'Sign in by the link' }).click();
await page.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();
await page.getByText('ann', { exact: true }).waitFor(); // whose link it is
const { page: late } = await person();
await late.goto(told.link);
await late.getByText('This enrolment code has been used.').waitFor();
await late.goto(told.url + '/login/code');
await late.getByText('This link has no code.').waitFor();

// Names of browsers, whatever they claim to be.
const names = {
  'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0': 'Edge on Windows',
  'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15': 'Safari on macOS',
  'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0': 'Firefox on Linux',
  'Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36': 'Chrome on Android',
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0.0.0 Safari/537.36': 'Chromium on Linux',
};
for (const [agent, name] of Object.entries(names)) {
  const { page: other } = await person({ userAgent: agent });
  await other.addInitScript(() => Object.defineProperty(navigator, 'userAgentData', { value: undefined }));
  let sent;
  await other.route('**/login/code', async (route) => {
    if (route.request().method() !== 'POST') return route.continue();
    sent = route.request().postDataJSON().name;
    await route.fulfill({ status: 403, json: { code: 'E_TEST', error: 'not now', hint: '' } });
  });
  await other.goto(told.url + '/login/code#0000-0000-0000-0000');
  await other.getByText('Not now.').waitFor();
  if (sent !== name) fault(`${agent} is called ${sent}`);
  await other.close();
}
await done('signed in by link, password and one-time code, and passkey');
