// How large a desktop is, and how large it is shown.

import type { Scale } from './settings';

export interface Size {
  width: number;
  height: number;
}

const least = 200;
const most = 8192; // RDP's own limits

// wanted is the size to ask for: the window's, in its own pixels or in the screen's, or a fixed one. A width that is no
// multiple of four has bitmaps with padding.
export function wanted(size: string, box: Size, density: number): Size {
  const fixed = /^(\d+)x(\d+)$/.exec(size);
  const width = fixed ? Number(fixed[1]) : box.width * density;
  const height = fixed ? Number(fixed[2]) : box.height * density;
  const within = (n: number) => Math.max(least, Math.min(most, Math.floor(n)));
  return { width: within(width) & ~3, height: within(height) & ~1 };
}

// shown is the size in CSS pixels.
export function shown(scale: Scale, picture: Size, box: Size, density: number): Size {
  if (picture.width === 0 || picture.height === 0) return { width: 0, height: 0 };
  const k = scale === 'real' ? 1 / density : Math.min(box.width / picture.width, box.height / picture.height);
  return { width: Math.floor(picture.width * k), height: Math.floor(picture.height * k) };
}
