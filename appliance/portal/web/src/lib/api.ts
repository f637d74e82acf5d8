// The appliance's API: JSON each way, the cookie says who asks. What it refuses is a Refusal, whose message is a sentence
// for people.
//
//	const targets = await api<Target[]>('GET', '/targets');
//	await api('POST', '/sessions/end', { sessions: [id] });

import { signInAgain } from './router.svelte';

export class Refusal extends Error {
  constructor(
    readonly code: string,
    sentence: string,
    readonly hint: string,
    readonly status: number,
  ) {
    super(sentence);
    this.name = 'Refusal';
  }
}

// Who is told one of these is not signed in any more, and is sent to where that can be done.
const signedOut = new Set(['E_SIGNED_OUT', 'E_DEVICE_UNKNOWN', 'E_DEVICE_REVOKED']);

export type Method = 'GET' | 'POST' | 'DELETE';

export async function api<T>(method: Method, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const response = await ask(method, '/api/v1' + path, body, signal);
  const text = await response.text();
  if (response.ok) return JSON.parse(text) as T;
  const no = refusal(response.status, text);
  if (response.status === 401 || (response.status !== 404 && signedOut.has(no.code))) {
    signInAgain();
    return new Promise(() => {}); // the page is on its way to another
  }
  throw no;
}

// post is for what is asked without being signed in.
export async function post<T>(path: string, body: unknown): Promise<T> {
  const response = await ask('POST', path, body);
  const text = await response.text();
  if (!response.ok) throw refusal(response.status, text);
  return (text === '' ? {} : JSON.parse(text)) as T;
}

async function ask(method: Method, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const init: RequestInit = { method, cache: 'no-store', credentials: 'same-origin', redirect: 'error' };
  if (signal) init.signal = signal;
  if (body !== undefined) {
    init.headers = { 'Content-Type': 'application/json' };
    init.body = JSON.stringify(body);
  }
  try {
    return await fetch(path, init);
  } catch (err) {
    if (signal?.aborted) throw err;
    throw new Refusal('E_UNREACHABLE', 'the appliance does not answer', 'look at your network, then try again', 0);
  }
}

function refusal(status: number, text: string): Refusal {
  try {
    const said = JSON.parse(text) as { code?: string; error?: string; hint?: string };
    if (said.error) return new Refusal(said.code ?? '', said.error, said.hint ?? '', status);
  } catch {
    // No JSON: the appliance was not asked, or answered in a plain line.
  }
  const line = text.length < 200 ? text.trim() : '';
  return new Refusal('E_INTERNAL', line || `the appliance answers with status ${status}`, 'try again; if it stays so, tell an administrator', status);
}

// at makes a query of what is there.
export function at(path: string, query: Record<string, string | number | undefined>): string {
  const q = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined && value !== '') q.set(name, String(value));
  const text = q.toString();
  return text === '' ? path : path + '?' + text;
}
