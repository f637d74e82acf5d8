// Every page, at three widths, in the light and in the dark.
import { done, fits, must, person, picture, settled, sound, told, usable } from './browser.mjs';

const widths = [1440, 1024, 390];
const schemes = ['light', 'dark'];

const began = Date.now();
const { page } = await person();

// seen looks at what the window shows in all six ways, without loading it anew.
async function seen(name) {
  for (const scheme of schemes) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const width of widths) {
      await page.setViewportSize({ width, height: 900 });
      const what = `${name} at ${width} in ${scheme}`;
      await fits(page, what);
      if (width === 1440 || (width === 390 && scheme === 'light')) await usable(page, what); // colours are the same at all widths
      await picture(page, `${name}-${width}-${scheme}`);
    }
  }
  await sound(page);
}

for (const path of ['/login', '/login/device', '/setup']) {
  await page.goto(told.url + path);
  await seen('open' + path.replaceAll('/', '-'));
}

// A link of one use signs in, and leaves no trace of its code.
await page.goto(told.link);
await page.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();
must(!page.url().includes('#'), 'the code stays in the address');
must((await page.evaluate(() => JSON.stringify([localStorage, sessionStorage]))).includes(told.link.split('#')[1]) === false, 'the code stays in a storage');

for (const path of told.paths) {
  await page.goto(told.url + path);
  await settled(page);
  await seen(path === '/' ? 'targets' : path.slice(1).replaceAll('/', '-'));
}

// What is there only after somebody has done something.
await page.setViewportSize({ width: 1440, height: 900 });
await page.goto(told.url + '/admin/access');
await settled(page);
await page.getByLabel('User').fill('bob');
await page.getByRole('combobox', { name: 'Target' }).fill('office-pc');
await page.getByRole('button', { name: 'Explain' }).click();
await page.getByText('In full').waitFor();
await seen('admin-access-why');

await page.setViewportSize({ width: 1440, height: 900 });
await page.goto(told.url + '/admin/codes');
await page.getByLabel('User').fill('bob');
await page.getByRole('button', { name: 'Make a code' }).click();
await page.getByText('It is shown only now').waitFor();
await seen('admin-codes-made');

await page.setViewportSize({ width: 1440, height: 900 });
await page.goto(told.url + '/admin/sessions');
await page.getByRole('button', { name: /^End the session/ }).first().click();
await seen('admin-sessions-end');
await page.keyboard.press('Escape');

await page.setViewportSize({ width: 390, height: 844 });
await page.goto(told.url + '/');
await settled(page);
await page.getByRole('button', { name: 'Menu' }).click();
await fits(page, 'the menu');
await picture(page, 'menu-390');

// A desktop, in each of its states.
async function signOn(target, password) {
  await page.setViewportSize({ width: 1440, height: 900 });
  await page.getByRole('heading', { name: target, level: 1 }).waitFor();
  await page.getByLabel('User').fill(told.user);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.getByRole('button', { name: 'Connect', exact: true }).click();
}

await page.goto(`${told.url}/session/${told.desk}/desktop`);
await page.getByText('The appliance signs on for you').waitFor();
await seen('desktop-form');
await signOn(told.desk, 'not the password');
await page.getByText('does not accept this user and password').waitFor();
await seen('desktop-refused');
await signOn(told.desk, told.password);
await page.locator('.status', { hasText: 'Connected' }).waitFor();
await page.getByText('This desktop was never seen before').waitFor();
await seen('desktop-first');
await page.getByRole('button', { name: 'All right' }).click();
await seen('desktop');
for (const menu of ['Display', 'Keys', 'Clipboard']) {
  for (const [width, scheme] of [[1440, 'light'], [390, 'dark']]) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width, height: 900 });
    await page.locator('summary', { hasText: menu }).click();
    const what = `desktop-${menu.toLowerCase()}-${width}-${scheme}`;
    await usable(page, what);
    await picture(page, what);
    const { left, right } = await page.locator('details[open] .items').evaluate((e) => e.getBoundingClientRect().toJSON());
    must(left >= 0 && right <= width, `the menu ${menu} is outside of a window of ${width}`);
    await page.keyboard.press('Escape');
  }
}
await page.getByRole('button', { name: 'Disconnect' }).click();
await page.goto(`${told.url}/session/${told.silent}/desktop`);
await signOn(told.silent, told.password);
await page.getByRole('button', { name: 'Reconnect' }).waitFor();
await seen('desktop-ended');
await page.getByRole('button', { name: 'Reconnect' }).click();
await signOn(told.silent, told.password);
await page.getByText('Connecting to').waitFor();
await seen('desktop-connecting'); // until the appliance loses its patience

await page.goto(told.url + '/admin/nowhere');
await page.getByRole('heading', { name: 'Not found' }).waitFor();
await sound(page);

await done(`${told.paths.length + 4} pages in ${((Date.now() - began) / 1000).toFixed(1)} s`);
