// A terminal: what is typed, shown, pasted, searched and lost sight of for a while, against a real sshd.
import { createHash } from 'node:crypto';
import { done, must, person, picture, seen, sound, told, watch } from './browser.mjs';
import { openLink } from './link.mjs';
import { all, fresh, interrupt, openTerminal, part, readable, rows, run, screen, sees, signOn } from './shell.mjs';

const link = await openLink({ host: told.appliance, port: 443 }, told.port);
const { context, page: first } = await person({ permissions: ['clipboard-read', 'clipboard-write'] });

// Keystrokes are timed, and the frames of DATA that come: their echoes.
await context.addInitScript(() => {
  window.pressed = 0;
  window.echoed = 0;
  document.addEventListener('keydown', () => ((window.pressed = performance.now()), (window.echoed = 0)), true);
  const data = (bytes) => {
    for (let at = 0; at + 4 <= bytes.length; at += 4 + ((bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3])) if (bytes[at] === 0x20) return true;
    return false;
  };
  const Real = window.WebSocket;
  window.WebSocket = class extends Real {
    constructor(...given) {
      super(...given);
      this.addEventListener('message', (e) => {
        if (window.echoed === 0 && data(new Uint8Array(e.data))) window.echoed = performance.now();
      });
    }
  };
});
context.on('page', watch);

await first.goto(told.link);
await first.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();

await part('what policy denies is said before', async () => {
  await first.getByRole('link', { name: 'Files of db-1' }).waitFor();
  must((await first.getByRole('link', { name: 'Files of mute' }).count()) === 0, 'files are offered where policy denies them');
  await first.getByRole('link', { name: 'mute', exact: true }).click();
  await first.getByText('paste into it, copy out of it, upload files, download files').waitFor();
  await first.getByRole('link', { name: 'Open terminal' }).waitFor();
  must((await first.getByRole('link', { name: 'Files' }).count()) === 0, 'a target offers files where policy denies them');
  await sound(first);
});
await first.close();

// ---- Signing on.

let page = await openTerminal(context, 'db-1', null);
await page.locator('.sign-on').waitFor();
await seen(page, 'terminal-sign-on');
await page.emulateMedia({ colorScheme: 'dark' });
await page.setViewportSize({ width: 1024, height: 700 });

await part('certificate', async () => {
  await signOn(page);
  await readable(page);
  await fresh(page);
  await run(page, 'echo sum-$((40+2))');
  await sees(page, 'sum-42');
});

await part('wrong password, then the right one', async () => {
  const p = await openTerminal(context, 'words', { user: told.user, method: 'Password', expect: '' });
  await p.getByLabel(/password/i).fill('not the password');
  await p.getByRole('button', { name: 'Continue' }).click();
  await p.getByText('words has not accepted that. Try again.').waitFor();
  const banner = await p.locator('.questions pre').innerText();
  must(banner === 'Für Befugte.\n<b>?[31m', `the banner is ${JSON.stringify(banner)}`);
  await seen(p, 'terminal-wrong-password');
  await p.getByLabel(/password/i).fill(told.password);
  await p.getByRole('button', { name: 'Continue' }).click();
  await p.locator('.session .state', { hasText: 'Connected' }).waitFor();
  const kept = await p.evaluate(() => JSON.stringify([localStorage, sessionStorage]));
  must(!kept.includes(told.password), 'the password stays in a storage');
  await sound(p);
  await p.close();
});

