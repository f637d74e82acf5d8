// The pages by the keyboard alone, and what a screen reader is told.
import { done, must, person, settled, sound, told } from './browser.mjs';

const { page } = await person();
await page.goto(told.link);
await page.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();
await settled(page);

const focused = () => page.evaluate(() => {
  const e = document.activeElement;
  return `${e.tagName.toLowerCase()} ${e.getAttribute('aria-label') ?? e.innerText ?? ''}`.trim();
});
// tab goes on until something has the focus; by Tab everything can be got to.
async function tab(text, most = 80) {
  for (let i = 0; i < most; i++) {
    await page.keyboard.press('Tab');
    if ((await focused()).includes(text)) return;
  }
  must(false, `Tab does not lead to ${text}; it is at ${await focused()}`);
}

await page.reload();
await settled(page);
await page.keyboard.press('Tab');
must((await focused()) === 'a Skip to the page', `the first stop is ${await focused()}`);
await page.keyboard.press('Enter');
await tab('input', 2);

// The search.
await page.evaluate(() => document.activeElement.blur());
await page.keyboard.press('/');
must(await page.evaluate(() => document.activeElement.type === 'search'), '/ does not lead to the search');
await page.keyboard.type('storage prod');
await page.getByRole('link', { name: 'db-1', exact: true }).waitFor();
await page.waitForFunction(() => document.querySelectorAll('.card').length === 1); // nothing but what fits
await page.getByRole('status').filter({ hasText: /^1 target$/ }).waitFor({ state: 'attached' }); // and that is told
await page.keyboard.press('/');
must((await page.locator('input[type=search]').inputValue()) === 'storage prod/', '/ cannot be typed into the search');

// A favourite stays over a visit.
await page.locator('input[type=search]').fill('');
await tab('db-2 is a favourite');
await page.keyboard.press('Space');
await page.getByRole('heading', { name: 'Favourites' }).waitFor();
await page.reload();
await page.getByRole('heading', { name: 'Favourites' }).waitFor();

// A link, a dialog, and the way back.
await tab('db-1');
await page.keyboard.press('Enter');
await page.getByRole('heading', { name: 'db-1', level: 1 }).waitFor();
must((await page.evaluate(() => document.activeElement.id)) === 'main', 'a new page does not have the focus');
must((await page.title()) === 'Connect · db-1 · bastion', `the title is ${await page.title()}`);
await page.goBack();
await page.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();

await page.goto(told.url + '/admin/sessions');
await settled(page);
await tab('End the session');
const opener = await focused();
await page.keyboard.press('Enter');
await page.getByRole('dialog', { name: 'End the session to db-1?' }).waitFor();
await page.keyboard.press('Escape');
await page.getByRole('dialog').waitFor({ state: 'detached' });
must((await focused()) === opener, `after the dialog the focus is at ${await focused()}`);

// Ending it for good, by keys, with a message.
await page.keyboard.press('Enter');
await page.getByRole('dialog').waitFor();
await page.keyboard.type('maintenance at noon');
await page.keyboard.press('Enter');
await page.getByText('Nobody is connected to a target.').waitFor();
await sound(page);
await done('by the keyboard');
