// A newcomer's first minute: the link that the demo has printed, a target, its terminal, a command. Nothing is filled in.
import { done, fault, fits, must, person, picture, seen, settled, sound, told, usable, watch } from './browser.mjs';
import { readable, run, sees } from './shell.mjs';

const { context, page: portal } = await person();
await portal.goto(told.link);
await portal.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();
await settled(portal);
must(!portal.url().includes('#'), 'the code stays in the address');
await picture(portal, 'first-targets', { fullPage: false });

const [page] = await Promise.all([context.waitForEvent('page'), portal.getByRole('link', { name: 'Terminal of demo-1' }).click()]);
watch(page);
const connect = page.getByRole('button', { name: 'Connect', exact: true });
await connect.waitFor();
await picture(page, 'first-sign-on', { fullPage: false });
await connect.click();
await page.locator('.session .state', { hasText: /Connected|Ended/ }).waitFor();
if (!(await page.locator('.session .state', { hasText: 'Connected' }).isVisible())) fault(`demo-1 does not open: ${await page.locator('.over').innerText()}`);

await readable(page);
await run(page, 'echo sum-$((40+2)) on $SALLYPORT_DEMO');
await sees(page, 'sum-42 on demo-1');
const took = (Date.now() - told.began) / 1000;
await picture(page, 'first-terminal', { fullPage: false });
must(took < 60, `the first command's output comes after ${took.toFixed(1)} s`);

// What they look at next.
await page.setViewportSize({ width: 900, height: 600 });
await fits(page, 'the terminal');
await usable(page, 'the terminal');
const [files] = await Promise.all([context.waitForEvent('page'), page.getByRole('link', { name: 'Files' }).click()]);
await files.getByRole('button', { name: 'New folder' }).waitFor(); // of the terminal's session: nobody signs on again
await picture(files, 'first-files', { fullPage: false });
await sound(files);
await files.close();

await page.locator('.xterm-helper-textarea').focus();
await run(page, 'exit');
await page.getByText('The session is over.').waitFor();
await sound(page);

await portal.getByRole('heading', { name: 'Recent' }).waitFor(); // the list is still there, and knows
await sound(portal);
await page.goto(told.url + '/connect/vault');
await page.getByText('denied by policy "secrets need a second factor"').waitFor();
await picture(page, 'first-refused', { fullPage: false });
await sound(page);

// What they share in the page lets a guest in as easily, who is offered nothing but that, until it is taken back. What their
// command has shared is on the page too.
await page.goto(told.url + '/connect/demo-1');
await page.getByRole('link', { name: 'Share' }).click();
await page.getByRole('dialog', { name: 'New guest link' }).waitFor();
must((await page.getByLabel('Target').inputValue()) === 'demo-1', 'the target that is shared is not filled in');
await page.getByRole('button', { name: 'Make the link' }).click();
await page.getByText('This link is shown only now.').waitFor();
const shared = await page.locator('.copy code').innerText();
must(shared.startsWith(told.url + '/guest#'), `the link is ${shared}`);
const revoke = page.getByRole('button', { name: /^Revoke the link .* to demo-1$/ });
await revoke.nth(1).waitFor();
await picture(page, 'first-share', { fullPage: false });

const { context: theirs, page: guest } = await person();
await guest.goto(shared);
await guest.getByRole('button', { name: 'Connect', exact: true }).waitFor();
await seen(guest, 'open-guest');
await guest.getByRole('button', { name: 'Connect', exact: true }).click();
await guest.getByRole('link', { name: 'Open terminal' }).waitFor();
await settled(guest);
const offered = await guest.locator('body').innerText();
must(!/sallyport|The command|Ask for approval|Approvals|Guest links|Share|Administration/.test(offered), `a guest is offered what they cannot do:\n${offered}`);
await picture(guest, 'first-guest', { fullPage: false });
const [shell] = await Promise.all([theirs.waitForEvent('page'), guest.getByRole('link', { name: 'Open terminal' }).click()]);
await shell.getByRole('button', { name: 'Connect', exact: true }).click();
await shell.locator('.session .state', { hasText: 'Connected' }).waitFor();
await sound(shell);

await page.getByText('1 of 1 time').waitFor();
await revoke.first().click();
await page.getByRole('dialog').getByRole('button', { name: 'Revoke for good' }).click();
await page.getByText(/^Revoked /).waitFor();
must((await page.locator('.copy').count()) === 0, 'a link that is revoked is still offered');
await shell.getByText('E_GUEST_LINK').waitFor();
await sound(guest);
await sound(page);

await done(`from the demo's start to a command's output in a browser: ${took.toFixed(1)} s`);