await part('keys of the tab', async () => {
  const p = await openTerminal(context, 'db-1', null);
  const choose = async (name) => {
    const other = p.getByRole('button', { name: /^Take another/ });
    if (await other.isVisible()) await other.click();
    await p.locator('input[type=file]').setInputFiles({ name, mimeType: 'text/plain', buffer: Buffer.from(told.keys[name]) });
  };
  await p.getByLabel(/^User on /).fill('root');
  await p.getByRole('radio', { name: /^Key of mine/ }).check();
  await p.getByLabel('Or paste it').fill(told.keys['rsa.pub']);
  await p.getByRole('button', { name: 'Connect' }).click();
  await p.getByText('This is the public key.').waitFor();

  // One that the target does not know.
  await choose('stranger');
  await p.getByText('Read: stranger, ssh-ed25519').waitFor();
  await p.getByRole('button', { name: 'Connect' }).click();
  await p.getByText('db-1 does not accept this key for root.').waitFor();
  await seen(p, 'terminal-wrong-key');
  await p.getByRole('button', { name: 'Connect again' }).click();

  // With a passphrase, that is wrong at first.
  await p.getByRole('radio', { name: /^Key of mine/ }).check();
  await choose('ecdsa');
  await p.getByLabel('Passphrase of ecdsa').fill('another');
  await p.getByRole('button', { name: 'Connect', exact: true }).click();
  await p.getByText('This is not the passphrase of the key.').waitFor();
  await seen(p, 'terminal-passphrase');
  await p.getByLabel('Passphrase of ecdsa').fill(told.passphrase);
  await p.getByRole('button', { name: 'Connect', exact: true }).click();
  await p.locator('.session .state', { hasText: 'Connected' }).waitFor();
  await readable(p);
  await fresh(p);
  const kept = await p.evaluate(() => JSON.stringify([localStorage, sessionStorage]));
  must(!kept.includes('PRIVATE KEY') && !kept.includes(told.passphrase), 'the key stays in a storage');
  await run(p, 'exit 3');
  await p.getByText('The shell has ended with status 3.').waitFor();
  await seen(p, 'terminal-ended');

  await p.getByRole('button', { name: 'Connect again' }).click();
  await choose('rsa');
  await p.getByText('Read: rsa, rsa-sha2-512').waitFor();
  await signOn(p, { method: 'Key of mine' });
  await fresh(p);
  await run(p, 'kill -KILL $$');
  await p.getByText('The shell was ended by the signal KILL.').waitFor();
  await sound(p);
  await p.close();
});

await part('another host key is a hard stop', async () => {
  const p = await openTerminal(context, 'moved', { expect: 'Ended' });
  await p.getByText('E_TARGET_IDENTITY').waitFor();
  await p.getByText(/^moved shows another host key than it is known by: SHA256:\S+, and not SHA256:/).waitFor();
  await p.getByText(/^Nothing was sent to it; /).waitFor();
  await seen(p, 'terminal-host-key');
  await p.close();
});

// ---- What is shown.

await part('UTF-8 and wide characters', async () => {
  await run(page, `printf '|\\346\\227\\245\\346\\234\\254|\\303\\251|e\\314\\201|\\360\\237\\231\\202|\\n'; printf '123456789|\\n'`);
  const text = await sees(page, /^123456789\|$/m);
  must(text.normalize('NFC').includes('|日本|\u00e9|\u00e9|🙂|'), `wide characters: ${text}`);
  // How many columns that takes, the terminal says when it is asked where the cursor is.
  await run(page, `printf '\\r|\\346\\227\\245\\346\\234\\254|\\303\\251|e\\314\\201|\\360\\237\\231\\202|'; IFS=';' read -sdR -p $'\\e[6n' row col; echo; echo column-$col`);
  await sees(page, 'column-14');
  await picture(page, 'terminal-dark', { fullPage: false });
});

await part('resize', async () => {
  await fresh(page);
  const lines = () => page.locator('.xterm-accessibility-tree > div').count();
  for (const [width, height] of [[1440, 900], [700, 500], [1024, 700]]) {
    const before = await lines();
    await page.setViewportSize({ width, height });
    await page.waitForFunction((n) => document.querySelectorAll('.xterm-accessibility-tree > div').length !== n, before);
    await page.waitForTimeout(300); // a window that is drawn has more than one size
    const shown = await lines();
    await run(page, `clear; echo at-$((${width}+1)); stty size`);
    const size = new RegExp(`at-${width + 1}\n(\\d+) (\\d+)$`, 'm');
    const [, tall, columns] = size.exec(await sees(page, size));
    must(Number(tall) === shown, `${width}x${height}: the target has ${tall} lines, the page shows ${shown}`);
    must(Number(columns) > width / 12 && Number(columns) < width / 6, `${width}x${height}: ${columns} columns`);
  }
});

