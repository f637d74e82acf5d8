// Pages with nothing in them, with a question, and with what did not work.
import { done, must, person, seen, settled, told, watch } from './browser.mjs';
import { signOn } from './shell.mjs';

const began = Date.now();

async function state(page, name, text) {
  await page.getByText(text).filter({ visible: true }).first().waitFor();
  await seen(page, name);
}

// ---- Who has not signed in.

const { page: stranger } = await person();
const says = async (path, name, text, fill = async () => {}) => {
  await stranger.goto(told.url + path);
  await fill();
  await state(stranger, name, text);
};
await says('/login', 'open-login-wrong', /do not|does not|not right|wrong/i, async () => {
  await stranger.getByLabel('User name').fill('ann');
  await stranger.getByLabel('Password').fill('no such password');
  await stranger.getByRole('button', { name: 'Sign in', exact: true }).click();
  await stranger.locator('.error:not([hidden])').waitFor();
});
await says('/login/device', 'open-device-unknown', /code/i, async () => {
  await stranger.getByLabel('Code').fill('AAAA-BBBB');
  await stranger.getByRole('button', { name: 'Continue' }).click();
  await stranger.locator('.error').waitFor();
});
await says('/setup#AAAA-BBBB-CCCC-DDDD', 'open-setup-unknown', /code/i, () => stranger.locator('.error').waitFor());
await says('/login/nobody?code=a&state=b', 'open-again', 'That did not work');
await says('/login/code', 'open-code-missing', 'This link has no code.');
await says('/guest', 'open-guest-cut', /This link is not whole/i);
await says('/guest#nonsense', 'open-guest-unknown', /link/i, () => stranger.locator('.error:not([hidden])').waitFor());

// ---- Who may do nothing.

const { page: zoe } = await person();
await zoe.goto(told.zoe);
await state(zoe, 'targets-none', 'You may use no target yet.');
for (const [path, text] of Object.entries({ '/sessions': 'You are connected to no target.', '/approvals': 'No request waits.', '/guests': 'You have no guest links.', '/admin/audit': 'This page is for administrators', '/admin/nowhere': 'There is no such page.' })) {
  await zoe.goto(told.url + path);
  await state(zoe, 'without-rights' + path.replaceAll('/', '-'), text);
}

// ---- Who may do everything.

const { page, context } = await person();
await page.goto(told.link);
await page.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();
await settled(page);
await page.locator('input[type=search]').fill('zzz');
await state(page, 'targets-nothing-fits', 'No target fits.');

await page.route('**/api/v1/targets', (route) => route.abort());
await page.reload();
await state(page, 'targets-away', 'Try again');
await page.unroute('**/api/v1/targets');
await page.getByRole('button', { name: 'Try again' }).click();
await page.getByRole('link', { name: 'db-1', exact: true }).waitFor();

// press goes to a page and presses a button there.
async function press(path, button) {
  await page.goto(told.url + path);
  await settled(page);
  await page.getByRole('button', { name: button }).first().click();
}

await press('/connect/vault', 'Ask for approval');
await state(page, 'connect-ask', 'Those who may agree see your name');
await press('/guests', 'New guest link');
await page.getByLabel('Target').fill('vault');
await page.getByRole('button', { name: 'Make the link' }).click();
await state(page, 'guests-refused', 'No rule or policy lets you share vault');
await page.keyboard.press('Escape');
await press('/approvals', 'Approve bob to vault');
await state(page, 'approvals-approve', 'For how long');
await page.getByRole('dialog').getByRole('button', { name: 'Approve' }).click();
await state(page, 'approvals-decided', 'Decided');
await press('/admin/accounts', 'New account');
await state(page, 'admin-accounts-new', 'You get a link for them');
await page.getByLabel('User name').fill('gil');
await page.getByRole('button', { name: 'Make the account' }).click();
await state(page, 'admin-accounts-made', 'Give this link to gil');
await press('/admin/accounts', 'Remove gil');
await state(page, 'admin-accounts-remove', 'This cannot be undone');
await press('/admin/devices', /^Revoke /);
await state(page, 'admin-devices-revoke', 'Its sessions end at once');
await page.keyboard.press('Escape');
await page.locator('input[type=search]').fill('zzz');
await state(page, 'admin-devices-none', 'No device fits.');
await press('/admin/locks', 'New lock');
await state(page, 'admin-locks-new', 'Why, which is told');
await page.keyboard.press('Escape');
await state(page, 'admin-locks-none', 'Nothing is locked.');
await page.goto(told.url + '/admin/audit');
await page.getByLabel('User').fill('nobody');
await page.getByRole('button', { name: 'Show', exact: true }).click();
await state(page, 'admin-audit-none', 'No event fits.');
await page.goto(told.url + '/admin/hostkeys');
await state(page, 'admin-hostkeys-none', 'No key is known yet.');
await page.goto(told.url + '/admin/sessions');
await state(page, 'admin-sessions-none', 'Nobody is connected to a target.');
await page.goto(told.url + '/admin/codes');
await page.getByLabel('User').fill('No Such Name');
await page.getByRole('button', { name: 'Make a code' }).click();
await page.getByRole('alert').waitFor();
await seen(page, 'admin-codes-wrong');

// ---- Programs that do not get to their target.

// A target that is not there: the session has a tab of its own, which fails, and the list says why in the meantime.
await page.goto(told.url + '/');
const closed = page.locator('.card').filter({ has: page.getByRole('link', { name: 'closed', exact: true }) });
await closed.getByText('not tried yet').waitFor();
await page.evaluate(() => sessionStorage.setItem('mine', 'alone'));
const [refused] = await Promise.all([context.waitForEvent('page'), closed.getByRole('link', { name: 'Terminal of closed' }).click()]);
watch(refused);
await signOn(refused, { expect: 'Ended' });
must((await refused.evaluate(() => sessionStorage.getItem('mine'))) === null, 'a session has what the tab before it has kept');
await seen(refused, 'terminal-refused');
await refused.close();
await page.bringToFront();
await page.evaluate(() => document.dispatchEvent(new Event('visibilitychange'))); // every page of this browser is seen always
await closed.getByText(/^Not reached .*refused/).waitFor();
await page.getByRole('heading', { name: 'Recent' }).waitFor();
must((await page.locator('section, ul').filter({ has: closed }).first().locator('.card').count()) === 1, 'what was not used is recent');
await seen(page, 'targets-not-reached');
await closed.getByRole('link', { name: 'closed', exact: true }).click();
await page.getByText('It could not be reached').waitFor();
await seen(page, 'connect-not-reached');
await page.goto(told.url + '/session/vault/terminal');
await signOn(page, { expect: '' });
await page.locator('.session .line').waitFor();
await seen(page, 'terminal-waiting');
await page.goto(told.url + '/files/closed');
await page.getByLabel(/^User on /).waitFor();
await seen(page, 'files-sign-on');
await page.getByLabel(/^User on /).fill('root');
await page.getByRole('button', { name: 'Show files' }).click();
await page.getByRole('alert').waitFor();
await seen(page, 'files-refused');
await page.goto(told.url + '/session/db-1/desktop');
await page.getByLabel('Password', { exact: true }).waitFor();
await seen(page, 'desktop-form');
await page.getByLabel('User').first().fill('ann');
await page.getByLabel('Password', { exact: true }).fill('any');
await page.getByRole('button', { name: 'Connect', exact: true }).click();
await page.getByRole('alert').waitFor();
await seen(page, 'desktop-refused');

await context.close();
await done(`states in ${((Date.now() - began) / 1000).toFixed(1)} s`);
