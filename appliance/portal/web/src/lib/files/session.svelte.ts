// A FileSession is the session of a page of files: on the connection of a terminal, or on one of its own.

import { fromJSON } from '../messages';
import { Session } from '../terminal/session.svelte';
import { Kind, Remote, type Ready } from './client';

export class FileSession extends Session {
  remote = $state.raw<Remote>();

  constructor(target: string) {
    super(target, 'files');
  }

  protected override begin(): object {
    return {};
  }

  protected override signedOn(): void {} // the person may begin when the files are ready

  protected override told(kind: number, body: Uint8Array<ArrayBuffer>): void | Promise<void> {
    if (kind !== Kind.ready || this.remote) return this.remote?.told(kind, body);
    const ready = fromJSON<Ready>(body);
    this.remote = new Remote(this.messages!, ready);
    this.opened([ready.upload && 'upload', ready.download && 'download'].filter((c) => typeof c === 'string'));
  }

  protected override gone(): void {
    this.remote?.lost(this.error ?? new Error('the session is over'));
    this.remote = undefined;
  }
}
