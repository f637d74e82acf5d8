// Files: what is in a folder, and files on their way in both directions, against a real sshd.
import { execFileSync } from 'node:child_process';
import { createHash, randomFillSync } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, writeFileSync, writeSync, closeSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { asked, done, fits, must, person, picture, sound, told, usable } from './browser.mjs';
import { openLink } from './link.mjs';
import { part, signOn } from './shell.mjs';

const link = await openLink({ host: told.appliance, port: 443 }, told.port);
mkdirSync(told.here, { recursive: true });
const { context, page } = await person({ acceptDownloads: true, profile: join(told.here, 'profile') });
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

const big = join(told.here, 'big.bin');
make(big, told.size);
const bigSum = await sum(big);
writeFileSync(join(told.there, 'greeting.txt'), 'hello\n');
writeFileSync(join(told.there, '.hidden'), 'x');
mkdirSync(join(told.there, 'folder'), { recursive: true });

async function show() {
  await page.getByLabel(/^User on /).fill(told.user);
  await page.getByRole('radio', { name: /^Password/ }).check();
  await page.getByRole('button', { name: 'Show files' }).click();
  await page.getByLabel(/password/i).fill(told.password);
  await page.getByRole('button', { name: 'Continue' }).click();
}

await page.goto(`${told.url}/files/words`);
await show();

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

// patience is for a file to arrive on a busy machine, in milliseconds.
const patience = 240_000 + told.size / 2 ** 11;

const line = (name) => page.locator('.transfer', { hasText: name }).last();

// through waits until so much of the only transfer is.
const through = (percent) => page.waitForFunction((p) => (document.querySelector('.transfer progress')?.value ?? 0) >= p, percent, { timeout: patience });

const choose = async (button, what) => {
  const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.getByRole('button', { name: button }).click()]);
  await chooser.setFiles(what);
};

const rate = (size, began) => `${(size / 2 ** 20 / ((Date.now() - began) / 1000)).toFixed(0)} MiB/s`;

await part('an upload, cut, paused and gone on with', async () => {
  const began = Date.now();
  await choose('Upload files', big);
  await through(30);
  link.cut();
  await through(50);
  await line('big.bin').getByRole('button', { name: 'Pause' }).click();
  await line('big.bin').getByText(/^Paused at/).waitFor();
  await picture(page, 'files-paused');
  await line('big.bin').getByRole('button', { name: 'Resume' }).click();
  await line('big.bin').getByText(/^Uploaded/).waitFor({ timeout: patience });
  must((await sum(join(told.there, 'big.bin'))) === bigSum, 'the file came as another');
  return rate(told.size, began);
});

// fetched is a download that a click brings, as a file of this computer.
async function fetched(name, press, limit = 20_000) {
  const coming = page.waitForEvent('download', { timeout: limit });
  await press();
  const download = await coming;
  must(download.suggestedFilename() === name, `the download is called ${download.suggestedFilename()}`);
  const path = join(told.here, 'came-' + name);
  await download.saveAs(path);
  return path;
}

await part('a download, cut, paused, left by its page and gone on with', async () => {
  await page.getByRole('button', { name: 'Clear what is over' }).click();
  const began = Date.now();
  await page.getByRole('button', { name: /^big\.bin/ }).click();
  await through(20);
  link.cut();
  await through(30);
  await line('big.bin').getByRole('button', { name: 'Pause' }).click();
  await line('big.bin').getByText(/^Paused at/).waitFor();
  await line('big.bin').getByRole('button', { name: 'Resume' }).click();
  await through(50);
  await page.reload();
  await line('big.bin').getByText(/^Kept from before/).waitFor();
  await picture(page, 'files-kept');
  await through(50);
  await show();
  await page.getByRole('button', { name: 'Upload files' }).waitFor();
  const path = await fetched('big.bin', () => line('big.bin').getByRole('button', { name: 'Resume' }).click(), patience);
  must(statSync(path).size === told.size && (await sum(path)) === bigSum, 'the file came as another');
  rmSync(path);
  await page.reload();
  await show();
  await page.getByRole('button', { name: 'Upload files' }).waitFor();
  must((await page.locator('.transfer').count()) === 0, 'a download that is over is offered again');
  return rate(told.size, began);
});

