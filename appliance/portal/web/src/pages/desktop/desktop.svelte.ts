// A Desktop is what a document shows: it connects, connects anew to the same session, and says why it is over.
//
//	form → connecting → open → ended
//	           ↑          │ another size
//	           └──────────┘
//
// A document has one. When the client breaks it takes the document with it: the page is loaded again, and joins the session.

import { Backend, displayControl, enableCredssp, init } from '@devolutions/iron-remote-desktop-rdp';
import { outlives } from '../../lib/flow';
import { heldSession, holdSession } from '../../lib/held';
import { Clipboard, type Allowed } from './clipboard';
import { isPanic, isVague, over, panic, unloaded, unproved, why, type Ending } from './ends';
import { Input, type Client } from './input';
import { Link, type Heard } from './link';
import type { Start, State } from './program';
import type { Settings } from './settings';
import type { Size } from './size';

export type Phase = 'form' | 'connecting' | 'open' | 'ended';

// Credentials are what a session is begun with. Who they are of is in the settings.
export interface Credentials {
  password: string; // empty: the desktop asks itself
}

// Told is what a person is told while the desktop goes on.
export interface Told {
  sentence: string;
  detail: string;
}

type Builder = InstanceType<typeof Backend.SessionBuilder>;

const patience = 1000; // milliseconds that the appliance has to say why, after the client has failed
const grace = 1000; // milliseconds that the client has to ask for another size: it cannot where the desktop has opened no channel for it

export class Desktop {
  phase = $state<Phase>('form');
  resuming = $state(false);
  ending = $state.raw<Ending | undefined>(undefined);
  told = $state.raw<Told | undefined>(undefined); // beside the desktop, until it is put away
  certificate = $state('');
  picture = $state.raw<Size>({ width: 0, height: 0 });
  allowed = $state.raw<Allowed>({ in: false, out: false });
  cursor = $state('default');
  broken = $state(false); // the document is of no use for another connection

  input: Input | undefined;
  clipboard: Clipboard | undefined;

  private link: Link | undefined;
  private client: Client | undefined;
  private resizable = false; // as the target's profile says
  private resized: (() => void) | undefined; // waits for the canvas to have another size
  private turn = 0; // of the newest connection; those before it have nothing to say
  private coming = new AbortController(); // of its flow, while that is not open yet
  private said: Ending | undefined; // by the appliance: why it is over

  constructor(
    readonly target: string,
    private readonly canvas: HTMLCanvasElement,
  ) {
    new MutationObserver(this.changed).observe(canvas, { attributeFilter: ['width', 'height'] });
  }

  // session is there when this tab has one that may be joined.
  get session(): string | undefined {
    return heldSession(this.target, 'desktop');
  }

  // connect begins a session with credentials; without, it joins the one that the tab has.
  async connect(settings: Settings, size: Size, credentials?: Credentials): Promise<void> {
    const turn = this.next();
    this.phase = 'connecting';
    this.resuming = false;
    this.ending = this.told = this.said = undefined;
    try {
      const client = await this.reach(turn, settings, size, credentials);
      this.begin(client);
      await client.run();
      await this.stop(turn, over);
    } catch (err) {
      await this.stop(turn, this.phase === 'connecting' && settings.exchange === 'browser' && isVague(err) ? unproved : err);
    }
  }

  // end is the person's: the session on the desktop is left, and what the appliance has kept for it is forgotten.
  end(): void {
    this.next();
    this.drop();
    holdSession(this.target, 'desktop', undefined);
    this.phase = 'form';
  }

  // leave is for a page that is left: a session that can be joined without a password goes on, for as long as the appliance keeps a
  // flow that has no connection.
  leave(): void {
    this.next();
    this.drop(this.session !== undefined);
  }

  // resize has the desktop change its size while it is shown, and says whether it could be asked to.
  async resize(size: Size): Promise<boolean> {
    const client = this.resizable && this.phase === 'open' ? this.client : undefined;
    if (!client) return false;
    const asked = new Promise<boolean>((done) => {
      this.resized = () => done(true);
      setTimeout(() => done(false), grace);
    });
    client.resize(size.width, size.height);
    return asked;
  }

  // fail is told of errors that no call has returned: the client's own, when it breaks.
  fail(err: unknown): boolean {
    if (!isPanic(err) || this.broken) return isPanic(err);
    this.next();
    this.broken = true;
    this.input = undefined;
    this.link?.let(); // the flow stays, so that the next document finds the session
    this.phase = 'ended';
    this.ending = panic;
    return true;
  }

