// The way out, by the keyboard, of what takes every key, Tab too: Ctrl+Alt+Shift, pressed and let go with nothing between. No
// program has that for its own.

export const wayOut = 'Ctrl+Alt+Shift leads to the buttons above it, and Escape back.';

const keys = ['Control', 'Alt', 'Shift'] as const;
const one = (e: KeyboardEvent) => keys.some((k) => e.code.startsWith(k));

export class WayOut {
  private all = false; // are held, and nothing was pressed since

  press(e: KeyboardEvent): void {
    this.all = one(e) && keys.every((k) => e.getModifierState(k));
  }

  // lift says whether the person wants to get out.
  lift(e: KeyboardEvent): boolean {
    const wants = this.all && one(e);
    if (wants) this.all = false;
    return wants;
  }

  forget(): void {
    this.all = false;
  }
}
