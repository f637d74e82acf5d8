// Lines of the audit log as a table that spreadsheets open.

import type { AuditEvent } from './types';

const columns: (keyof AuditEvent)[] = ['seq', 'time', 'event', 'user', 'device', 'source', 'transport', 'target', 'address', 'protocol', 'port', 'session', 'policies', 'code', 'why', 'up', 'down', 'duration_ms', 'by', 'object'];

export const head = columns.join(',') + '\r\n';

export function line(e: AuditEvent): string {
  return columns.map((c) => cell(e[c])).join(',') + '\r\n';
}

// cell quotes a value. What a spreadsheet would take for a formula gets a mark before it: names come from outside.
export function cell(v: unknown): string {
  if (v === undefined || v === null) return '';
  let text = Array.isArray(v) ? v.join(' ') : String(v);
  if (typeof v !== 'number' && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
