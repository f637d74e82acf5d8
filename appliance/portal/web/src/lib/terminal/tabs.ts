// Tabs of one browser tell each other which sessions they have, so that files come over the connection of a terminal
// that is open. A session's id opens nothing to who is not its person on this device: the appliance sees to that.

const channel = () => new BroadcastChannel('sallyport-sessions');

// answerTabs tells other tabs of a session for as long as there is one; what it returns ends that.
export function answerTabs(target: string, session: () => string | undefined): () => void {
  const c = channel();
  c.onmessage = ({ data }: MessageEvent<{ ask?: unknown; id?: unknown }>) => {
    const id = session();
    if (data.ask === target && id) c.postMessage({ answer: target, session: id, id: data.id });
  };
  return () => c.close();
}

// askTabs finds a session of a target, if a tab has one.
export function askTabs(target: string, patience = 300): Promise<string | undefined> {
  const c = channel();
  const id = crypto.randomUUID();
  return new Promise<string | undefined>((resolve) => {
    setTimeout(() => resolve(undefined), patience);
    c.onmessage = ({ data }: MessageEvent<{ answer?: unknown; session?: unknown; id?: unknown }>) => {
      if (data.answer === target && data.id === id && typeof data.session === 'string') resolve(data.session);
    };
    c.postMessage({ ask: target, id });
  }).finally(() => c.close());
}