  // reach opens a flow, has the client connect on it, and lets go of the flow before.
  private async reach(turn: number, settings: Settings, size: Size, credentials: Credentials | undefined): Promise<Client> {
    const browser = settings.exchange === 'browser';
    const joins = credentials ? undefined : this.session;
    const start: Start = { width: size.width, height: size.height, credssp: settings.exchange };
    if (!joins) Object.assign(start, { user: settings.user, domain: settings.domain });
    if (credentials?.password && !browser) start.password = credentials.password;
    const link = await Link.open(this.target, joins, start, this.heard(turn), this.coming.signal);
    if (turn !== this.turn) {
      if (joins && this.session) link.leave();
      else link.close();
      throw over;
    }
    this.coming = new AbortController(); // what ends now is the flow's own matter
    this.link?.close();
    this.link = link;
    holdSession(this.target, 'desktop', browser ? undefined : link.session);
    await Promise.all([init('OFF').catch(() => Promise.reject(unloaded)), link.answered]);
    if (link.ended) throw link.ended;
    return this.build(link, settings, size, browser ? (credentials?.password ?? '') : '').connect();
  }

  private build(link: Link, settings: Settings, size: Size, password: string): Builder {
    const builder = new Backend.SessionBuilder()
      .username(settings.user)
      .password(password)
      .serverDomain(settings.domain)
      .destination(this.target)
      .proxyAddress('flow')
      .authToken('flow')
      .desktopSize(new Backend.DesktopSize(size.width, size.height))
      .renderCanvas(this.canvas)
      .setCursorStyleCallbackContext(this)
      .setCursorStyleCallback(this.point)
      .extension(displayControl(true)) // the appliance knows which desktops have it
      .extension(enableCredssp(settings.exchange === 'browser'));
    link.offer();
    const clipboard = new Clipboard(
      () => this.allowed,
      (sentence) => this.tell(sentence),
    );
    this.clipboard = clipboard;
    return builder.remoteClipboardChangedCallback(clipboard.came).forceClipboardUpdateCallback(clipboard.asked);
  }

  private begin(client: Client): void {
    const size = client.desktopSize();
    this.picture = { width: size.width, height: size.height };
    this.canvas.width = size.width;
    this.canvas.height = size.height;
    this.client = client;
    this.input = new Input(client);
    this.clipboard?.attach(client);
    this.phase = 'open';
  }

  // stop is the end of a connection that was not asked for.
  private async stop(turn: number, err: unknown): Promise<void> {
    if (turn !== this.turn || this.fail(err)) return;
    await this.link?.until(patience);
    if (turn !== this.turn) return;
    this.next();
    const connected = this.phase === 'open';
    this.ending = this.said ?? (connected || !this.link ? (this.link?.ended ?? why(err)) : why(err));
    this.phase = this.ending.code === 'E_TARGET_AUTH' ? 'form' : 'ended';
    const goesOn = this.link?.ended ? this.link.outlived : outlives(err, false);
    this.drop(goesOn);
    if (!goesOn) holdSession(this.target, 'desktop', undefined);
  }

  // next is the turn of another connection, or of none.
  private next(): number {
    this.coming.abort();
    this.coming = new AbortController();
    return ++this.turn;
  }

  // drop lets go of the connection, and of the session unless that goes on.
  private drop(goesOn = false): void {
    this.resuming = false;
    this.input = undefined;
    this.client = undefined;
    this.clipboard = undefined;
    if (goesOn) this.link?.leave();
    else this.link?.close();
    this.link = undefined;
  }

  private heard(turn: number): Heard {
    const mine = () => turn === this.turn;
    return {
      state: (s) => mine() && this.stands(s),
      notice: (n) => mine() && (this.said = { code: n.code, sentence: n.sentence, hint: n.hint ?? '' }),
      resuming: (lost) => mine() && (this.resuming = lost),
      line: (text) => mine() && this.tell(text),
    };
  }

  private stands(s: State): void {
    if (s.state === 'open') {
      this.allowed = { in: s.clipboard_in === true, out: s.clipboard_out === true };
      this.resizable = s.resize === true;
    }
    if (s.certificate) this.certificate = s.certificate;
    if (s.first && s.certificate) this.tell('This desktop was never seen before. Its certificate is expected from now on.', s.certificate);
  }

  // changed is called when the canvas has another size: the client gives it the one that the desktop was asked for.
  private changed = (): void => {
    this.picture = { width: this.canvas.width, height: this.canvas.height };
    this.resized?.();
  };

  private tell(sentence: string, detail = ''): void {
    this.told = { sentence, detail };
  }

  // point is called by the client with the desktop's pointer.
  private point = (style: string, data: string | undefined, x: number | undefined, y: number | undefined): void => {
    if (style === 'hidden') this.cursor = 'none';
    else if (style === 'url' && data && /^data:image\/png;base64,[A-Za-z0-9+/=]+$/.test(data)) this.cursor = `url(${data}) ${Number(x ?? 0)} ${Number(y ?? 0)}, default`;
    else this.cursor = 'default';
  };
}
