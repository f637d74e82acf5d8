// Text between the clipboard of this computer and the desktop's. The appliance lets through what policy allows, in each
// direction; what is here does not ask the browser for more.

import { Backend } from '@devolutions/iron-remote-desktop-rdp';
import type { Client } from './input';

type Data = InstanceType<typeof Backend.ClipboardData>;

const text = 'text/plain';
const most = 1 << 20; // characters, either way: what is larger is a file
const settle = 150; // milliseconds that a desktop has to learn of a clipboard before a key that pastes it

// Allowed is what policy says of this flow.
export interface Allowed {
  in: boolean; // to the desktop
  out: boolean; // from it
}

export class Clipboard {
  private here = ''; // what the desktop has of ours, or we of its
  private kept: string | undefined; // that the browser has not taken yet
  private client: Client | undefined;
  private open = false; // the desktop has said that it takes a clipboard: before, it would not understand

  constructor(
    private readonly allowed: () => Allowed,
    private readonly tell: (sentence: string) => void,
  ) {}

  attach(client: Client): void {
    this.client = client;
  }

  // came is text that was copied on the desktop.
  came = (data: Data): void => {
    const found = data.items().find((item) => item.mimeType().startsWith(text));
    const value: unknown = found?.value();
    if (!this.allowed().out || typeof value !== 'string' || value === '') return;
    if (value.length > most) {
      this.tell('The text that was copied on the desktop is too large for the clipboard.');
      return;
    }
    this.here = value;
    void this.keep(value);
  };

  // asked is the client, once there is a channel, or when the desktop wants to know what is here.
  asked = (): void => {
    this.open = true;
    void this.look(true);
  };

  // look tells the desktop what is in the clipboard here, where the browser lets the page see it without asking.
  async look(always = false): Promise<void> {
    await this.again();
    if (!this.allowed().in || !document.hasFocus()) {
      if (always) await this.give('');
      return;
    }
    let now = '';
    try {
      const permission = await navigator.permissions.query({ name: 'clipboard-read' as PermissionName });
      if (permission.state === 'granted') now = await navigator.clipboard.readText();
    } catch {
      // This browser gives the clipboard away at a paste alone.
    }
    if (always || (now !== '' && now !== this.here)) await this.give(now);
  }

  // pasted is what the browser gives away at a paste. What it returns ends when the desktop knows of it.
  async pasted(value: string): Promise<void> {
    if (!this.allowed().in) {
      this.tell('Policy does not allow to paste from here into this desktop.');
      return;
    }
    if (value === '' || value === this.here) return;
    await this.give(value);
    await new Promise((done) => setTimeout(done, settle));
  }

  // again gives the browser what it has not taken: it does from a page that is looked at, some only after a key.
  async again(): Promise<void> {
    if (this.kept !== undefined && document.hasFocus()) await this.keep(this.kept);
  }

  private async keep(value: string): Promise<void> {
    this.kept = value;
    try {
      await navigator.clipboard.writeText(value);
      if (this.kept === value) this.kept = undefined;
    } catch {
      // again() is called when that may be otherwise.
    }
  }

  private async give(value: string): Promise<void> {
    if (value.length > most) {
      this.tell('The text in your clipboard is too large for the desktop.');
      return;
    }
    if (!this.open) return;
    const data = new Backend.ClipboardData();
    if (value !== '') {
      data.addText(text, value);
      this.here = value;
    }
    await this.client?.onClipboardPaste(data);
  }
}
