// Why something did not happen or came to its end, as REFUSED and RESET carry it. An error of a flow is one of these.

export interface Reason {
  code: string;
  sentence?: string;
  hint?: string;
  rule?: string;
  retry?: bigint; // milliseconds to wait before the next try
  incident?: string;
}

// A Refusal's message is a sentence for people: one line, lower case, no full stop. Remote says that the appliance decided.
export class Refusal extends Error {
  readonly code: string;
  readonly hint: string;
  readonly rule: string;
  readonly incident: string;
  readonly retry: number; // milliseconds

  constructor(
    reason: Reason,
    readonly remote = false,
  ) {
    super(clip(reason.sentence ?? '') || reason.code);
    this.name = 'Refusal';
    this.code = reason.code;
    this.hint = clip(reason.hint ?? '');
    this.rule = clip(reason.rule ?? '');
    this.incident = clip(reason.incident ?? '');
    this.retry = Math.min(Number(reason.retry ?? 0n), 3_600_000);
  }

  // toReason is what the appliance is told.
  toReason(): Reason {
    return { code: this.code, sentence: this.message, hint: this.hint };
  }
}

export function refuse(code: string, sentence: string, hint = ''): Refusal {
  return new Refusal({ code, sentence, hint });
}

export const malformed = (what: string): Refusal => refuse('E_FRAME', what);

// clip makes one line of printable text, of at most 600 characters: what would change how the line around it looks is
// replaced.
export function clip(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufffd]/g, '?').slice(0, 600);
}
