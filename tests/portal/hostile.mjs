// A hundred names that are attacks, through everything that has a name. What the appliance itself would not take is put into
// its answers on their way, so that what shows names is seen, and not what checks them.
import { done, fault, fits, must, person, settled, sound, told } from './browser.mjs';

const tags = ['<script>X</script>', '<img src=x onerror=X>', '<svg onload=X>', '<svg><script>X</script></svg>', '<iframe src="javascript:X">', '<body onload=X>', '<details open ontoggle=X>', '<input autofocus onfocus=X>', '<video><source onerror=X>', '<a href="javascript:X">n</a>',
  '<math><mi xlink:href="javascript:X">', '<object data="javascript:X">', '<embed src="javascript:X">', '<form action="javascript:X"><button>', '<meta http-equiv=refresh content="0;url=javascript:X">', '<link rel=stylesheet href="//evil.example/X">', '<base href="//evil.example/">', '<style>@import "//evil.example"</style>', '<template><script>X</script></template>', '<noscript><img src=x onerror=X></noscript>'];
const around = [(t) => t, (t) => `"${'>'}${t}`, (t) => `'${'>'}${t}`, (t) => `${'</td></script></title></style>'}${t}`, (t) => `{@html ${t}}\${X}{{X}}<%=X%>\u202e\u0000${t}`];
const payloads = tags.flatMap((t) => around.map((a) => a(t).replaceAll('X', 'window.hacked=1')));
must(payloads.length === 100, `${payloads.length} payloads`);

// hostile puts a payload wherever an answer has text, but for what says what a thing is.
const kept = new Set(['appliance_time', 'time', 'since', 'enrolled', 'created', 'asked', 'expires', 'last_seen', 'ends', 'seen', 'last_login', 'resumed', 'mfa', 'signed_in_until', 'hash']);
function hostile(value, payload, key = '') {
  if (typeof value === 'string') return kept.has(key) ? value : payload;
  if (Array.isArray(value)) return value.map((v, i) => hostile(v, payload + (i ? i : ''), key));
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [['protocols', 'labels', 'files'].includes(key) ? (k === 'ssh' ? k : payload + k) : k, key === 'files' ? btoa(unescape(encodeURIComponent(payload))) : hostile(v, payload, k)]));
  }
  return value;
}

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
  '/policy/test': { ran: 1, failures: ['n'] },
  '/audit': { events: [{ seq: 1, time: t, event: 'n', session: 'n', user: 'n', source: 'n', target: 'n', port: 1, policies: ['n'], code: 'n', why: 'n', by: 'n', object: 'n' }], next: 1, more: false },
};
const pages = ['/', '/sessions', '/approvals', '/admin/sessions', '/admin/access', '/admin/accounts', '/admin/devices', '/admin/locks', '/admin/hostkeys', '/admin/audit', '/admin/health', '/admin/settings', '/account', '/downloads'];

const { page, context } = await person({ viewport: { width: 390, height: 844 } });
await context.addInitScript(() => Object.defineProperty(window, 'hacked', { set: () => console.error('HACKED'), get: () => undefined }));
await page.goto(told.link);
await page.getByRole('heading', { name: 'Targets', level: 1 }).waitFor();

let payload = '';
let refuse = false;
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
  must(text.includes('window.hacked=1'), `${path} does not show names as text: ${text.slice(0, 200)}`);
  await fits(page, `${path} with hostile names`);
  if (await page.evaluate(() => document.querySelector('#main :is(script, iframe, img, object, embed, style, base, video, math, meta, link)') !== null)) fault(`a name has become an element of ${path}`);
  await sound(page);
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
await done(`${payloads.length} names through ${pages.length + 1} pages`);