// latest is the last upload of a file that the appliance has written down as whole.
const latest = async (name) => {
  const { events } = await page.evaluate(async () => (await fetch('/api/v1/audit?event=file.uploaded')).json());
  return events.findLast((e) => e.object.endsWith('/' + name) && !e.code);
};

await part('an upload, left by its page and chosen again', async () => {
  rmSync(join(told.there, 'big.bin'));
  await choose('Upload files', big);
  await through(20);
  await page.reload();
  await show();
  await page.getByRole('button', { name: 'Upload files' }).waitFor();
  must(!existsSync(join(told.there, 'big.bin')), 'the upload was over before its page was loaded again');
  await choose('Upload files', big);
  await line('big.bin').getByText(/^Uploaded/).waitFor({ timeout: patience });
  must((await sum(join(told.there, 'big.bin'))) === bigSum, 'the file came as another');
  const { up, detail } = await latest('big.bin');
  must(Number(detail.from) > told.size / 10 && up === told.size - Number(detail.from), `it went on from ${detail.from} of ${told.size} with ${up} bytes`);
  return `from ${Math.round((100 * Number(detail.from)) / told.size)} %`;
});

await part('an upload while another page is looked at', async () => {
  rmSync(join(told.there, 'big.bin'));
  await page.getByRole('button', { name: 'Clear what is over' }).click();
  await choose('Upload files', big);
  await through(10);
  link.hold();
  await page.getByRole('link', { name: 'My sessions' }).click();
  await page.getByText('Files of words: 1 on the way.').waitFor();
  await fits(page, 'a page while files are on the way');
  await picture(page, 'files-away');
  const [says] = await Promise.all([asked(), page.getByRole('button', { name: 'Log out' }).click()]);
  must(says.startsWith('Files are on their way'), `who logs out is asked: ${says}`);
  link.go();
  await page.getByText('Files of words: 1 done.').waitFor({ timeout: patience });
  must((await sum(join(told.there, 'big.bin'))) === bigSum, 'the file came as another');
  await page.getByRole('link', { name: 'Files of words' }).click();
  await line('big.bin').getByText(/^Uploaded/).waitFor();
  await page.getByText('The session is over.').waitFor(); // nobody looked, and nothing was on its way
  await page.getByRole('link', { name: 'My sessions' }).click();
  await page.getByRole('link', { name: 'Files of words' }).waitFor({ state: 'detached' });
});

// drag has files come over a place of the page, and lets them go there or not.
async function drag(where, names, drop = true) {
  const devtools = await context.newCDPSession(page);
  const { x, y, width, height } = await where.boundingBox();
  const data = { items: [], files: names.map((n) => join(told.here, n)), dragOperationsMask: 1 };
  for (const type of ['dragEnter', 'dragOver', ...(drop ? ['drop'] : [])]) await devtools.send('Input.dispatchDragEvent', { type, x: x + width / 2, y: y + height / 2, data });
  await devtools.detach();
}

await part('files that are dropped where they may not be', async () => {
  writeFileSync(join(told.here, 'four.txt'), 'four\n');
  const dropped = async (says) => {
    await drag(page.locator('h1'), ['four.txt'], false);
    await page.getByText(says).waitFor();
    await fits(page, says);
    await picture(page, 'files-dropped', { fullPage: false });
    await drag(page.locator('h1'), ['four.txt']);
    await page.getByText(says).waitFor({ state: 'detached' });
  };
  await page.goto(`${told.url}/files/mute`);
  await page.getByLabel(/^User on /).fill('root');
  await page.getByRole('radio', { name: /^Certificate/ }).check();
  await dropped('Connect first, then drop files here');
  await page.getByRole('button', { name: 'Show files' }).click();
  await page.getByText('Files may neither be sent to nor taken from this target.').waitFor();
  await dropped('Files may not be sent to this target');
  must(page.url() === `${told.url}/files/mute` && (await page.locator('.transfer').count()) === 0, 'what is dropped where it may not be does something');
  await sound(page);
  await page.goto(`${told.url}/files/words`);
  await show();
  await page.getByRole('button', { name: 'Upload files' }).waitFor();
});