await part('vim', async () => {
  await run(page, 'rm -f vim.txt; vim -u NONE -i NONE -n --cmd "set ruler" vim.txt');
  await sees(page, /^~$/m);
  await page.keyboard.type('ihello from vim');
  await page.keyboard.press('Escape');
  await page.keyboard.type('yyp');
  await sees(page, /hello from vim\nhello from vim/);
  await picture(page, 'terminal-vim', { fullPage: false });
  await page.keyboard.type(':wq\n');
  await fresh(page);
  await run(page, 'cat vim.txt; wc -l <vim.txt');
  await sees(page, /hello from vim\nhello from vim\n2/);
});

await part('htop', async () => {
  await run(page, 'TERM=xterm-256color htop');
  await sees(page, /Load average/);
  await sees(page, /F10 ?Quit/);
  await picture(page, 'terminal-htop', { fullPage: false });
  await page.keyboard.press('F10');
  await fresh(page);
});

await part('10 MB of yes', async () => {
  await page.getByRole('button', { name: 'Screen reader' }).click(); // who hears that is helped by nobody
  await page.locator('.xterm-helper-textarea').focus();
  await page.evaluate(() => {
    window.longest = 0;
    let last = performance.now();
    window.pulse = setInterval(() => {
      const now = performance.now();
      window.longest = Math.max(window.longest, now - last);
      last = now;
    }, 20);
  });
  const began = Date.now();
  await run(page, 'yes | head -c 10485760; printf "\\033]0;yes-%d\\007" 2');
  await page.waitForFunction(() => document.title.includes('yes-2'), null, { timeout: 180_000 });
  const took = (Date.now() - began) / 1000;
  const longest = await page.evaluate(() => (clearInterval(window.pulse), window.longest));
  must(longest < 2000, `the page was frozen for ${longest} ms`);
  await readable(page);
  return `${(10 / took).toFixed(1)} MiB/s, longest pause of the page ${longest.toFixed(0)} ms`;
});

await part('stopping what does not stop', async () => {
  await fresh(page);
  await run(page, 'yes still-going');
  await sees(page, /^still-going$/m);
  await page.waitForTimeout(500);
  await interrupt(page);
  await fresh(page);
});

// ---- The clipboard.

await part('paste of 200 kB, twice, and typing', async () => {
  const lines = [];
  for (let n = 0; lines.length < 3600; n++) lines.push(`${String(n).padStart(6, '0')} ${createHash('sha256').update(String(n)).digest('base64')} ü日`);
  const text = lines.join('\n') + '\n';
  const sum = createHash('sha256').update(text + text + 'and this\n').digest('hex');
  await page.evaluate((t) => navigator.clipboard.writeText(t), text);
  await run(page, 'bind "set enable-bracketed-paste off"; printf "\\033[?2004l"; echo to""be""pasted; stty -echo; cat >pasted');
  await sees(page, /^tobepasted$/m);
  for (let i = 0; i < 2; i++) {
    await page.keyboard.press('Control+Shift+V');
    await page.getByRole('alertdialog').getByRole('button', { name: 'Paste' }).click(); // asked, because there are many lines
    await page.waitForFunction(() => !document.querySelector('[role=alertdialog]'));
    await page.locator('.xterm-helper-textarea').focus();
  }
  await run(page, 'and this');
  await page.keyboard.press('Control+D');
  await run(page, 'stty echo; sha256sum pasted');
  const seen = await sees(page, /[0-9a-f]{64}/);
  must(seen.includes(sum), `the paste came as another: ${seen}`);
  return `${Buffer.byteLength(text)} bytes`;
});

await part('bracketed paste', async () => {
  await fresh(page);
  await run(page, 'bind "set enable-bracketed-paste on"');
  await fresh(page); // with its prompt the shell has asked for brackets
  await page.evaluate(() => navigator.clipboard.writeText('echo one\necho two'));
  await page.keyboard.press('Control+Shift+V');
  await sees(page, /echo one\n.*echo two/);
  must((await page.locator('[role=alertdialog]').count()) === 0, 'a bracketed paste asks');
  await interrupt(page);
  await fresh(page);
});

