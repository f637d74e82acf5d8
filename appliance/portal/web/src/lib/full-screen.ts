// The whole screen for one part of a page, and with it the keyboard, where the browser can do that: Ctrl+W, Alt+Tab, the Windows
// key, and Escape, which leaves the full screen when it is held.

export async function fullScreen(part: HTMLElement): Promise<void> {
  if (document.fullscreenElement) return document.exitFullscreen();
  await part.requestFullscreen({ navigationUI: 'hide' });
  const keys = (navigator as Navigator & { keyboard?: { lock?: () => Promise<void> } }).keyboard;
  await keys?.lock?.().catch(() => {});
}
