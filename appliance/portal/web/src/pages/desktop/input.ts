// What a person does, as the desktop's client takes it.

import { Backend } from '@devolutions/iron-remote-desktop-rdp';
import { scancode, type Chord } from './scancodes';

export type Client = Awaited<ReturnType<InstanceType<typeof Backend.SessionBuilder>['connect']>>;
type Event = ReturnType<typeof Backend.DeviceEvent.keyPressed>;

const notch = 120; // of a wheel, as RDP counts
const pixels = 0; // the unit that is taken as it is; the package does not export its names

export class Input {
  private waiting: Event[][] | undefined; // while it is held

  constructor(private readonly client: Client) {}

  private apply(...events: Event[]): void {
    if (this.waiting) {
      this.waiting.push(events);
      return;
    }
    const all = new Backend.InputTransaction();
    for (const event of events) all.addEvent(event);
    this.client.applyInputs(all);
  }

  // hold keeps back what comes until something has been done that the desktop must know before; the order stays.
  async hold(until: Promise<unknown>): Promise<void> {
    if (this.waiting) return;
    this.waiting = [];
    try {
      await until;
    } finally {
      const events = this.waiting;
      this.waiting = undefined;
      for (const some of events) this.apply(...some);
    }
  }

  key(code: number, down: boolean): void {
    this.apply(down ? Backend.DeviceEvent.keyPressed(code) : Backend.DeviceEvent.keyReleased(code));
  }

  // text types characters that have no key here.
  text(text: string): void {
    for (const char of text) {
      if (char === '\n' || char === '\r') {
        this.chord({ name: 'Enter', keys: ['Enter'] });
        continue;
      }
      this.apply(Backend.DeviceEvent.unicodePressed(char), Backend.DeviceEvent.unicodeReleased(char));
    }
  }

  chord(chord: Chord): void {
    const codes = chord.keys.map(scancode).filter((c) => c !== undefined);
    for (const code of codes) this.key(code, true);
    for (const code of codes.reverse()) this.key(code, false);
  }

  move(x: number, y: number): void {
    this.apply(Backend.DeviceEvent.mouseMove(x, y));
  }

  button(button: number, down: boolean): void {
    this.apply(down ? Backend.DeviceEvent.mouseButtonPressed(button) : Backend.DeviceEvent.mouseButtonReleased(button));
  }

  // wheel turns by notches: some servers make one of any movement, however small it is. Up and left are positive.
  wheel(vertical: boolean, notches: number): void {
    const step = Math.sign(notches) * notch;
    for (let i = 0; i < Math.min(Math.abs(notches), 20); i++) this.apply(Backend.DeviceEvent.wheelRotations(vertical, step, pixels));
  }

  locks(scroll: boolean, num: boolean, caps: boolean): void {
    if (!this.waiting) this.client.synchronizeLockKeys(scroll, num, caps, false);
  }

  release(): void {
    this.client.releaseAllInputs();
  }
}
