// The mouse, and fingers as one: a tap is a click, a long press the other button, a drag a drag, and two fingers turn the
// wheel.

import type { Input } from './input';

const buttons: [mask: number, button: number][] = [[1, 0], [4, 1], [2, 2], [8, 3], [16, 4]];
const turn = { pixel: 100, line: 3, page: 1 }; // what a wheel's notch is, by WheelEvent.deltaMode
const long = 600; // milliseconds of a finger that means the other button
const slack = 12; // CSS pixels that a finger moves without wanting to
const swipe = 40; // CSS pixels of two fingers that are a notch

export class Pointer {
  private held = 0; // as in PointerEvent.buttons
  private left = { x: 0, y: 0 }; // of the wheel's movements, what has been no notch yet
  private readonly fingers = new Map<number, { x: number; y: number }>();
  private finger: { x: number; y: number; timer: number; state: 'down' | 'drag' | 'done' } | undefined;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly input: Input,
  ) {}

  on(e: PointerEvent): void {
    if (e.pointerType === 'touch') {
      this.touch(e);
      return;
    }
    if (e.type === 'pointerdown') this.canvas.setPointerCapture(e.pointerId); // a drag may leave the picture
    this.to(e);
    this.hold(e.type === 'pointercancel' ? 0 : e.buttons);
  }

  wheel(e: WheelEvent): void {
    e.preventDefault();
    const one = e.deltaMode === WheelEvent.DOM_DELTA_LINE ? turn.line : e.deltaMode === WheelEvent.DOM_DELTA_PAGE ? turn.page : turn.pixel;
    this.roll(e.deltaX / one, e.deltaY / one);
  }

  release(): void {
    this.held = 0;
    this.left = { x: 0, y: 0 };
    this.drop();
    this.fingers.clear();
  }

  private hold(now: number): void {
    for (const [mask, button] of buttons) if ((now ^ this.held) & mask) this.input.button(button, (now & mask) !== 0);
    this.held = now;
  }

  private roll(x: number, y: number): void {
    if (Math.sign(x) !== Math.sign(this.left.x)) this.left.x = 0;
    if (Math.sign(y) !== Math.sign(this.left.y)) this.left.y = 0;
    this.left.x += x;
    this.left.y += y;
    const [across, down] = [Math.trunc(this.left.x), Math.trunc(this.left.y)];
    this.left.x -= across;
    this.left.y -= down;
    if (down !== 0) this.input.wheel(true, -down);
    if (across !== 0) this.input.wheel(false, across);
  }

  // to moves the desktop's pointer to where a finger or a mouse is.
  private to(at: { clientX: number; clientY: number }): void {
    const box = this.canvas.getBoundingClientRect();
    const along = (offset: number, shown: number, size: number) => Math.max(0, Math.min(size - 1, Math.floor((offset * size) / Math.max(1, shown))));
    this.input.move(along(at.clientX - box.left, box.width, this.canvas.width), along(at.clientY - box.top, box.height, this.canvas.height));
  }

  private touch(e: PointerEvent): void {
    e.preventDefault();
    switch (e.type) {
      case 'pointerdown':
        this.canvas.setPointerCapture(e.pointerId);
        this.fingers.set(e.pointerId, { x: e.clientX, y: e.clientY });
        if (this.fingers.size > 1) {
          this.drop();
          break;
        }
        this.finger = { x: e.clientX, y: e.clientY, state: 'down', timer: window.setTimeout(() => this.press(), long) };
        this.to(e);
        break;
      case 'pointermove':
        this.drag(e);
        break;
      default:
        this.fingers.delete(e.pointerId);
        if (this.finger?.state === 'down' && e.type === 'pointerup') {
          this.hold(1);
          this.hold(0);
        }
        this.drop();
    }
  }

  private drag(e: PointerEvent): void {
    const before = this.fingers.get(e.pointerId);
    if (!before) return;
    if (this.fingers.size === 2) {
      this.roll((before.x - e.clientX) / swipe / 2, (before.y - e.clientY) / swipe / 2); // each of the two says it
    } else if (this.finger?.state === 'down' && Math.hypot(e.clientX - this.finger.x, e.clientY - this.finger.y) > slack) {
      clearTimeout(this.finger.timer);
      this.finger.state = 'drag';
      this.hold(1);
    }
    if (this.finger?.state === 'drag') this.to(e);
    this.fingers.set(e.pointerId, { x: e.clientX, y: e.clientY });
  }

  // press is what a finger means that has stayed.
  private press(): void {
    if (this.finger?.state !== 'down') return;
    this.finger.state = 'done';
    this.hold(2);
    this.hold(0);
  }

  private drop(): void {
    if (this.finger) clearTimeout(this.finger.timer);
    this.finger = undefined;
    if (this.held !== 0) this.hold(0);
  }
}
