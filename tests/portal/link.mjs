// A link to the appliance that can be cut: all that stands on it is reset; be away for a while; or held: what comes waits.
import { createServer, connect } from 'node:net';

export async function openLink(to, port) {
  const sockets = new Set();
  const pipes = new Map();
  let held = false;
  let away = false;
  const server = createServer((near) => {
    if (away) return near.resetAndDestroy();
    const far = connect(to.port, to.host);
    for (const [s, other] of [[near, far], [far, near]]) {
      sockets.add(s);
      s.setNoDelay(true);
      s.on('error', () => {});
      s.on('close', () => {
        sockets.delete(s);
        pipes.delete(s);
        other.destroy();
      });
      pipes.set(s, other);
      if (!held) s.pipe(other);
    }
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    cut() {
      const n = sockets.size;
      for (const s of sockets) s.resetAndDestroy();
      return n;
    },
    hold() {
      held = true;
      for (const [s, other] of pipes) s.unpipe(other);
    },
    go() {
      held = false;
      for (const [s, other] of pipes) s.pipe(other);
    },
    down() {
      away = true;
      this.cut();
    },
    up() {
      away = false;
    },
    close() {
      server.close();
      for (const s of sockets) s.destroy();
    },
  };
}
