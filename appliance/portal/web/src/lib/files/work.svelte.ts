// The work with a target's files: a session, what goes by it, and what a person has chosen that has yet to begin. It outlives its
// page, so that a look at another page of the application loses nothing: the session stays while something is on its way,
// and ends then. What has come of it is shown when its page is looked at again.
//
//	const work = Work.of(target);
//	const leave = work.look((folder) => …); // is called when there is something new in a folder
//	work.upload(folder, ofInput(list));

import { announce } from '../announce.svelte';
import { count } from '../words';
import { away } from './away.svelte';
import { bring, type Decision } from './bring';
import type { Chosen } from './chosen';
import type { Place } from './names';
import { FileSession } from './session.svelte';
import { Transfers, type Phase } from './transfers.svelte';

// A Clash is a name that is taken, for the person to decide about.
export interface Clash {
  name: string;
  left: number; // how many more there are to bring
  decide: (how: Decision, always: boolean) => void;
}

export class Work {
  readonly session: FileSession;
  readonly transfers: Transfers;

  shown = $state(false); // its page is looked at
  clash = $state.raw<Clash>();
  error = $state.raw<unknown>(); // why not all comes that was chosen

  private bringing = $state(0); // how often something was chosen that has yet to begin
  private last = Promise.resolve();
  private arrived: (folder: Place) => void = () => {};

  private constructor(readonly target: string) {
    this.session = new FileSession(target);
    this.transfers = new Transfers(target, () => this.session.remote, { arrived: (folder) => this.arrived(folder), changed: () => this.changed() });
  }

  // of is a target's: what goes on since its page was left, or new.
  static of(target: string): Work {
    const before = away.all.find((w) => w.target === target);
    if (before) return before;
    const work = new Work(target);
    away.all = [...away.all, work];
    return work;
  }

  get busy(): boolean {
    return this.bringing > 0 || this.transfers.busy > 0;
  }

  // says is how far it is, in words.
  get says(): string {
    const of = (...phases: Phase[]) => this.transfers.all.filter((t) => phases.includes(t.phase)).length;
    const words: string[] = [];
    const add = (n: number, what: string) => n > 0 && words.push(`${n} ${what}`);
    if (this.clash) words.push(`${this.clash.name} is there already, and you decide`);
    else if (this.bringing > 0) words.push('what you have chosen is looked through');
    add(of('running', 'waiting'), 'on the way');
    add(of('paused'), 'paused');
    add(of('failed'), 'interrupted');
    add(of('done'), 'done');
    if (this.error) words.push('not all could be sent');
    return words.join(', ');
  }

  // look shows it, until what it returns is called. What nobody would miss ends then.
  look(arrived: (folder: Place) => void): () => void {
    this.shown = true;
    this.arrived = arrived;
    return () => {
      this.shown = false;
      this.arrived = () => {};
      if (this.busy) return;
      if (this.transfers.unfinished > 0) this.session.end();
      else this.end();
    };
  }

  // end leaves what is under way.
  end(): void {
    away.all = away.all.filter((w) => w !== this);
    this.session.end();
    this.transfers.end();
  }

  // upload brings what a person has chosen to a folder, when what they have chosen before has begun.
  upload(to: Place, chosen: Promise<Chosen[]>): void {
    this.error = undefined;
    this.bringing++;
    chosen.catch(() => {}); // it is waited for in its turn
    this.last = this.last.then(() => this.bring(to, chosen));
  }

  private async bring(to: Place, chosen: Promise<Chosen[]>): Promise<void> {
    try {
      const all = await chosen;
      const { remote } = this.session;
      if (!remote) throw new Error(`the session is over, and ${count(all.length, 'file')} that you have chosen did not begin`);
      await bring(remote, to, all, {
        decide: (name, left) =>
          new Promise((resolve) => {
            const decide = (how: Decision, always: boolean): void => {
              this.clash = undefined;
              resolve({ how, always });
            };
            this.clash = { name, left, decide };
          }),
        start: (folder, name, file, clash) => this.transfers.upload(folder, name, file, clash),
      });
    } catch (err) {
      this.error = err;
    }
    this.bringing--;
    this.arrived(to);
    this.changed();
  }

  private changed(): void {
    if (this.shown || this.busy || this.session.phase === 'ended') return;
    this.session.end();
    announce(`Files of ${this.target}: ${this.says}`);
  }
}

addEventListener('beforeunload', (e) => {
  if (away.all.some((w) => w.busy)) e.preventDefault();
});
