// A desktop's page in each of its states: at three widths, in the light and in the dark. What is drawn in it is
// tests/portal/desktops' matter.
import { done, must, person, picture, seen, told, usable } from './browser.mjs';

const began = Date.now();
const { page } = await person();

async function signOn(password) {
  await page.setViewportSize({ width: 1440, height: 900 });
  await page.getByLabel('User').fill(told.user);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.getByRole('button', { name: 'Connect', exact: true }).click();
}

await page.goto(told.link);
await page.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();
await page.goto(`${told.url}/session/office-pc/desktop`);
await page.getByText('The appliance signs on for you').waitFor();
await seen(page, 'desktop-form');
await signOn(told.password);
await page.locator('.status', { hasText: 'Connected' }).waitFor();
await page.getByText('This desktop was never seen before').waitFor();
await seen(page, 'desktop-first');
await page.getByRole('button', { name: 'All right' }).click();
await seen(page, 'desktop');
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
await page.goto(`${told.url}/session/office-pc/desktop`);
await signOn('not the password');
await page.getByText('does not accept this user and password').waitFor();
await seen(page, 'desktop-refused');
await page.goto(`${told.url}/session/db-1/desktop`);
await signOn(told.password);
await page.getByRole('button', { name: 'Reconnect' }).waitFor();
await seen(page, 'desktop-ended');
await page.getByRole('button', { name: 'Reconnect' }).click();
await signOn(told.password);
await page.getByText('Connecting to').waitFor();
await seen(page, 'desktop-connecting'); // until the appliance loses its patience

await done(`a desktop's states in ${((Date.now() - began) / 1000).toFixed(1)} s`);
