// A Socket is what the desktop's client takes for its WebSocket: it reaches the page, and the page's flow reaches the
// appliance. The client has never a broken connection for its own to see; the flow goes on when the network does.

export type Bytes = Uint8Array<ArrayBuffer>;

// A Pipe is what the page does for the client's next Socket.
export interface Pipe {
  opened(socket: Socket): void;
  send(message: Bytes): void;
}

let next: Pipe | undefined;

// offer is for the WebSocket that the client opens next. There is one at a time: a document has one desktop.
export function offer(pipe: Pipe): void {
  next = pipe;
}

// Parts are what the client makes of bytes before it sends them.
export class Parts {
  readonly bytes: Bytes;

  constructor(parts: Uint8Array[]) {
    this.bytes = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
    let at = 0;
    for (const part of parts) {
      this.bytes.set(part, at);
      at += part.length;
    }
  }
}

export class Socket extends EventTarget {
  binaryType: BinaryType = 'arraybuffer';
  readyState: number = WebSocket.CONNECTING;

  private readonly pipe: Pipe;

  constructor(_address: string) {
    super();
    if (!next) throw new DOMException('there is no flow for another connection', 'InvalidStateError');
    this.pipe = next;
    next = undefined;
    queueMicrotask(() => {
      if (this.readyState !== WebSocket.CONNECTING) return;
      this.readyState = WebSocket.OPEN;
      this.dispatchEvent(new Event('open'));
      this.pipe.opened(this);
    });
  }

  send(parts: Parts): void {
    if (this.readyState === WebSocket.OPEN) this.pipe.send(parts.bytes);
  }

  // take is a message for the client: one PDU, as the appliance has sent it.
  take(message: Bytes): void {
    if (this.readyState === WebSocket.OPEN) this.dispatchEvent(new MessageEvent('message', { data: message.slice().buffer }));
  }

  // close is the client's, and the page's: nothing comes any more.
  close(): void {
    if (this.readyState === WebSocket.CLOSED) return;
    this.readyState = WebSocket.CLOSED;
    this.dispatchEvent(new CloseEvent('close', { code: 1000, wasClean: true }));
  }
}
