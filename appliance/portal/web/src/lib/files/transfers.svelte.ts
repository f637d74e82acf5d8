// Transfers: what is on its way to and from a target, in order, two at a time.
//
//	const transfers = new Transfers(() => session.remote, arrived);
//	transfers.download(place, size);
//	transfers.upload(folder, name, file, 'refuse');
//
// A transfer that is paused or interrupted goes on where it was.

import { discarded, type Clash, type Remote } from './client';
import { join, type Place } from './names';
import { openSink, type Sink } from './save';
import { SHA256 } from './sha256';

export type Phase = 'waiting' | 'running' | 'paused' | 'failed' | 'done' | 'cancelled';

const atOnce = 2;

// rateOver is the time that a rate is an average of, in milliseconds.
const rateOver = 3000;

type Work = (t: Transfer, signal: AbortSignal) => Promise<void>;

export class Transfer {
  phase = $state<Phase>('waiting');
  done = $state(0);
  rate = $state(0); // bytes a second
  error = $state.raw<unknown>();

  private stop = new AbortController();
  private running = Promise.resolve();
  private seen: { at: number; done: number }[] = [];

  constructor(
    readonly direction: 'up' | 'down',
    readonly name: string,
    readonly size: number,
    private readonly work: Work,
    private readonly discard: (left: boolean) => Promise<unknown>,
    private readonly changed: () => void,
  ) {}

  // left is how long it will take, in seconds, if that can be said.
  get left(): number | undefined {
    return this.phase === 'running' && this.rate > 0 ? (this.size - this.done) / this.rate : undefined;
  }

  get over(): boolean {
    return this.phase === 'done' || this.phase === 'cancelled';
  }

  // run begins, or goes on: when what was begun before has come to rest.
  run(): Promise<void> {
    this.phase = 'running';
    this.error = undefined;
    const stop = (this.stop = new AbortController());
    return (this.running = this.running.then(() => this.go(stop)));
  }

  private async go(stop: AbortController): Promise<void> {
    this.seen = [];
    try {
      stop.signal.throwIfAborted();
      await this.work(this, stop.signal);
      this.phase = 'done';
    } catch (err) {
      // Who pauses or cancels has said what it is now.
      if (!stop.signal.aborted) {
        this.phase = 'failed';
        this.error = err;
      }
    }
    this.rate = 0;
    this.changed();
  }

  // moved says how much is through.
  moved(done: number): void {
    const now = performance.now();
    this.done = done;
    this.seen.push({ at: now, done });
    while (this.seen.length > 2 && now - this.seen[0]!.at > rateOver) this.seen.shift();
    const first = this.seen[0]!;
    if (now - first.at > 200) this.rate = ((done - first.done) * 1000) / (now - first.at);
  }

  pause(): void {
    if (this.phase !== 'running' && this.phase !== 'waiting') return;
    this.phase = 'paused';
    this.stop.abort();
    this.changed();
  }

  resume(): void {
    if (this.phase !== 'paused' && this.phase !== 'failed') return;
    this.phase = 'waiting';
    this.changed();
  }

  async cancel(): Promise<void> {
    if (this.over) return;
    const began = this.phase !== 'running' && this.done > 0; // what is left of it nobody has been told to remove
    this.phase = 'cancelled';
    this.stop.abort(discarded);
    await this.running;
    await this.discard(began).catch(() => {}); // a target that is gone keeps it
    this.changed();
  }
}

export class Transfers {
  all = $state.raw<Transfer[]>([]);

  // remote is asked for when it is needed: after an interruption it is another.
  constructor(
    private readonly remote: () => Remote | undefined,
    private readonly arrived: (folder: Place) => void,
  ) {}

  get busy(): number {
    return this.all.filter((t) => t.phase === 'running' || t.phase === 'waiting').length;
  }

  download(at: Place, name: string, size: number): void {
    let sink: Sink | undefined;
    let hash = new SHA256();
    let taken = 0;
    const work: Work = async (t, signal) => {
      sink ??= await openSink(name, size);
      const to = sink;
      try {
        await this.ready().download(at, taken, hash, signal, async (bytes) => {
          await to.write(bytes);
          taken += bytes.length;
          t.moved(taken);
        });
      } catch (err) {
        // What belongs to another state of the file is worth nothing: the next try begins anew.
        if ((err as { code?: string }).code === 'E_FILE_CHANGED') {
          await to.abort();
          sink = undefined;
          hash = new SHA256();
          taken = 0;
          t.moved(0);
        }
        throw err;
      }
      await to.close();
    };
    this.add(new Transfer('down', name, size, work, async () => sink?.abort(), () => this.next()));
  }

  upload(folder: Place, name: Place, file: File, clash: Clash): void {
    const work: Work = async (t, signal) => {
      await this.ready().upload(join(folder, name), file, clash, signal, (n) => t.moved(n));
      this.arrived(folder);
    };
    this.add(new Transfer('up', name.text, file.size, work, async (left) => left && this.remote()?.discard(join(folder, name), file), () => this.next()));
  }

  private ready(): Remote {
    const remote = this.remote();
    if (!remote) throw new Error('the session is over; connect again, then go on');
    return remote;
  }

  private add(t: Transfer): void {
    this.all = [...this.all, t];
    this.next();
  }

  // tidy forgets those that are over.
  tidy(): void {
    this.all = this.all.filter((t) => !t.over);
  }

  private next(): void {
    let free = atOnce - this.all.filter((t) => t.phase === 'running').length;
    for (const t of this.all) {
      if (free <= 0) return;
      if (t.phase !== 'waiting') continue;
      free--;
      void t.run();
    }
  }
}
