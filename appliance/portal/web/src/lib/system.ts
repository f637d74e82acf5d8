// Which system a browser runs on, as far as it says, and what of a release is for it.

import type { ClientFile } from './types';

interface Hints {
  platform?: string;
  getHighEntropyValues?: (names: string[]) => Promise<{ architecture?: string }>;
}

export type System = 'linux' | 'darwin' | 'windows';

export const systems: Record<ClientFile['system'], string> = { linux: 'Linux', darwin: 'macOS', windows: 'Windows', debian: 'Debian, Ubuntu' };
export const archs: Record<ClientFile['arch'], string> = { amd64: '64-bit Intel or AMD', arm64: '64-bit ARM' };

export interface Here {
  system: System | undefined; // none that the client is made for: a phone
  arch: ClientFile['arch'] | undefined; // undefined: the browser does not say
}

export async function here(): Promise<Here> {
  const hints = (navigator as Navigator & { userAgentData?: Hints }).userAgentData;
  const said = `${hints?.platform ?? ''} ${navigator.userAgent}`;
  const phone = /Android|iPhone|iPad|CrOS/.test(said);
  const system = phone ? undefined : /Win/.test(said) ? 'windows' : /Mac/.test(said) ? 'darwin' : /Linux/.test(said) ? 'linux' : undefined;
  const cpu = await hints?.getHighEntropyValues?.(['architecture']).catch(() => undefined);
  const arch = cpu?.architecture === 'arm' || /aarch64|arm64/i.test(said) ? 'arm64' : cpu?.architecture === 'x86' || system !== 'darwin' ? 'amd64' : undefined;
  return { system, arch };
}

// suits says whether a file is for a computer. A package is for some of those with Linux, which browsers do not tell.
export function suits(f: ClientFile, at: Here): boolean {
  return f.system === at.system && (at.arch === undefined || f.arch === at.arch);
}

// check is the command that compares a file with its hash, on the system that it is for.
export function check(f: ClientFile): string {
  if (f.system === 'windows') return `(Get-FileHash ${f.name}).Hash -eq '${f.sha256}'`;
  return `echo '${f.sha256}  ${f.name}' | ${f.system === 'darwin' ? 'shasum -a 256 -c' : 'sha256sum --check'}`;
}
