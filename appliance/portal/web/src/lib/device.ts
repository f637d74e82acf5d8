// This browser as a device: a key that it makes for itself when somebody signs in, and that it cannot be made to give away.
// The key signs what the frame protocol asks of a device; the API has the cookie.
//
//	const device = await kept();
//	const signature = await sign(device, message);

import { decode, encode } from './base64';
import { post, Refusal } from './api';

export interface Device {
  id: string;
  user: string;
  publicKey: Uint8Array<ArrayBuffer>; // Ed25519, 32 bytes
  privateKey: CryptoKey; // not extractable
  identity: Uint8Array<ArrayBuffer>[]; // the keys that the appliance signs with
}

const database = 'sallyport';
const store = 'device';
const key = 'key';
const fresh = 'new'; // a key that is no device's yet

interface Enrolled {
  user: string;
  device: string;
  identity?: string[];
}

// kept is the device that this browser is, if it is one.
export function kept(): Promise<Device | undefined> {
  return transact<Device | undefined>('readonly', (s) => s.get(key));
}

// forget gives the key up for good.
export function forget(): Promise<void> {
  return transact<void>('readwrite', (s) => s.clear());
}

export async function sign(device: Pick<Device, 'privateKey'>, message: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await crypto.subtle.sign('Ed25519', device.privateKey, message));
}

// enrol makes this browser a device of who has just signed in here.
export async function enrol(): Promise<Device> {
  const made = await make();
  return keep(made, await post<Enrolled>('/login/browser', { key: encode(made.publicKey), name: browserName(), platform: 'browser' }));
}

// enrolByCode makes this browser a device of the person whose one-time code this is.
export async function enrolByCode(code: string): Promise<Device> {
  const made = await make();
  const message = new TextEncoder().encode(`sallyport browser code v1\0${location.origin}\0${code}`);
  const signature = encode(await sign(made, message));
  return keep(made, await post<Enrolled>('/login/code', { code, key: encode(made.publicKey), signature, name: browserName(), platform: 'browser' }));
}

// pin keeps the identity keys that the appliance signs with from now on.
export async function pin(device: Device, identity: Uint8Array<ArrayBuffer>[]): Promise<void> {
  await transact('readwrite', (s) => s.put({ ...device, identity }, key));
}

type Made = Pick<Device, 'publicKey' | 'privateKey'>;

const unfit = (sentence: string, hint: string) => new Refusal('E_BROWSER', sentence, hint, 0);

// make makes a key, and keeps it: a browser that cannot shall find out before the appliance takes it for a device.
async function make(): Promise<Made> {
  if (!navigator.cookieEnabled) throw unfit('this browser keeps no cookies for this page', 'allow them for this address, then sign in again');
  if (!crypto.subtle) throw unfit('this browser makes keys for addresses that begin with https:// only', 'open the address with https://');
  // X25519 is for connections: each has a key of its own.
  const [pair] = await Promise.all([crypto.subtle.generateKey('Ed25519', false, ['sign', 'verify']), crypto.subtle.generateKey('X25519', false, ['deriveBits'])]).catch(() => {
    throw unfit('this browser is too old to make the keys that it needs', 'take a newer one: Chromium 137, Firefox 130, Safari 17.4 or later');
  });
  const { publicKey, privateKey } = pair as CryptoKeyPair;
  const made = { privateKey, publicKey: new Uint8Array(await crypto.subtle.exportKey('raw', publicKey)) };
  await transact('readwrite', (s) => s.put(made, fresh));
  return made;
}

async function keep(made: Made, enrolled: Enrolled): Promise<Device> {
  const device = { ...made, id: enrolled.device, user: enrolled.user, identity: (enrolled.identity ?? []).map(decode) };
  await transact('readwrite', (s) => {
    s.delete(fresh);
    return s.put(device, key);
  });
  return device;
}

function transact<T>(mode: IDBTransactionMode, act: (s: IDBObjectStore) => IDBRequest): Promise<T> {
  return new Promise((resolve, reject) => {
    const no = () => reject(unfit('this browser keeps nothing for this page', 'a private window may be the reason, or a setting that blocks cookies and site data'));
    let opening: IDBOpenDBRequest;
    try {
      opening = indexedDB.open(database, 1);
    } catch {
      return no();
    }
    opening.onupgradeneeded = () => opening.result.createObjectStore(store);
    opening.onerror = no;
    opening.onsuccess = () => {
      const db = opening.result;
      const t = db.transaction(store, mode);
      let asked: IDBRequest;
      try {
        asked = act(t.objectStore(store));
      } catch {
        db.close();
        return no();
      }
      t.oncomplete = () => {
        db.close();
        resolve(asked.result as T);
      };
      t.onerror = t.onabort = () => {
        db.close();
        no();
      };
    };
  });
}

interface Brands {
  brands: { brand: string }[];
  platform: string;
}

// browserName is what a person would call this browser, such as Firefox on Windows. Most browsers claim to be others too:
// the order matters.
function browserName(agent = navigator.userAgent, brands = (navigator as { userAgentData?: Brands }).userAgentData): string {
  const has = (brand: string) => brands?.brands.some((b) => b.brand === brand) ?? false;
  const names: [boolean, string][] = [
    [/\bEdgA?\/|\bEdgiOS\//.test(agent), 'Edge'],
    [/\bOPR\//.test(agent), 'Opera'],
    [/\b(Firefox|FxiOS)\//.test(agent), 'Firefox'],
    [/\bHeadlessChrome\//.test(agent), 'Chromium'],
    [brands !== undefined && /\bChrome\//.test(agent) && !has('Google Chrome'), 'Chromium'],
    [/\b(Chrome|CriOS)\//.test(agent), 'Chrome'],
    [/\bSafari\//.test(agent), 'Safari'],
  ];
  const systems: [RegExp, string][] = [
    [/\biPhone\b/, 'iPhone'],
    [/\biPad\b/, 'iPad'],
    [/\bAndroid\b/, 'Android'],
    [/\bWindows\b/, 'Windows'],
    [/\bMacintosh\b/, 'macOS'],
    [/\bCrOS\b/, 'ChromeOS'],
    [/\bLinux\b/, 'Linux'],
  ];
  const name = names.find(([is]) => is)?.[1] ?? 'A browser';
  const system = systems.find(([is]) => is.test(agent))?.[1];
  return system ? `${name} on ${system}` : name;
}
