// The device that this browser is: an Ed25519 key that no script can read, in IndexedDB, from the sign-in until the person
// logs out. It signs HELLO of the frame protocol and nothing else.
//
//	const { publicKey, privateKey } = await makeKey();   // at the sign-in, before POST /login/browser
//	await keepDevice({ id, user, publicKey, privateKey, identity: [] });
//	const me = await device();                           // undefined: nobody has signed in here
//	await forgetDevice();                                // at the logout
//
// Database sallyport, store device, key key.

import { refuse } from './frame/errors';
import { same, type Bytes } from './frame/keys';

export interface Device {
  id: string;
  user: string;
  publicKey: Bytes; // 32 bytes
  privateKey: CryptoKey;

  // The appliance's identity keys, from the first WELCOME on: the one that signs, and those that it names as its successors.
  identity: Bytes[];
}

const name = 'sallyport';
const store = 'device';
const only = 'key';

export async function makeKey(): Promise<{ publicKey: Bytes; privateKey: CryptoKey }> {
  const pair = (await crypto.subtle.generateKey({ name: 'Ed25519' }, false, ['sign', 'verify'])) as CryptoKeyPair;
  return { publicKey: new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey)), privateKey: pair.privateKey };
}

export const device = (): Promise<Device | undefined> => within('readonly', (s) => s.get(only) as IDBRequest<Device | undefined>);

export async function keepDevice(d: Device): Promise<void> {
  await within('readwrite', (s) => s.put(d, only));
}

export async function forgetDevice(): Promise<void> {
  await within('readwrite', (s) => s.delete(only));
}

// trusting is what d's pins become by the keys of a WELCOME whose signature is good: undefined, they stay. Another key than a
// pinned one is a hard stop.
export function trusting(pinned: Bytes[], keys: Bytes[]): Bytes[] | undefined {
  const known = (k: Bytes): boolean => pinned.some((p) => same(p, k));
  if (pinned.length === 0) return keys; // the first, on a connection whose certificate the browser has verified
  if (!known(keys[0]!))
    throw refuse('E_APPLIANCE_CERT', 'this is not the appliance that this browser signed in to: it has another identity key', "ask the appliance's administrator; if it was set up anew, sign in again");
  if (!same(keys[0]!, pinned[0]!)) return keys; // a successor signs: the key before it is good no more
  const more = keys.slice(1).filter((k) => !known(k));
  return more.length > 0 ? [...pinned, ...more] : undefined;
}

async function within<T>(mode: IDBTransactionMode, act: (s: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const db = await new Promise<IDBDatabase>((resolve, reject) => {
    const asked = indexedDB.open(name, 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(store);
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error ?? new Error('the browser keeps no data for this page'));
  });
  try {
    return await new Promise<T>((resolve, reject) => {
      const t = db.transaction(store, mode);
      const asked = act(t.objectStore(store));
      t.oncomplete = () => resolve(asked.result);
      t.onabort = () => reject(t.error ?? new Error('the browser keeps no data for this page'));
    });
  } finally {
    db.close();
  }
}
