// Flows: connections to targets that survive the network. A flow goes on over another WebSocket when one is lost, and no byte
// is lost, doubled or reordered.
//
//	const flow = await openFlow({ target: 'db-1', protocol: 'ssh', program: 'terminal' });
//	flow.onstate = (s) => …;          // open, lost (it is being resumed), ended
//	flow.onbytes = (b) => write(b);   // a promise holds the far side up
//	await flow.send(bytes);           // waits while much is under way
//	flow.close();
//
// What is refused rejects with a Refusal: code, message, hint.

import { kept, pin } from './device';
import { refuse, Refusal } from './frame/errors';
import type { Identity } from './frame/hello';
import { connecting, identityOf, openWith, type Ask, type Flow } from './frame/open';
import type { Dial } from './frame/socket';

export { Refusal } from './frame/errors';
export { outlives, type Ask, type Flow } from './frame/open';
export type { State } from './frame/stream';

// openFlow opens a flow as the device that this browser is.
export async function openFlow(ask: Ask): Promise<Flow> {
  return openWith(connecting(ownDial, ownIdentity, whyNot), ask);
}

const ownDial: Dial = () => new WebSocket(`wss://${location.host}/v1/ws`);

async function ownIdentity(): Promise<Identity> {
  const me = await kept();
  if (!me) throw signedOut();
  return identityOf(me, (identity) => pin(me, identity));
}

const signedOut = (): Refusal => new Refusal({ code: 'E_SIGNED_OUT', sentence: 'this browser is not signed in any more', hint: 'sign in again' }, true);

// whyNot asks in another way than by a WebSocket: whether the sign-in is over, the appliance's database away, or the network.
async function whyNot(): Promise<Refusal | undefined> {
  try {
    const answer = await fetch('/api/v1/me', { cache: 'no-store', credentials: 'same-origin', redirect: 'error', signal: AbortSignal.timeout(5000) });
    if (answer.ok) return refuse('E_NO_PATH', 'the appliance answers, but its WebSocket does not open', 'try again; if it stays so, something on the way lets no WebSockets through: try another network');
    if (![401, 403, 503].includes(answer.status)) return undefined;
    const said = (await answer.json()) as { code?: string; error?: string; hint?: string };
    return said.code ? new Refusal({ code: said.code, sentence: said.error ?? '', hint: said.hint ?? '' }, true) : undefined;
  } catch {
    return undefined; // it is the network
  }
}