await part('search', async () => {
  await run(page, 'clear; seq -f "line %g of many" 1 500');
  await sees(page, 'line 500 of many');
  await page.keyboard.press('Control+Shift+F');
  await page.getByPlaceholder('Search').fill('line 123 of');
  await page.getByText(/^1 of 1$/).waitFor();
  await sees(page, 'line 123 of many');
  await page.getByText('1 of 1').waitFor();
  await seen(page, 'terminal-search');
  await page.getByPlaceholder('Search').fill('no such text');
  await page.getByText('No match').waitFor();
  await page.keyboard.press('Escape');
  await fresh(page);
});

// ---- What a target may not do.

await part('hostile output', async () => {
  await page.evaluate(() => navigator.clipboard.writeText('mine'));
  const before = await page.title();
  await run(page, String.raw`clear; printf '\033]52;c;%s\007' "$(printf stolen | base64)"; printf '\033]52;c;?\007'; printf '\033]0;\342\200\256<img src=x onerror=alert(1)>%0500d\007' 7; printf 'A\033[2147483647b\033[2147483647S\033[2147483647L\033[2147483647I'; printf '\033[21t\033[>q\033P$qm\033\\'; sleep 0.3; clear; echo hostile-$((1+1))`);
  await sees(page, 'hostile-2');
  must((await page.evaluate(() => navigator.clipboard.readText())) === 'mine', 'a program has written to the clipboard unasked');
  const title = await page.title();
  must(title.startsWith('db-1: ') && title.length < 150 && !/[\u202e\n]/.test(title) && title !== before, `the title is ${JSON.stringify(title)}`);
  await page.getByText(/A program on db-1 wants to put 6 B of text in your clipboard/).waitFor();
  await picture(page, 'terminal-osc52', { fullPage: false });
  await page.getByRole('button', { name: 'Allow' }).click();
  await page.waitForFunction(async () => (await navigator.clipboard.readText()) === 'stolen');
  await interrupt(page);
  await fresh(page);
  const text = await screen(page);
  must(!/stolen|\[21t|xterm\.js/.test(text), `the terminal has answered: ${text}`);
});

// ---- The network, and the page.

await part('20 cuts', async () => {
  await run(page, 'clear; i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo "n $i"; [ $((i%100)) -ne 0 ] || sleep 0.2; done; echo counted-$((1+1))');
  let cuts = 0;
  for (let i = 0; i < 20; i++) {
    await page.waitForTimeout(350);
    if (link.cut() > 0) cuts++;
    await page.keyboard.type(String(i % 10)); // what is typed meanwhile is not lost either
  }
  await sees(page, 'counted-2', 60_000);
  const text = (await all(page)).replaceAll('\r', '');
  const from = text.lastIndexOf('n 1\n');
  const numbers = [...text.slice(from).matchAll(/n (\d+)$/gm)].map((m) => Number(m[1]));
  must(numbers.length === 4000 && numbers.every((n, i) => n === i + 1), `of 4000 lines ${numbers.length} came, the first wrong one after ${numbers.findIndex((n, i) => n !== i + 1)}`);
  await sees(page, '01234567890123456789'); // what was typed during the cuts
  must(cuts >= 15, `there were ${cuts} cuts`);
  await interrupt(page);
  return `${cuts} cuts`;
});

await part('asleep', async () => {
  await fresh(page);
  const cdp = await context.newCDPSession(page);
  await run(page, 'i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo "s $i"; [ $((i%300)) -ne 0 ] || sleep 0.5; done; echo slept-$((1+1))');
  await sees(page, /^s \d+$/m);
  await cdp.send('Page.setWebLifecycleState', { state: 'frozen' });
  await new Promise((resolve) => setTimeout(resolve, 3000));
  link.cut();
  await new Promise((resolve) => setTimeout(resolve, 4000));
  await cdp.send('Page.setWebLifecycleState', { state: 'active' });
  await sees(page, 'slept-2', 60_000);
  const text = (await all(page)).replaceAll('\r', '');
  const numbers = [...text.slice(text.lastIndexOf('s 1\n')).matchAll(/^s (\d+)$/gm)].map((m) => Number(m[1]));
  must(numbers.length === 3000 && numbers.every((n, i) => n === i + 1), `of 3000 lines ${numbers.length} came`);
  await cdp.detach();
});

const connected = (p) => p.locator('.session .state', { hasText: 'Connected' }).waitFor();

let asked = 0; // by the browser, whether a page may be left
page.on('dialog', () => asked++);

await part('reload', async () => {
  await fresh(page);
  await run(page, 'before=kept; echo painted-$((1+1))');
  await sees(page, 'painted-2');
  const again = async () => {
    await page.reload();
    await connected(page);
    must(asked === 0, 'the browser asks before a page is loaded again that comes back by itself');
    await readable(page);
  };
  await again();
  await sees(page, 'painted-2');
  await run(page, 'echo $before-$((1+2))');
  await sees(page, 'kept-3');

  // One that has painted more than is kept, and has switched what no painting shows.
  await run(page, String.raw`printf '\033[?1049h\033[?1h\033[?25l'; head -c 300000 /dev/zero | tr '\0' x; printf '\033[2J\033[Hpainted-%d\n' 4; cat`);
  await sees(page, 'painted-4');
  await again();
  must(!(await sees(page, 'painted-4')).includes('kept-3'), 'what is below the alternate screen shows through');
  await page.keyboard.press('ArrowUp');
  await sees(page, '^[OA');
  await interrupt(page);
  await run(page, String.raw`printf '\033[?1l\033[?25h\033[?1049l'`);
  await sees(page, /kept-3[^]*lab\d+>\s*$/);

  await run(page, 'htop');
  await sees(page, /Load average/);
  await again();
  await sees(page, /Load average[^]*F10 ?Quit/);
  await page.keyboard.press('F10');
  await sees(page, /kept-3[^]*htop\nlab\d+>\s*$/);
});

await part('away within the portal, and back while the network is not there', async () => {
  await page.evaluate(() => {
    const a = document.body.appendChild(document.createElement('a'));
    a.href = '/';
    a.click();
    a.remove();
  });
  await page.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();
  link.down();
  await page.goBack();
  await page.getByText('Your session goes on there, and this page tries again.').waitFor();
  await picture(page, 'terminal-not-reached', { fullPage: false });
  link.up();
  await connected(page);
  await readable(page);
  await sees(page, 'kept-3');
  await run(page, 'echo $before-$((2+2))');
  await sees(page, 'kept-4');
});

await part('in another tab, and back', async () => {
  const [other] = await Promise.all([context.waitForEvent('page'), page.evaluate(() => void window.open(location.href))]); // it has what this tab knows
  await connected(other);
  await page.getByText('This session has moved to another tab.').waitFor();
  await picture(page, 'terminal-moved', { fullPage: false });
  await page.reload(); // which is another way to have it back, as the page says
  await connected(page);
  await other.getByRole('button', { name: 'Have it here' }).click();
  await connected(other);
  await readable(other);
  await sees(other, 'kept-4');
  await run(other, 'echo $before-$((2+3))');
  await sees(other, 'kept-5');

  // A key that closes the tab, of which the page is told Control alone.
  let questions = 0;
  other.on('dialog', () => questions++);
  await other.keyboard.down('Control');
  await Promise.all([other.waitForEvent('close'), other.close({ runBeforeUnload: true })]);
  must(questions === 1, 'the browser does not ask before a key closes a session');

  await page.bringToFront();
  await page.getByRole('button', { name: 'Have it here' }).click();
  await connected(page);
  await readable(page);
  await sees(page, 'kept-5');
});

await part('the way out, and the whole screen', async () => {
  await fresh(page);
  const says = await page.evaluate(() => document.getElementById(document.activeElement.getAttribute('aria-describedby'))?.textContent ?? '');
  must(says.includes('Ctrl+Alt+Shift'), `the terminal is described by ${JSON.stringify(says)}`);
  for (const key of ['Control', 'Alt', 'Shift']) await page.keyboard.down(key);
  for (const key of ['Shift', 'Alt', 'Control']) await page.keyboard.up(key);
  const at = await page.evaluate(() => document.activeElement.closest('[role=toolbar]')?.getAttribute('aria-label'));
  must(at === 'Terminal', `Ctrl+Alt+Shift leads to ${at}`);
  await page.keyboard.press('Escape');
  await run(page, 'echo back-$((1+1))');
  await sees(page, 'back-2');

  await page.evaluate(() => {
    const lock = navigator.keyboard.lock.bind(navigator.keyboard);
    navigator.keyboard.lock = (...keys) => lock(...keys).then(() => (window.locked = keys.length)); // none named are all
  });
  await page.getByRole('button', { name: 'Full screen' }).click();
  await page.waitForFunction(() => document.fullscreenElement?.className === 'session' && window.locked === 0);
  await page.getByRole('button', { name: 'Leave full screen' }).click();
  await page.getByRole('button', { name: 'Full screen', exact: true }).waitFor();
  must((await page.evaluate(() => document.fullscreenElement)) === null, 'the full screen is not left');
});

await part('a file that is dropped on it', async () => {
  const opened = await page.evaluate(() => {
    const files = new DataTransfer();
    files.items.add(new File(['x'], 'x.txt'));
    return ['dragover', 'drop'].filter((kind) => document.querySelector('.screen').dispatchEvent(new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true })));
  });
  must(opened.length === 0, `the browser opens a dropped file in place of the session: ${opened}`);
});

