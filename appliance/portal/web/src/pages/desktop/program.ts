// The messages of the appliance's program "desktop": what is said beside the client's own bytes. Package desktop of the
// appliance specifies them.

export const kind = { start: 0, bytes: 1, state: 0, pdu: 1, notice: 2 } as const; // from here, and then from there

// A Start is the first message of a flow. One that joins a session needs no password: the appliance has kept it, sealed.
export interface Start {
  user?: string;
  domain?: string;
  password?: string;
  width: number;
  height: number;
  credssp: 'appliance' | 'browser';
}

// A State is how far the appliance is. The certificate comes with connecting, before anybody logs on, and the rest with open.
export interface State {
  state: 'connecting' | 'open' | 'ended';
  certificate?: string; // the target's, as sha256:…
  first?: boolean; // that was seen there; it is expected from now on
  clipboard_in?: boolean; // policy allows it
  clipboard_out?: boolean;
  resize?: boolean; // the desktop may be asked for another size while it is shown
}

// A Notice is why there is no desktop, or no longer.
export interface Notice {
  code: string;
  sentence: string;
  hint?: string;
}
