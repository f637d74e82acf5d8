// A hundred names that are attacks, through everything that has a name. First those that the appliance and its targets really
// have, as far as they take them; then all others, put into the appliance's answers on their way, so that what shows names is
// seen, and not what checks them.
import { done, fault, fits, must, person, settled, sound, told, watch } from './browser.mjs';
import { part, readable, run, screen, sees, signOn } from './shell.mjs';

const attacks = told.attacks;
must(attacks.length === 100, `${attacks.length} attacks`);

const plain = (text) => text.replace(/\s+/g, ' ').trim();

// harmless is asked of each page that shows attacks: all of them are there, as text and as nothing else.
async function harmless(page, what, shown = attacks, within = '#main') {
  const text = plain(await page.locator(within).first().innerText());
  const missing = shown.filter((a) => !text.includes(plain(a)));
  if (missing.length > 0) fault(`${what} does not show ${missing.length} of ${shown.length}, such as ${missing[0]}: ${text.slice(0, 300)}`);
  const made = await page.evaluate(() => document.querySelector('body :is(script, iframe, img, object, embed, style:not(.xterm *), base, video, math, meta, link, template, noscript:not(body > noscript), details[ontoggle], [onload], [onerror], [onfocus], a[href^="javascript:"], form[action])')?.outerHTML);
  if (made) fault(`a name has become an element of ${what}: ${made.slice(0, 200)}`);
  await sound(page);
}

async function armed(options = {}) {
  const { page, context } = await person(options);
  await context.addInitScript(() => Object.defineProperty(window, 'pwned', { set: () => console.error('PWNED'), get: () => undefined }));
  context.on('request', (r) => {
    if (!/^(data|blob):/.test(r.url()) && !r.url().startsWith(told.url + '/')) fault(`${page.url()} asks for ${r.url()}`);
  });
  context.on('page', watch);
  return { page, context };
}

// does asks the API as the page does.
const does = (page, method, path, body) =>
  page.evaluate(
    async ([method, path, body]) => {
      const r = await fetch('/api/v1' + path, { method, headers: { 'Content-Type': 'application/json' }, ...(body && { body: JSON.stringify(body) }) });
      return { status: r.status, said: await r.json() };
    },
    [method, path, body],
  );

async function well(page, method, path, body) {
  const { status, said } = await does(page, method, path, body);
  if (status !== 200) throw new Error(`${method} ${path} ${JSON.stringify(body)}: ${status} ${JSON.stringify(said)}`);
  return said;
}

const { page, context } = await armed({ viewport: { width: 1440, height: 900 }, permissions: ['clipboard-read', 'clipboard-write'] });
await page.goto(told.link);
await page.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();

// ---- What there really is.

await part('targets, labels and rules', async () => {
  await page.getByRole('link', { name: 'n-99', exact: true }).waitFor();
  await harmless(page, 'targets', attacks.map((a) => `${a}=${a}`));
  must((await page.locator('option').count()) >= 100, 'the labels are not to be chosen from');
  for (const i of [0, 37, 74]) {
    await page.goto(`${told.url}/connect/n-${String(i).padStart(2, '0')}`);
    await page.getByText('Allowed by').waitFor();
    await harmless(page, 'a target', [attacks[i]]);
  }
});

await part('what is no name', async () => {
  const asked = (a) => [['/locks', { kind: 'user', name: a }], ['/accounts', { user: a }], ['/accounts', { user: 'x', groups: [a] }], ['/codes', { user: a }], ['/locks', { kind: a, name: 'x' }], ['/guests', { target: a }]];
  for (const [i, a] of attacks.entries()) {
    const [path, body] = asked(a)[i % 6];
    const { status } = await does(page, 'POST', path, body);
    must(status === 400, `${path} takes ${JSON.stringify(body)}: ${status}`);
  }
});

await part('locks and their reasons', async () => {
  for (const a of attacks) await well(page, 'POST', '/locks', { kind: 'device', name: a, why: a });
  await page.goto(told.url + '/admin/locks');
  await settled(page);
  await harmless(page, 'locks');
  await page.getByRole('button', { name: `Unlock device ${attacks[0]}`, exact: true }).click();
  await page.getByRole('dialog').getByText(attacks[0]).first().waitFor();
  await harmless(page, 'a question about a lock', [attacks[0]], '[role=dialog], dialog');
});

