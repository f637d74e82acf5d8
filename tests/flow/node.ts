// A page's flow in Node: what it is told by its arguments, and says what came of it.

import { connecting, identityOf, openWith } from '../../appliance/portal/web/src/lib/frame/open';
import type { WebSocketLike } from '../../appliance/portal/web/src/lib/frame/socket';
import { exchange } from './bytes';

const [origin, port, size, piece, pause] = process.argv.slice(2) as [string, string, string, string, string];

const pair = (await crypto.subtle.generateKey('Ed25519', false, ['sign', 'verify'])) as CryptoKeyPair;
const publicKey = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey));
const enrolled = await fetch(origin + '/enrol', { method: 'POST', body: publicKey });
const cookie = enrolled.headers.get('set-cookie')!.split(';')[0]!;

// Node's own WebSocket takes headers, as no browser's does.
type Dialer = new (url: string, options: { headers: Record<string, string> }) => WebSocketLike;
const Dialing = (globalThis as unknown as { WebSocket: Dialer }).WebSocket;
const dial = (): WebSocketLike => new Dialing(origin.replace('https', 'wss') + '/v1/ws', { headers: { Origin: origin, Cookie: cookie } });

const me = { publicKey, privateKey: pair.privateKey, identity: [] as Uint8Array<ArrayBuffer>[] };
const identity = async () => identityOf(me, async (keys) => void (me.identity = keys));
const flow = await openWith(connecting(dial, identity, async () => undefined), { target: 'echo', protocol: 'tcp', port: Number(port) });
console.log(JSON.stringify({ flow: flow.id }));
console.log(JSON.stringify(await exchange(flow, Number(size), Number(piece), Number(pause))));
process.exit(0);