await part('echo', async () => {
  await fresh(page);
  await run(page, 'cat');
  await page.getByRole('button', { name: 'Screen reader' }).click(); // as most have it
  await page.locator('.xterm-helper-textarea').focus();
  await page.waitForTimeout(300);
  const way = await openLink({ host: told.appliance, port: told.straight }, told.straight);
  const straight = await context.newPage();
  await straight.goto(`http://127.0.0.1:${told.straight}/`);
  await straight.waitForFunction(() => document.title === 'open');
  await straight.waitForTimeout(1000); // ssh signs on
  const took = { page: [], straight: [] };
  for (let turn = 0; turn < 4; turn++) {
    for (const [where, times] of [[page, took.page], [straight, took.straight]]) {
      await where.bringToFront();
      await echo(where); // that draws the window anew
      for (let i = 0; i < 50; i++) times.push(await echo(where));
    }
  }
  await straight.close();
  way.close();
  await page.bringToFront();
  await readable(page);
  await interrupt(page);
  for (const times of Object.values(took)) {
    must(times.every((x) => x > 0), 'a keystroke has no echo');
    times.sort((a, b) => a - b);
  }
  const says = (times) => `p50 ${times[100].toFixed(2)} ms, p99 ${times[197].toFixed(2)} ms`;
  return `from the key to the echo in the page ${says(took.page)}; straight ${says(took.straight)}`;
});

