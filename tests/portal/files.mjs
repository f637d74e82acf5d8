// Files: what is in a folder, and files on their way in both directions, against a real sshd.
import { createHash, randomFillSync } from 'node:crypto';
import { createReadStream, mkdirSync, openSync, statSync, writeFileSync, writeSync, closeSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { done, fits, must, person, picture, sound, told, usable } from './browser.mjs';
import { openLink } from './link.mjs';
import { part, signOn } from './shell.mjs';

const link = await openLink({ host: told.appliance, port: 443 }, told.port);
// Where a browser has no dialog to choose a place by, downloads are put together on disk: this one has none that a script could press.
const { context, page } = await person({ acceptDownloads: true });
await context.addInitScript(() => delete window.showSaveFilePicker);
await page.goto(told.link);
await page.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();

const sum = async (path) => {
  const h = createHash('sha256');
  for await (const b of createReadStream(path)) h.update(b);
  return h.digest('hex');
};

function make(path, size) {
  const f = openSync(path, 'w');
  const piece = Buffer.alloc(1 << 20);
  randomFillSync(piece);
  for (let at = 0; at < size; at += piece.length) {
    piece.writeUInt32BE(at / piece.length); // no two pieces are alike
    writeSync(f, piece, 0, Math.min(piece.length, size - at));
  }
  closeSync(f);
}

mkdirSync(told.here, { recursive: true });
const big = join(told.here, 'big.bin');
make(big, told.size);
const bigSum = await sum(big);
writeFileSync(join(told.there, 'greeting.txt'), 'hello\n');
writeFileSync(join(told.there, '.hidden'), 'x');
mkdirSync(join(told.there, 'folder'), { recursive: true });

await page.goto(`${told.url}/files/words`);
await page.getByLabel(/^User on /).fill(told.user);
await page.getByRole('radio', { name: /^Password/ }).check();
await page.getByRole('button', { name: 'Show files' }).click();
await page.getByLabel(/password/i).fill(told.password);
await page.getByRole('button', { name: 'Continue' }).click();

await part('what is there', async () => {
  await page.getByText('greeting.txt').waitFor();
  must((await page.getByText('.hidden').count()) === 0, 'a hidden file is shown unasked');
  await page.getByLabel('Hidden files').check();
  await page.getByText('.hidden').waitFor();
  await page.getByLabel('Hidden files').uncheck();
});

await part('a new folder, a new name, and neither', async () => {
  await page.getByRole('button', { name: 'New folder' }).click();
  await page.getByRole('textbox', { name: 'Name' }).fill('made here');
  await page.getByRole('button', { name: 'Make' }).click();
  await page.getByRole('button', { name: 'Rename made here' }).click();
  await page.getByRole('textbox', { name: 'Name' }).fill('named anew');
  await page.getByRole('dialog').getByRole('button', { name: 'Rename' }).click();
  await page.getByRole('button', { name: 'Delete named anew' }).click();
  await picture(page, 'files-delete');
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await page.waitForFunction(() => !document.body.innerText.includes('named anew'));
});

const line = (name) => page.locator('.transfer', { hasText: name }).last();

await part('an upload, cut, paused and gone on with', async () => {
  const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.getByRole('button', { name: 'Upload files' }).click()]);
  await chooser.setFiles(big);
  const began = Date.now();
  await page.waitForFunction(() => (document.querySelector('.transfer progress')?.value ?? 0) >= 30, null, { timeout: 120_000 });
  link.cut();
  await page.waitForFunction(() => (document.querySelector('.transfer progress')?.value ?? 0) >= 50, null, { timeout: 120_000 });
  await line('big.bin').getByRole('button', { name: 'Pause' }).click();
  await line('big.bin').getByText(/^Paused at/).waitFor();
  await picture(page, 'files-paused');
  await line('big.bin').getByRole('button', { name: 'Resume' }).click();
  await line('big.bin').getByText(/^Uploaded/).waitFor({ timeout: 240_000 });
  must((await sum(join(told.there, 'big.bin'))) === bigSum, 'the file came as another');
  return `${(told.size / 2 ** 20 / ((Date.now() - began) / 1000)).toFixed(0)} MiB/s`;
});

await part('a download, cut, paused and gone on with', async () => {
  await page.getByRole('button', { name: 'Clear what is over' }).click();
  const began = Date.now();
  const coming = page.waitForEvent('download', { timeout: 240_000 });
  await page.getByRole('button', { name: /^big\.bin/ }).click();
  await page.waitForFunction(() => (document.querySelector('.transfer progress')?.value ?? 0) >= 30, null, { timeout: 120_000 });
  link.cut();
  await page.waitForFunction(() => (document.querySelector('.transfer progress')?.value ?? 0) >= 50, null, { timeout: 120_000 });
  await line('big.bin').getByRole('button', { name: 'Pause' }).click();
  await line('big.bin').getByText(/^Paused at/).waitFor();
  await line('big.bin').getByRole('button', { name: 'Resume' }).click();
  const download = await coming;
  const path = join(told.here, 'came.bin');
  await download.saveAs(path);
  must(download.suggestedFilename() === 'big.bin', `the download is called ${download.suggestedFilename()}`);
  must(statSync(path).size === told.size && (await sum(path)) === bigSum, 'the file came as another');
  rmSync(path);
  return `${(told.size / 2 ** 20 / ((Date.now() - began) / 1000)).toFixed(0)} MiB/s`;
});

await part('a name that is taken', async () => {
  for (const [answer, then] of [['Keep both', 'greeting (2).txt'], ['Skip', ''], ['Replace', 'greeting.txt']]) {
    const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.getByRole('button', { name: 'Upload files' }).click()]);
    await chooser.setFiles({ name: 'greeting.txt', mimeType: 'text/plain', buffer: Buffer.from('another\n') });
    await page.getByText('greeting.txt is there already').waitFor();
    if (answer === 'Skip') await picture(page, 'files-clash');
    await page.getByRole('dialog').getByRole('button', { name: answer, exact: true }).click();
    if (then) await page.getByRole('button', { name: `Rename ${then}` }).waitFor();
  }
  await page.waitForFunction(() => [...document.querySelectorAll('.transfer')].every((t) => /Uploaded|Downloaded/.test(t.innerText)));
  must((await sum(join(told.there, 'greeting.txt'))) === createHash('sha256').update('another\n').digest('hex'), 'the file was not replaced');
});

for (const scheme of ['light', 'dark']) {
  await page.emulateMedia({ colorScheme: scheme });
  for (const width of [1440, 1024, 390]) {
    await page.setViewportSize({ width, height: 900 });
    await fits(page, `files at ${width} in ${scheme}`);
    await usable(page, `files at ${width} in ${scheme}`);
    await picture(page, `files-${width}-${scheme}`);
  }
}

await part('on the connection of a terminal', async () => {
  const terminal = await context.newPage();
  await terminal.goto(`${told.url}/session/db-1/terminal`);
  await signOn(terminal);
  const files = await context.newPage();
  await files.goto(`${told.url}/files/db-1`);
  await files.getByRole('button', { name: 'Upload files' }).waitFor();
  must((await files.getByLabel(/^User on /).count()) === 0, 'the files of a terminal that is open ask who one is');
  await sound(files);
  await sound(terminal);
  await files.close();
  await terminal.close();
});

await sound(page);
link.close();
await done('files');
