// Every page, at three widths, in the light and in the dark.
import { createHash } from 'node:crypto';
import { createReadStream, readFileSync } from 'node:fs';
import { done, fits, must, person, picture, seen, settled, sound, told } from './browser.mjs';
import { unableToLoad, unableToSignIn } from './unable.mjs';

const began = Date.now();
const { context, page } = await person();

for (const path of ['/login', '/login/device', '/setup']) {
  await page.goto(told.url + path);
  await seen(page, 'open' + path.replaceAll('/', '-'));
}

await unableToSignIn(told.link);

// A link of one use signs in, and leaves no trace of its code.
await page.goto(told.link);
await page.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();
must(!page.url().includes('#'), 'the code stays in the address');
must((await page.evaluate(() => JSON.stringify([localStorage, sessionStorage]))).includes(told.link.split('#')[1]) === false, 'the code stays in a storage');

for (const path of told.paths) {
  await page.goto(told.url + path);
  await settled(page);
  await seen(page, path === '/' ? 'targets' : path.slice(1).replaceAll('/', '-'));
}

// The command for this computer, with the hash that the page shows.
await page.setViewportSize({ width: 1440, height: 900 });
await page.goto(told.url + '/downloads');
await page.getByRole('heading', { name: 'For this computer' }).waitFor();
must((await page.getByRole('link', { name: /^Download / }).count()) === 3, 'not all files are offered');
const [file] = await Promise.all([page.waitForEvent('download'), page.locator('a.button:not(.plain)', { hasText: 'Download 1.2.3' }).click()]);
must(file.suggestedFilename() === 'sallyport-1.2.3-linux-amd64.tar.gz', `${file.suggestedFilename()} is for this computer`);
const hash = createHash('sha256');
for await (const piece of createReadStream(await file.path())) hash.update(piece);
const sum = hash.digest('hex');
must(sum === told.sum, `what was downloaded has the hash ${sum}`);
await page.getByText(`echo '${sum}  sallyport-1.2.3-linux-amd64.tar.gz' | sha256sum --check`).waitFor();
await page.route('**/api/v1/clients', (route) => route.fulfill({ json: [] }));
await page.reload();
await page.getByText('sallyport admin clients put bin/release').waitFor();
await seen(page, 'downloads-none');
await page.unroute('**/api/v1/clients');

// What is there only after somebody has done something.
await page.goto(told.url + '/admin/access');
await settled(page);
await page.getByLabel('User').fill('bob');
await page.getByRole('combobox', { name: 'Target' }).fill('office-pc');
await page.getByRole('button', { name: 'Explain' }).click();
await page.getByText('In full').waitFor();
await seen(page, 'admin-access-why');
await page.getByLabel('Search rules and policies').fill('forbid vault');
await page.getByText('No rule or policy fits.').waitFor();
await page.getByLabel('Search rules and policies').fill('secrets vault');
await page.getByLabel('Search targets').fill('10.99.0.13 secret');
await page.getByRole('cell', { name: 'vault', exact: true }).waitFor();
await seen(page, 'admin-access-searched');

await page.goto(told.url + '/connect/db-1');
await page.locator('section', { hasText: 'Remote desktop' }).getByRole('link', { name: 'Share' }).click();
await page.getByLabel('Who opens it must').check();
await page.getByLabel(/^Group of which/).fill('dba');
await seen(page, 'guests-new');
await page.getByRole('button', { name: 'Make the link' }).click();
await page.getByText('This link is shown only now.').waitFor();
await page.waitForURL(told.url + '/guests'); // which asks for no link when it is loaded again
await page.getByRole('cell', { name: 'sign-in, a yes of dba' }).waitFor();
must((await page.locator('tbody').innerText()).includes('remote desktop'), 'the link is for another protocol than was asked for');
await page.getByLabel("Everybody's").check();
await page.getByRole('columnheader', { name: 'Of' }).waitFor();
await seen(page, 'guests');
await page.getByRole('button', { name: /^Revoke the link/ }).click();
await seen(page, 'guests-revoke');
await page.getByRole('dialog').getByRole('button', { name: 'Revoke for good' }).click();
await page.getByText(/^Revoked /).waitFor();

await page.goto(told.url + '/admin/codes');
await page.getByLabel('User').fill('bob');
await page.getByRole('button', { name: 'Make a code' }).click();
await page.getByText('It is shown only now').waitFor();
await seen(page, 'admin-codes-made');

// Numbers that move while bytes flow.
await page.goto(told.url + '/admin/sessions');
const moved = page.locator('td[data-label="From the target"]').first();
await moved.waitFor();
const [before] = (await moved.innerText()).split('\n');
await page.waitForFunction((before) => {
  const [now, rate] = document.querySelector('td[data-label="From the target"]').innerText.split('\n');
  return now !== before && rate !== '0 bit/s';
}, before);

// A line for somebody who has a session by the command: pages_test.go looks for it there.
await page.locator('tr', { hasText: 'bob' }).getByRole('button', { name: /^Message to the session/ }).click();
await seen(page, 'admin-sessions-message');
await page.getByRole('textbox', { name: 'Message' }).fill(told.message);
await page.getByRole('button', { name: 'Send' }).click();
await page.getByRole('dialog').waitFor({ state: 'detached' });

await page.getByRole('button', { name: /^End the session/ }).first().click();
await seen(page, 'admin-sessions-end');
await page.keyboard.press('Escape');

// What is exported is what is shown, and not what stands in the form.
await page.goto(told.url + '/admin/audit');
await page.getByLabel('User').fill('ann');
await page.getByRole('button', { name: 'Show', exact: true }).click();
await page.getByText(/^\d+ events?, the latest first$/).waitFor();
await page.waitForFunction(() => [...document.querySelectorAll('td[data-label=User]')].every((d) => d.innerText === 'ann'));
await page.getByLabel('User').fill('nobody');
const [exported] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Export as CSV' }).click()]);
const trail = readFileSync(await exported.path(), 'utf8');
must(trail.startsWith('seq,time,event,') && trail.includes(',flow.open,ann,') && !trail.includes(',bob,') && /^audit-.*\.csv$/.test(exported.suggestedFilename()), `the export ${exported.suggestedFilename()} begins with ${trail.slice(0, 300)}`);
await sound(page);
await page.goto(told.url + '/admin/hostkeys');
await page.getByRole('button', { name: /^Confirm this key of/ }).first().click();
await seen(page, 'admin-hostkeys-confirm');
await page.keyboard.press('Escape');

await page.setViewportSize({ width: 390, height: 844 });
await page.goto(told.url + '/');
await settled(page);
await page.getByRole('button', { name: 'Menu' }).click();
await fits(page, 'the menu');
await picture(page, 'menu-390');

await sound(page);

await unableToLoad(await context.storageState());

await done(`${told.paths.length + 3} pages in ${((Date.now() - began) / 1000).toFixed(1)} s`);
