// Facts as people read them. The words are those of the command.

const second = 1_000_000_000; // in nanoseconds, as the API counts

// sentence makes one of what the appliance says in a line: with a capital letter and a full stop. A name that it begins with
// stays as it is: that of the target or the command, and what is no plain word.
export function sentence(line: string, target = ''): string {
  const text = line.trim();
  if (text === '') return '';
  const name = (target !== '' && text.startsWith(target)) || text.startsWith('sallyport ') || !/^[\p{L}’']+[,;:]?(\s|$)/u.test(text);
  return (name ? text[0]! : text[0]!.toUpperCase()) + text.slice(1) + (/[.!?:]$/.test(text) ? '' : '.');
}

export function size(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? `${bytes} B` : `${value.toFixed(1)} ${units[unit]}`;
}

export function rate(bits: number): string {
  const units = ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s'];
  let value = bits;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function span(ns: number): string {
  const s = Math.round(ns / second);
  if (s < 60) return `${s}s`;
  const m = Math.floor(s / 60);
  if (m < 60) return s % 60 ? `${m}m${s % 60}s` : `${m}m`;
  const h = Math.floor(m / 60);
  if (h < 48) return m % 60 ? `${h}h${m % 60}m` : `${h}h`;
  return `${Math.floor(h / 24)} days`;
}

export function millis(ns: number | undefined): string {
  return ns ? `${(ns / 1e6).toFixed(1)}ms` : '–';
}

const two = (n: number) => String(n).padStart(2, '0');

// moment is a time, to the minute, where the reader is.
export function moment(at: string | undefined): string {
  if (!at) return '–';
  const t = new Date(at);
  if (Number.isNaN(t.getTime())) return '–';
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${two(t.getHours())}:${two(t.getMinutes())}`;
}

export function ago(at: string | undefined, now = Date.now()): string {
  if (!at) return 'never';
  const s = (now - new Date(at).getTime()) / 1000;
  if (Number.isNaN(s)) return 'never';
  if (s < 45) return 'just now';
  if (s < 90 * 60) return `${Math.max(1, Math.round(s / 60))} min ago`;
  if (s < 36 * 3600) return `${Math.round(s / 3600)} h ago`;
  return `${Math.round(s / 86400)} days ago`;
}

// has says whether what somebody looks for is in some texts: each of its words, in any of them and in either case.
export function has(typed: string, texts: (string | undefined)[]): boolean {
  const text = texts.join(' ').toLowerCase();
  return typed.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

export function count(n: number, one: string, many = one + 's'): string {
  return `${n} ${n === 1 ? one : many}`;
}