await part('devices', async () => {
  const made = await page.evaluate(async (names) => {
    const encode = (b) => btoa(String.fromCharCode(...new Uint8Array(b))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
    const send = (path, body, credentials) => fetch(path, { method: 'POST', credentials, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
    const answers = {};
    for (const name of names) {
      const { code } = await (await send('/api/v1/codes', { user: 'bob' }, 'same-origin')).json();
      const pair = await crypto.subtle.generateKey('Ed25519', false, ['sign']);
      const signature = encode(await crypto.subtle.sign('Ed25519', pair.privateKey, new TextEncoder().encode(`sallyport browser code v1\0${location.origin}\0${code}`)));
      const key = encode(await crypto.subtle.exportKey('raw', pair.publicKey));
      const { status } = await send('/login/code', { code, key, signature, name, platform: name }, 'omit');
      answers[status] = (answers[status] ?? 0) + 1;
    }
    return answers;
  }, attacks);
  must(made[201] === 100, `enrolled: ${JSON.stringify(made)}`);
  await page.goto(told.url + '/admin/devices');
  await settled(page);
  await harmless(page, 'devices');
});

await part('approvals and their reasons', async () => {
  const lines = [[]];
  for (const a of attacks) {
    if ([...lines.at(-1), a].join(' ').length > 200) lines.push([]);
    lines.at(-1).push(a);
  }
  for (const [n, link] of told.others.entries()) {
    const { page: other, context: theirs } = await armed();
    await other.goto(link);
    await other.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();
    for (let i = n; i < lines.length; i += told.others.length) await well(other, 'POST', '/approvals', { target: `a-${String(i).padStart(2, '0')}`, reason: lines[i].join(' ') });
    await theirs.close();
  }
  await page.goto(told.url + '/approvals');
  await settled(page);
  await page.getByRole('heading', { name: 'bob to a-00', exact: false }).waitFor();
  await harmless(page, 'approvals');
  const { id } = (await well(page, 'GET', '/approvals'))[0];
  await well(page, 'POST', `/approvals/${id}`, { approve: false, why: attacks[9] });
  await page.goto(told.url + '/approvals');
  await page.getByText('refused by').waitFor();
  await harmless(page, 'approvals that are decided', [attacks[9]]);
});

await part('the audit log', async () => {
  await page.goto(told.url + '/admin/audit');
  await page.getByLabel('When').selectOption('hour');
  await page.getByLabel('Event').selectOption('lock');
  await page.getByRole('button', { name: 'Show' }).click();
  await page.getByText(attacks[0]).first().waitFor();
  for (const more = page.getByRole('button', { name: /more/i }); (await more.count()) > 0 && (await more.isVisible()); ) {
    await more.click();
    await page.waitForTimeout(200);
  }
  await harmless(page, 'the audit log');
});

await part('files', async () => {
  const files = await context.newPage();
  await files.goto(`${told.url}/files/honest`);
  await signOn(files, { user: told.user, method: 'Password', expect: '', button: 'Show files' });
  await files.getByLabel(/password/i).fill(told.password);
  await files.getByRole('button', { name: 'Continue' }).click();
  await files.getByRole('button', { name: 'Upload files' }).waitFor();
  await files.getByRole('button', { name: `Rename ${told.files[0]}`, exact: true }).waitFor();
  await harmless(files, 'files', told.files);
  await harmless(files, 'where links lead', attacks.filter((_, i) => i % 3 === 2));
  const coming = files.waitForEvent('download');
  await files.locator('td.name button', { hasText: told.files[3] }).first().click();
  const name = (await coming).suggestedFilename();
  must(/^[^<>"|/\\]+$/.test(name), `a download is called ${name}`);
  await files.locator('td.name button', { hasText: told.files[1] }).first().click();
  await files.getByText('Nothing is in this folder.').waitFor();
  await harmless(files, 'a folder, and what was transferred', [told.files[1], told.files[3]]);
  await files.locator('.crumbs button').nth(-2).click();
  await files.getByRole('button', { name: `Delete ${told.files[0]}`, exact: true }).click();
  await harmless(files, 'a question about a file', [told.files[0]], '[role=dialog], dialog');
  await files.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
  await files.close();
});

await part('a terminal and its clipboard', async () => {
  const t = await context.newPage();
  await t.goto(`${told.url}/session/honest/terminal`);
  await signOn(t);
  await readable(t);
  await run(t, `cat ${told.attacks_file}; echo all-$((40+2))`);
  await sees(t, 'all-42');
  const text = (await screen(t)).replace(/\s+/g, '');
  must(text.includes(attacks.at(-1).replace(/\s+/g, '')), `the terminal does not show ${attacks.at(-1)}: ${text.slice(-500)}`);
  const title = await t.title();
  must(title.includes(plain(attacks.at(-1))), `the title is ${title}`);
  await t.getByRole('button', { name: 'Allow' }).click();
  const copied = await t.waitForFunction((all) => navigator.clipboard.readText().then((got) => all.includes(got) && got), attacks);
  await t.getByRole('button', { name: 'Paste', exact: true }).click();
  await sees(t, (await copied.jsonValue()).slice(0, 20));
  await harmless(t, 'a terminal', ['Connected'], '.session');

  // Who ends a session says something to whom it belongs.
  const why = attacks.slice(0, 4).join(' ');
  await page.goto(told.url + '/admin/sessions');
  await page.getByText('by the rule').first().waitFor();
  await harmless(page, 'live sessions', ['the rule ' + attacks[0]]);
  await well(page, 'POST', '/sessions/end', { target: 'honest', why });
  await t.getByRole('alert').first().waitFor();
  await harmless(t, 'the end of a session', [attacks[0]], '.session');
  await t.close();
});

await part('a target that lies', async () => {
  const t = await context.newPage();
  await t.goto(`${told.url}/session/liar/terminal`);
  await signOn(t, { user: 'ends', method: 'Password', expect: '' });
  await t.getByRole('heading', { name: 'liar asks', exact: true }).waitFor();
  await harmless(t, 'questions of a target', attacks, '.session');
  await harmless(t, 'a note of a target', [`liar says: ${attacks[1]}: ${attacks[2]}`], '.session');
  for (const field of await t.locator('.questions input').all()) await field.fill('x');
  await t.getByRole('button', { name: 'Continue' }).click();
  await t.getByText('was ended by the signal').waitFor();
  await harmless(t, 'the signal that a shell ended by', [attacks[5].slice(0, 32)], '.session');
  await t.getByRole('button', { name: 'Connect again' }).click();
  await signOn(t, { user: 'refuse', method: 'Password', expect: '' });
  await t.locator('.questions input').first().waitFor();
  for (const field of await t.locator('.questions input').all()) await field.fill('x');
  await t.getByRole('button', { name: 'Continue' }).click();
  await t.getByText('liar gives no session').waitFor();
  await harmless(t, 'a channel that a target refuses', [attacks[3]], '.session');
  await t.goto(`${told.url}/session/mute/terminal`);
  await signOn(t, { method: 'Password', expect: '' });
  await t.getByText('E_NO_BANNER').waitFor();
  await harmless(t, 'why a target left', [attacks[7]], '.session');
  await t.close();
});

// ---- What the appliance would not take.

// hostile puts an attack wherever an answer has text, but for what says what a thing is.
const kept = new Set(['appliance_time', 'time', 'since', 'enrolled', 'created', 'asked', 'expires', 'last_seen', 'ends', 'seen', 'last_login', 'resumed', 'mfa', 'signed_in_until', 'hash']);
function hostile(value, payload, key = '') {
  if (typeof value === 'string') return kept.has(key) ? value : payload;
  if (Array.isArray(value)) return value.map((v, i) => hostile(v, payload + (i ? i : ''), key));
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [['protocols', 'labels', 'files', 'detail'].includes(key) ? (k === 'ssh' ? k : payload + k) : k, key === 'files' ? btoa(unescape(encodeURIComponent(payload))) : hostile(v, payload, k)]));
  }
  return value;
}

const payloads = attacks.map((a, i) => (i % 5 === 4 ? `${a}\u202e\u0000` : a));

// every has what a list is made of once for each payload, and all else with one of them.
function every(sample) {
  if (Array.isArray(sample)) return payloads.flatMap((p) => sample.map((v) => hostile(v, p)));
  if (sample.events) return { ...sample, events: payloads.map((p, i) => ({ ...hostile(sample.events[0], p), seq: i + 1 })) };
  if (sample.failures) return { ...sample, failures: payloads };
  return hostile(sample, payload);
}

const t = '2026-11-27T10:00:00Z';
const samples = {
  '/targets': [{ name: 'n', vnet: 'n', protocols: { ssh: [22], other: [1] }, labels: { a: 'n' }, latest: { time: t, ok: false, why: 'n', hint: 'n' } }],
  '/grant': { target: 'n', vnet: 'n', protocol: 'n', port: 1, rule: 'n', channels: ['n'], approval: ['n'] },
  '/sessions': [{ session: 'n', flow: 'n', user: 'n', device: 'n', target: 'n', address: 'n', vnet: 'n', protocol: 'n', port: 1, rule: 'n', transport: 'n', source: 'n', client: 'n', since: t, idle_ns: 1, attached: 1, detached_ns: 1, lost: 'n', up: 1, down: 1 }],
  '/approvals': [{ id: 'n', user: 'n', device: 'n', target: 'n', protocol: 'n', group: 'n', reason: 'n', asked: t, expires: t, approved: false, may_decide: true }, { id: 'm', user: 'n', device: 'n', target: 'n', protocol: 'n', group: 'n', asked: t, expires: t, approved: true, decided: t, by: 'n', why: 'n', may_decide: false }],
  '/guests': [{ id: 'n', maker: 'n', target: 'n', vnet: 'n', protocol: 'n', programs: ['n'], approval: 'n', sign_in: true, created: t, expires: t, uses: 1, used: 1, why: 'n', opened: [{ user: 'n', device: 'n', source: 'n', at: t }] }],
  '/me/devices': [{ device: 'n', user: 'n', name: 'n', platform: 'n', enrolled: t, source: 'n', scope: { targets: ['n'], protocols: ['n'] } }],
  '/devices': [{ device: 'n', user: 'n', name: 'n', platform: 'n', enrolled: t, source: 'n', version: 'n', scope: { targets: ['n'], protocols: ['n'] } }],
  '/clients': [{ name: 'n', version: 'n', system: 'n', arch: 'n', size: 1, sha256: 'n' }],
  '/locks': [{ kind: 'n', name: 'n', by: 'n', why: 'n', since: t }],
  '/accounts': [{ user: 'n', source: 'local', groups: ['n'], created: t, has: ['n'] }],
  '/hostkeys': [{ target: 'n', fingerprint: 'n', key: 'n', seen: t, by: 'n', confirmed: t }],
  '/settings': [{ key: 'n', value: 'n' }],
  '/health': { version: 'n', since: t, every_ns: 1e10, cpus: 1, samples: [] },
  '/access': [{ version: 1, created: t, by: 'n', comment: 'n', hash: 'n' }],
  '/access/active': { version: 1, created: t, by: 'n', comment: 'n', hash: 'n', files: { n: 'n' } },
  '/policy': [{ id: 'n', kind: 'n', effect: 'n', place: 'n', limits: ['n'], text: 'n' }],
  '/policy/test': { ran: 1, failures: ['n'] },
  '/audit': { events: [{ seq: 1, time: t, event: 'n', session: 'n', user: 'n', source: 'n', target: 'n', port: 1, policies: ['n'], code: 'n', why: 'n', by: 'n', object: 'n', detail: { n: 'n', sha256: 'n' } }], next: 1, more: false },
};
const pages = ['/', '/sessions', '/approvals', '/guests', '/admin/sessions', '/admin/access', '/admin/accounts', '/admin/devices', '/admin/locks', '/admin/hostkeys', '/admin/audit', '/admin/health', '/admin/settings', '/account', '/downloads'];

let payload = '';
let refuse = false;
await page.setViewportSize({ width: 390, height: 844 });
await page.route('**/api/v1/**', async (route) => {
  const path = new URL(route.request().url()).pathname.slice('/api/v1'.length);
  if (path === '/me') {
    const me = { appliance: 'n', user: 'n', device: 'n', transport: 'n', source: 'n', time: t, groups: ['n', 'n'], scope: { targets: ['n'], protocols: ['n'] }, ...(new URL(page.url()).pathname === '/admin/health' ? { motd: 'n' } : {}) }; // which has no other name
    await route.fulfill({ json: { ...hostile(me, payload), admin: true } });
  } else if (refuse) {
    await route.fulfill({ status: 400, json: { code: payload, error: payload, hint: payload } });
  } else {
    await route.fulfill({ json: every(samples[path] ?? []) });
  }
});

for (const [i, path] of pages.entries()) {
  payload = payloads[i * 7] ?? '';
  await page.goto(told.url + path);
  await settled(page);
  await page.waitForTimeout(100); // what an image or a handler would need to do harm
  const text = await page.locator('#main').innerText();
  must(path === '/admin/health' || text.includes('pwned=1'), `${path} does not show names as text: ${text.slice(0, 200)}`);
  await fits(page, `${path} with hostile names`);
  await harmless(page, path, []);
}

// What is refused is told in words that may come from outside too; and addresses are from outside.
refuse = true;
for (payload of payloads) {
  await page.evaluate((name) => {
    history.pushState(null, '', '/connect/' + encodeURIComponent(name));
    dispatchEvent(new PopStateEvent('popstate'));
  }, payload.replaceAll('\u0000', ''));
  await page.getByRole('alert').first().waitFor();
}
await sound(page);
await done(`${attacks.length} attacks`);
