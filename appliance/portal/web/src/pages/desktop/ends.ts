// Why a desktop has ended, in words: what the appliance has said, or else what the client says.

// An Ending is what a person is told.
export interface Ending {
  code: string;
  sentence: string;
  hint: string;
}

// The client's errors, by kind.
interface ClientError {
  kind(): number;
  backtrace(): string;
}

const ending = (code: string, sentence: string, hint: string): Ending => ({ code, sentence, hint });

const credentials = ending('E_TARGET_AUTH', 'the desktop does not take this user name and password', 'check user, domain and password');
const unreached = ending('E_DESKTOP_CONNECT', 'the appliance could not connect to the desktop', 'try again; if it stays so, tell an administrator');

const kinds: Record<number, Ending> = {
  1: credentials,
  2: credentials,
  3: ending('E_DESKTOP_ACCESS', 'the desktop does not let this user in', 'the machine has a list of who may use it from afar; ask who runs it'),
  4: unreached,
  5: unreached,
  6: ending('E_DESKTOP_SECURITY', 'browser and desktop have no way to secure the connection in common', 'let the appliance do the password exchange; else tell an administrator'),
};

// unproved is what a desktop means that ends the connection when the browser proves the password: most say no more.
export const unproved = ending('E_TARGET_AUTH', credentials.sentence, 'check user, domain and password');

export const over = ending('E_DESKTOP_ENDED', 'the desktop has ended the session', 'connect again, or close the tab');
export const lost = ending('E_DESKTOP_LOST', 'the connection to the desktop has ended', 'reconnect; if it happens again, tell an administrator');
export const panic = ending('E_DESKTOP_PROGRAM', "the desktop's program in this page has failed", 'reconnect; the session on the desktop goes on');

export const unloaded = ending('E_DESKTOP_PROGRAM', "the desktop's program could not be loaded into this page", 'load the page again; the appliance may have a new version');

function isClientError(err: unknown): err is ClientError {
  return typeof err === 'object' && err !== null && 'kind' in err && 'backtrace' in err;
}

function isEnding(err: unknown): err is Ending {
  return typeof err === 'object' && err !== null && !(err instanceof Error) && 'sentence' in err;
}

// isPanic says that the client itself has broken: nothing of it may be used in this document again.
export function isPanic(err: unknown): boolean {
  return err instanceof WebAssembly.RuntimeError || (err instanceof Error && /already borrowed|null pointer passed to rust|recursive use of an object/i.test(err.message));
}

// isVague says that an error of the client's has no reason.
export function isVague(err: unknown): boolean {
  return isClientError(err) && (kinds[err.kind()] ?? lost) === lost;
}

// why is what a person is told of an error, of the client's or of the flow's.
export function why(err: unknown): Ending {
  if (isPanic(err)) return panic;
  if (isEnding(err)) return err;
  if (isClientError(err)) return /disconnect provider ultimatum/i.test(err.backtrace()) ? over : (kinds[err.kind()] ?? lost);
  if (err instanceof Error) {
    const said = err as Error & { code?: unknown; hint?: unknown };
    return ending(typeof said.code === 'string' ? said.code : 'E_INTERNAL', err.message, typeof said.hint === 'string' ? said.hint : '');
  }
  return lost;
}
