// Signing in at an identity provider.
import { done, must, person, sound, told } from './browser.mjs';

const { page } = await person();
await page.goto(told.url + '/connect/db-1');
await page.getByRole('button', { name: 'Sign in with corp' }).click();
await page.locator('input[name=login]').fill('ann');
must(page.url().startsWith(told.issuer), `the provider is at ${page.url()}`);
await page.locator('input[name=password]').fill('any');
await page.locator('button[type=submit]').click();
await page.getByRole('button', { name: 'Continue' }).click(); // consent
await page.getByRole('heading', { name: 'db-1', level: 1 }).waitFor();
must(page.url() === told.url + '/connect/db-1', `after the sign-in the browser is at ${page.url()}`);
must(await page.getByText('Open terminal').isVisible(), 'ann may not open a terminal');
await sound(page);
await done('signed in at the provider');