// echo is how long a key takes to come back, in milliseconds; negative if it did not.
async function echo(page) {
  await page.keyboard.press('x');
  const until = Date.now() + 20_000;
  for (;;) {
    await page.waitForTimeout(60); // so fast nobody types; and the page has shown the echo before
    const took = await page.evaluate(() => window.echoed - window.pressed);
    if (took > 0 || Date.now() > until) return took;
  }
}

await part('a phone', async () => {
  await page.setViewportSize({ width: 390, height: 700 });
  await fresh(page);
  await run(page, 'cat -v');
  await page.getByRole('button', { name: 'Ctrl', exact: true }).click();
  await interrupt(page, () => page.keyboard.type('c'));
  await fresh(page);
  await run(page, 'echo tabbed-$((2+2))');
  await sees(page, 'tabbed-4');
  await page.getByRole('button', { name: 'Up' }).click();
  await sees(page, /tabbed-4\n.*echo tabbed/);
  await page.keyboard.press('Control+U');
  await seen(page, 'terminal');
});

await part('a message', async () => {
  const id = await page.evaluate(() => JSON.parse(sessionStorage.getItem('terminal db-1')).slice(0, 12));
  const admin = await context.newPage();
  await admin.goto(told.url + '/admin/sessions');
  await admin.getByRole('button', { name: `Message to the session ${id} to db-1` }).click();
  await admin.getByRole('textbox', { name: 'Message' }).fill('restart at <b>noon</b>');
  await admin.getByRole('button', { name: 'Send' }).click();
  await admin.getByRole('dialog').waitFor({ state: 'detached' });
  await admin.goto(told.url + '/admin/audit');
  await admin.getByLabel('Event').selectOption('session');
  await admin.getByRole('button', { name: 'Show', exact: true }).click();
  await admin.getByText('restart at <b>noon</b>').waitFor();
  await sound(admin);
  await admin.close();
  await page.locator('.line', { hasText: 'message from ann: restart at <b>noon</b>' }).waitFor();
  await seen(page, 'terminal-message');
  await page.getByRole('button', { name: 'Close the note' }).click();
});

