// The test's page: it makes a key, becomes a device, and does what the test asks for by go.

import { connecting, identityOf, openWith, type Flow } from '../../appliance/portal/web/src/lib/frame/open';
import { differs, exchange } from './bytes';

const me = { publicKey: new Uint8Array(), privateKey: undefined as unknown as CryptoKey, identity: [] as Uint8Array<ArrayBuffer>[] };

async function become(): Promise<void> {
  const pair = (await crypto.subtle.generateKey('Ed25519', false, ['sign', 'verify'])) as CryptoKeyPair;
  me.privateKey = pair.privateKey;
  me.publicKey = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey));
  await fetch('/enrol', { method: 'POST', body: me.publicKey });
}

const connect = connecting(
  () => new WebSocket(`wss://${location.host}/v1/ws`),
  async () => identityOf(me, async (keys) => void (me.identity = keys)),
  async () => undefined,
);

const open = (port: number): Promise<Flow> => openWith(connect, { target: 'echo', protocol: 'tcp', port });

// seen is what the page tells the test.
const seen = { said: '', received: 0, wrong: -1, attached: 0, state: '', lost: [] as string[], broken: [] as string[] };
Object.assign(window, { seen });
document.addEventListener('securitypolicyviolation', (e) => seen.broken.push(e.violatedDirective));

// watch takes what a target says by itself.
async function watch(port: number): Promise<void> {
  const flow = await open(port);
  flow.onstate = (s) => {
    seen.state = s.state;
    if (s.state === 'open') seen.attached = s.attached;
    if (s.state === 'lost') seen.lost.push(s.why.message);
    if (s.state === 'ended') seen.said = s.why ? `${s.why.code}: ${s.why.message}` : 'in order';
  };
  flow.onbytes = (b) => {
    if (seen.wrong < 0) seen.wrong = differs(seen.received, b);
    seen.received += b.length;
  };
  Object.assign(window, { flow });
}

const go = {
  exchange: async (port: number, size: number, piece: number, pause: number) => {
    seen.said = JSON.stringify(await exchange(await open(port), size, piece, pause));
  },
  watch,
};

Object.assign(window, {
  go: (what: keyof typeof go, ...args: number[]) => {
    (go[what] as (...args: number[]) => Promise<void>)(...args).catch((err: unknown) => (seen.said = String(err)));
  },
});

await become();
seen.said = 'ready';
