// Transfers: what is on its way to and from a target, in order, two at a time.
//
//	const transfers = new Transfers(target, () => session.remote, { arrived, changed });
//	transfers.download(place, name, size);
//	transfers.upload(folder, name, file, 'refuse');
//
// A transfer that is paused or interrupted goes on where it was; a download also when the page has been loaded again.

import { discarded, type Clash, type Omitted, type Remote } from './client';
import { join, type Place } from './names';
import { Part, type Wanted } from './parts';

export type Phase = 'waiting' | 'running' | 'paused' | 'failed' | 'done' | 'cancelled';

const atOnce = 2;

// rateOver is the time that a rate is an average of, in milliseconds.
const rateOver = 3000;

// shownEvery is how often a page shows how far a transfer is, in milliseconds.
const shownEvery = 100;

// Work is what a transfer does.
interface Work {
  go(t: Transfer, signal: AbortSignal): Promise<void>;

  // discard removes what there is of it; begun: it had come to rest with something done.
  discard(begun: boolean): Promise<unknown>;

  // leave gives what there is of it to a page that comes later.
  leave(): void;
}

export class Transfer {
  phase = $state<Phase>('waiting');
  done = $state(0);
  rate = $state(0); // bytes a second
  error = $state.raw<unknown>();
  omitted = $state.raw<Omitted>(); // of a folder that was downloaded

  private through = 0; // what is done, sooner than the page shows it
  private stop = new AbortController();
  private running = Promise.resolve();
  private seen: { at: number; done: number }[] = [];

  constructor(
    readonly direction: 'up' | 'down',
    readonly name: string,
    readonly size: number, // -1: it is not known
    private readonly work: Work,
    private readonly changed: () => void,
    readonly kept = 0, // what there was of it when the page was loaded
  ) {
    if (kept === 0) return;
    this.phase = 'paused';
    this.done = this.through = kept;
  }

  // left is how long it will take, in seconds, if that can be said.
  get left(): number | undefined {
    return this.phase === 'running' && this.rate > 0 && this.size >= 0 ? (this.size - this.done) / this.rate : undefined;
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
      await this.work.go(this, stop.signal);
      this.phase = 'done';
    } catch (err) {
      // Who pauses or cancels has said what it is now.
      if (!stop.signal.aborted) {
        this.phase = 'failed';
        this.error = err;
      }
    }
    this.done = this.through;
    this.rate = 0;
    this.changed();
  }

  // moved says how much is through.
  moved(done: number): void {
    this.through = done;
    const now = performance.now();
    if (now - (this.seen.at(-1)?.at ?? 0) < shownEvery) return;
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
    await this.work.discard(began).catch(() => {}); // a target that is gone keeps it
    this.changed();
  }

  // leave gives it up, and keeps what there is.
  async leave(): Promise<void> {
    if (this.over) return;
    this.pause();
    await this.running;
    this.work.leave();
  }
}

export class Transfers {
  all = $state.raw<Transfer[]>([]);

  private ended = false;

  // remote is asked for when it is needed: after an interruption it is another. A file has arrived in a folder; and what is
  // under way, or waits, has changed.
  constructor(
    private readonly target: string,
    private readonly remote: () => Remote | undefined,
    private readonly on: { arrived: (folder: Place) => void; changed: () => void },
  ) {
    Part.left(target, (part, size) => (this.ended ? part.release() : this.fetch(part.of, part, size)));
  }

  // end leaves what is under way.
  end(): void {
    this.ended = true;
    for (const t of this.all) void t.leave();
  }

  get busy(): number {
    return this.all.filter((t) => t.phase === 'running' || t.phase === 'waiting').length;
  }

  // unfinished are those that would be lost if they were left; what has come of a download that rests is found again.
  get unfinished(): number {
    return this.all.filter((t) => t.direction === 'up' && !t.over).length;
  }

  // download fetches a file, or a folder as an archive, whose size is not known.
  download(at: Place, name: string, size: number, folder = false): void {
    this.fetch({ target: this.target, at, name, size, folder });
  }

  private fetch(of: Wanted, part?: Part, size = 0): void {
    const go = async (t: Transfer, signal: AbortSignal): Promise<void> => {
      const remote = this.ready();
      part ??= await Part.make(of);
      const kept = await part.open(signal);
      try {
        t.moved(kept.size);
        t.omitted = await remote.download(of.at, of.folder, kept, signal, (n) => t.moved(n));
      } catch (err) {
        // What belongs to another state of the file is worth nothing: the next try begins anew.
        if ((err as { code?: string }).code === 'E_FILE_CHANGED') {
          await kept.empty();
          t.moved(0);
        }
        throw err;
      } finally {
        await kept.close();
      }
      await part.hand();
    };
    const work = { go, discard: async () => part?.remove(), leave: () => part?.release() };
    this.add(new Transfer('down', of.name, of.size, work, () => this.next(), size));
  }

  upload(folder: Place, name: Place, file: File, clash: Clash): void {
    const at = join(folder, name);
    const go = async (t: Transfer, signal: AbortSignal): Promise<void> => {
      await this.ready().upload(at, file, clash, signal, (n) => t.moved(n));
      this.on.arrived(folder);
    };
    const work = { go, discard: async (begun: boolean) => begun && this.remote()?.discard(at, file), leave: () => {} };
    this.add(new Transfer('up', name.text, file.size, work, () => this.next()));
  }

  private ready(): Remote {
    const remote = this.remote();
    if (!remote) throw new Error('there is no session; connect, then go on');
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
      if (free <= 0) break;
      if (t.phase !== 'waiting') continue;
      free--;
      void t.run();
    }
    this.on.changed();
  }
}
