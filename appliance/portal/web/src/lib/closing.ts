// A key that closes a tab was often meant for what the tab shows: Ctrl+W takes a word away in a shell. So the browser is made to
// ask then, and only then. Who presses a button of the browser means it, and loses little: a page that is loaded again comes back to
// its session, and one that is closed leaves it to its grace.
//
// Browsers do not say what a page is left for, and tell it nothing of such keys. Of Ctrl, Alt and Command they do.

// askBeforeKeys has the browser ask before a key leaves the page, while there is something open; what it returns ends that.
export function askBeforeKeys(open: () => boolean): () => void {
  let held = false;
  const end = new AbortController();
  const early = { capture: true, signal: end.signal };
  const any = (e: KeyboardEvent) => e.ctrlKey || e.altKey || e.metaKey;
  addEventListener('keydown', (e) => (held = any(e) && e.code !== 'KeyR' && e.code !== 'F5'), early); // those load it again
  addEventListener('keyup', (e) => (held &&= any(e)), early);
  addEventListener('blur', () => (held = false), early);
  addEventListener('beforeunload', (e) => held && open() && e.preventDefault(), early);
  return () => end.abort();
}