await part('a tab that was closed', async () => {
  await fresh(page);
  await run(page, 'before=left; echo closed-$((1+1))');
  await sees(page, 'closed-2');
  const id = await page.evaluate(() => JSON.parse(sessionStorage.getItem('terminal db-1')).slice(0, 12));
  await page.close();
  const mine = await context.newPage();
  await mine.goto(told.url + '/sessions');
  const open = mine.getByRole('button', { name: `Open the terminal ${id} of db-1 again` });
  await open.waitFor();
  await seen(mine, 'sessions-left');
  [page] = await Promise.all([context.waitForEvent('page'), open.click()]);
  await page.locator('.session .state', { hasText: 'Connected' }).waitFor();
  must((await mine.evaluate(() => sessionStorage.getItem('session'))) === null, 'the list keeps a session that it has handed over');
  await mine.close();
  await readable(page);
  await sees(page, 'closed-2');
  await run(page, 'echo $before-$((1+2))');
  await sees(page, 'left-3');
});

await part('what went over the clipboard is in the audit log', async () => {
  await fresh(page);
  await run(page, 'echo ready-$((1+1)); cat'); // which asks for no brackets
  await sees(page, 'ready-2');
  await page.evaluate(() => navigator.clipboard.writeText('audited'));
  await page.keyboard.press('Control+Shift+V');
  await sees(page, 'audited');
  await interrupt(page);
  const sum = createHash('sha256').update('audited').digest('hex');
  const admin = await context.newPage();
  await admin.goto(told.url + '/admin/audit');
  await admin.getByLabel('Event').selectOption('clipboard');
  await admin.getByRole('button', { name: 'Show', exact: true }).click();
  const row = admin.locator('tr', { hasText: sum });
  await row.getByText('7 B').waitFor();
  await row.getByRole('button', { name: /^Copy the SHA-256/ }).click();
  await admin.waitForFunction(async (hash) => (await navigator.clipboard.readText()) === hash, sum);
  await seen(admin, 'admin-audit-clipboard');
  await admin.getByLabel('Until').fill('2026-01-01T00:00');
  await admin.getByRole('button', { name: 'Show', exact: true }).click();
  await admin.getByText('No event fits.').waitFor();
  await sound(admin);
  await admin.close();
});

await part('policy per direction', async () => {
  const p = await openTerminal(context, 'mute');
  await readable(p);
  await fresh(p);
  for (const name of ['Copy', 'Paste']) must(await p.getByRole('button', { name, exact: true }).isDisabled(), `${name} is not disabled where policy denies it`);
  await p.evaluate(() => navigator.clipboard.writeText('mine'));
  await run(p, 'echo secret-$((1+1))');
  await sees(p, 'secret-2');
  await p.keyboard.press('Control+Shift+A');
  await p.keyboard.press('Control+Shift+C');
  await p.getByText('Copying from this target is not allowed.').first().waitFor();
  must((await p.evaluate(() => navigator.clipboard.readText())) === 'mine', 'text got out where policy denies it');
  await p.keyboard.press('Control+Shift+V');
  await p.getByText('Pasting to this target is not allowed.').first().waitFor();
  must(!(await screen(p)).includes('mine'), 'text got in where policy denies it');
  await picture(p, 'terminal-denied', { fullPage: false });
  await p.getByRole('button', { name: 'Disconnect' }).click();
  await p.getByText('The session is over.').waitFor();
  await sound(p);
  await p.close();
});

await sound(page);
await context.close();
link.close();
await done('a terminal');
