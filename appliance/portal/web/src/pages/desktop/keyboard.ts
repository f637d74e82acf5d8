// The keyboard: every key goes to the desktop by its place, while the desktop has the keyboard. Whoever wants the characters
// of their own layout instead has them as Unicode, where no key of a command is held.

import { WayOut } from '../../lib/way-out';
import type { Input } from './input';
import { scancode } from './scancodes';

const locking = new Set(['CapsLock', 'NumLock', 'ScrollLock']);

export class Keyboard {
  unicode = false;

  private readonly down = new Map<string, number>(); // by KeyboardEvent.code
  private locks = '';
  private readonly out = new WayOut();

  constructor(
    private readonly input: Input,
    private readonly leave: () => void,
    private readonly paste: () => void, // a paste is about to be typed
  ) {}

  press(e: KeyboardEvent): void {
    if (e.isComposing) return;
    this.synchronize(e);
    this.out.press(e);
    if (this.pastes(e)) this.paste();
    else e.preventDefault();
    if (this.unicode && e.key === 'Dead') return; // what it makes comes with the next key
    if (this.unicode && this.types(e)) {
      this.input.text(e.key);
      return;
    }
    const code = scancode(e.code);
    if (code === undefined) return;
    this.down.set(e.code, code);
    this.input.key(code, true);
  }

  lift(e: KeyboardEvent): void {
    if (e.isComposing) return;
    e.preventDefault();
    const code = this.down.get(e.code);
    if (code !== undefined) {
      this.down.delete(e.code);
      this.input.key(code, false);
    }
    const leaves = this.out.lift(e);
    if (leaves || e.key === 'Meta') this.release(); // macOS says nothing of keys that are let go while Command is held
    if (leaves) this.leave();
  }

  // release lets go of all that is held: the desktop would hold it for good when the page has the keyboard no more.
  release(): void {
    this.down.clear();
    this.out.forget();
    this.input.release();
  }

  // synchronize tells how the locks are here. It comes before a key, because servers let go of all keys for it.
  synchronize(e: KeyboardEvent | MouseEvent): void {
    if (e instanceof KeyboardEvent && locking.has(e.key)) {
      this.locks = ''; // the key itself turns it on the desktop; the next event says what became of it
      return;
    }
    if (this.down.size > 0) return;
    const [scroll, num, caps] = [e.getModifierState('ScrollLock'), e.getModifierState('NumLock'), e.getModifierState('CapsLock')];
    const locks = `${scroll} ${num} ${caps}`;
    if (locks === this.locks) return;
    this.locks = locks;
    this.input.locks(scroll, num, caps);
  }

  // forget has the locks told again: they may have changed elsewhere.
  forget(): void {
    this.locks = '';
  }

  // types says that a key is a character, and no command.
  private types(e: KeyboardEvent): boolean {
    const altGraph = e.getModifierState('AltGraph');
    return [...e.key].length === 1 && !e.metaKey && (altGraph || (!e.ctrlKey && !e.altKey));
  }

  // pastes says that the browser shall have the key too: only its own event of a paste gives the clipboard away unasked.
  private pastes(e: KeyboardEvent): boolean {
    return (e.code === 'KeyV' && (e.ctrlKey || e.metaKey) && !e.altKey) || (e.code === 'Insert' && e.shiftKey && !e.ctrlKey);
  }
}
