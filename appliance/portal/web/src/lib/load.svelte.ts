// What a page shows of the API: loaded at once, and again when it is asked for or every so often while somebody looks.

export class Loaded<T> {
  value = $state.raw<T | undefined>(undefined);
  error = $state.raw<unknown>(undefined);
  busy = $state(false);

  constructor(private readonly load: () => Promise<T>) {
    void this.again();
  }

  again = async (): Promise<void> => {
    if (this.busy) return;
    this.busy = true;
    try {
      this.value = await this.load();
      this.error = undefined;
    } catch (err) {
      this.error = err;
    } finally {
      this.busy = false;
    }
  };

  // every loads again and again while the page is seen, and at once when it is seen again; what it returns ends that.
  every(ms: number): () => void {
    const look = (): void => {
      if (document.visibilityState === 'visible') void this.again();
    };
    const timer = setInterval(look, ms);
    document.addEventListener('visibilitychange', look);
    return () => {
      clearInterval(timer);
      document.removeEventListener('visibilitychange', look);
    };
  }
}
