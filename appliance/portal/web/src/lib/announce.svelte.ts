// What is said to who cannot see that it has happened: a polite live region in App.svelte reads it.

export const announced = $state({ text: '' });

export function announce(text: string): void {
  announced.text = '';
  setTimeout(() => (announced.text = text), 50); // a region that says the same again says nothing
}
