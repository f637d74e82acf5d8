// Every page, at three widths, in the light and in the dark.
import { done, fits, must, person, picture, seen, settled, sound, told } from './browser.mjs';

const began = Date.now();
const { page } = await person();

for (const path of ['/login', '/login/device', '/setup']) {
  await page.goto(told.url + path);
  await seen(page, 'open' + path.replaceAll('/', '-'));
}

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

// What is there only after somebody has done something.
await page.goto(told.url + '/admin/access');
await settled(page);
await page.getByLabel('User').fill('bob');
await page.getByRole('combobox', { name: 'Target' }).fill('office-pc');
await page.getByRole('button', { name: 'Explain' }).click();
await page.getByText('In full').waitFor();
await seen(page, 'admin-access-why');

await page.goto(told.url + '/admin/codes');
await page.getByLabel('User').fill('bob');
await page.getByRole('button', { name: 'Make a code' }).click();
await page.getByText('It is shown only now').waitFor();
await seen(page, 'admin-codes-made');

await page.goto(told.url + '/admin/sessions');
await page.getByRole('button', { name: /^End the session/ }).first().click();
await seen(page, 'admin-sessions-end');
await page.keyboard.press('Escape');

await page.setViewportSize({ width: 390, height: 844 });
await page.goto(told.url + '/');
await settled(page);
await page.getByRole('button', { name: 'Menu' }).click();
await fits(page, 'the menu');
await picture(page, 'menu-390');

await page.goto(told.url + '/admin/nowhere');
await page.getByRole('heading', { name: 'Not found' }).waitFor();
await sound(page);

await done(`${told.paths.length + 3} pages in ${((Date.now() - began) / 1000).toFixed(1)} s`);
