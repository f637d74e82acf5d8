// Signing in at an identity provider.
import { done, must, person, seen, sound, told } from './browser.mjs';

async function signIn(page, path, login) {
  await page.goto(told.url + path);
  await page.getByRole('button', { name: 'Sign in with corp' }).click();
  await page.locator('input[name=login]').fill(login);
  must(page.url().startsWith(told.issuer), `the provider is at ${page.url()}`);
  await page.locator('input[name=password]').fill('any');
  await page.locator('button[type=submit]').click();
  await page.getByRole('button', { name: 'Continue' }).click(); // consent
}

const { page } = await person();
await page.goto(told.url + '/connect/db-1');
await seen(page, 'open-login-provider');
await signIn(page, '/connect/db-1', 'ann');
await page.getByRole('heading', { name: 'db-1', level: 1 }).waitFor();
must(page.url() === told.url + '/connect/db-1', `after the sign-in the browser is at ${page.url()}`);
await page.getByText('Open terminal').waitFor();
await sound(page);
await page.goto(told.url + '/account');
await page.getByText(`Your password and second step are kept by ${told.issuer}. Change them there.`).waitFor();
await sound(page);

// What a provider says of somebody is text, and no name of a person if it does not look like one.
const attack = '<img src=x onerror=pwned=1>';
for (const [login, path, shows] of [['eve', '/account', attack], [attack, '/login', 'That did not work']]) {
  const { page: other, context } = await person();
  await context.addInitScript(() => Object.defineProperty(window, 'pwned', { set: () => console.error('PWNED'), get: () => undefined }));
  await signIn(other, path, login);
  await other.getByText(shows).first().waitFor();
  must((await other.locator('img, script:not([src])').count()) === 0, `what the provider says of ${login} has become an element`);
  await sound(other);
  await context.close();
}
await done('signed in at the provider');