await part('more files than are taken at once', async () => {
  const many = join(told.here, 'many');
  mkdirSync(many);
  for (let i = 0; i < 10_001; i++) closeSync(openSync(join(many, `${i}`), 'w'));
  await choose('Upload a folder', many);
  await page.getByText('There are more than 10,000 files and folders, and none has been sent.').waitFor();
  must((await page.locator('.transfer').count()) === 0 && !existsSync(join(told.there, 'many')), 'some of too many files are sent');
  rmSync(many, { recursive: true });
});

await part('folders, both ways', async () => {
  const trip = join(told.here, 'trip');
  mkdirSync(join(trip, 'deep', 'er'), { recursive: true });
  writeFileSync(join(trip, 'one.txt'), 'one\n');
  make(join(trip, 'deep', 'er', 'two.bin'), 3 << 20);
  writeFileSync(join(trip, 'deep', 'nothing'), '');
  const same = (a, b) => execFileSync('diff', ['-r', a, b], { encoding: 'utf8' });
  await choose('Upload a folder', trip);
  await page.waitForFunction(() => document.querySelectorAll('.transfer').length === 3 && [...document.querySelectorAll('.transfer')].every((t) => t.innerText.includes('Uploaded')));
  same(trip, join(told.there, 'trip'));

  // Dropped, with a folder that has nothing in it, and a file beside.
  mkdirSync(join(told.here, 'dropped', 'empty'), { recursive: true });
  writeFileSync(join(told.here, 'dropped', 'three.txt'), 'three\n');
  await drag(page.locator('nav'), ['dropped', 'four.txt']); // beside the list too
  await line('three.txt').getByText(/^Uploaded/).waitFor();
  await line('four.txt').getByText(/^Uploaded/).waitFor();
  same(join(told.here, 'dropped'), join(told.there, 'dropped'));
  same(join(told.here, 'four.txt'), join(told.there, 'four.txt'));

  // Down as an archive, whatever its files are called; without what a link leads to.
  writeFileSync(join(told.there, 'trip', 'C:\\evil\n.txt'), 'harmless\n');
  execFileSync('ln', ['-s', '/etc/passwd', join(told.there, 'trip', 'link')]);
  const path = await fetched('trip.zip', () => page.getByRole('button', { name: 'Download trip' }).click());
  await line('trip').getByText(/without 1 link or file that cannot be fetched, such as .*trip\/link/).waitFor();
  const out = join(told.here, 'out');
  execFileSync('unzip', ['-q', path, '-d', out]);
  must(readFileSync(join(out, 'trip', 'C__evil_x0a.txt'), 'utf8') === 'harmless\n', `the archive has ${readdirSync(join(out, 'trip'))}`);
  must(!existsSync(join(out, 'trip', 'link')), 'the archive has a link');
  rmSync(join(out, 'trip', 'C__evil_x0a.txt'));
  same(trip, join(out, 'trip'));
  await page.getByRole('button', { name: 'Clear what is over' }).click();
});

await part('a name that is taken', async () => {
  for (const [answer, then] of [['Keep both', 'greeting (2).txt'], ['Skip', ''], ['Replace', 'greeting.txt']]) {
    await choose('Upload files', { name: 'greeting.txt', mimeType: 'text/plain', buffer: Buffer.from('another\n') });
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
await context.close();
link.close();
await done('files');
