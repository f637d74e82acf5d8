// What this browser keeps of how a person wants a desktop, by target. No password, and nothing that signs anybody in.

import { held, hold } from '../../lib/storage';

export type Scale = 'fit' | 'real';

export interface Settings {
  user: string;
  domain: string;
  exchange: 'appliance' | 'browser'; // who does the password exchange of Network Level Authentication
  scale: Scale;
  size: string; // 'window', or WIDTHxHEIGHT
  follow: boolean; // another window has another desktop
  sharp: boolean; // a desktop's pixel is a screen's, where the screen has more than the page counts
  unicode: boolean;
}

export const sizes = ['window', '1280x720', '1920x1080', '2560x1440', '3840x2160'];

const usual: Settings = { user: '', domain: '', exchange: 'appliance', scale: 'fit', size: 'window', follow: false, sharp: false, unicode: false };

export function settings(target: string): Settings {
  const kept: Settings = { ...usual };
  const found = held('localStorage', 'desktop ' + target);
  for (const [name, value] of Object.entries(found ?? {})) {
    if (Object.hasOwn(usual, name) && typeof value === typeof usual[name as keyof Settings]) Object.assign(kept, { [name]: value });
  }
  if (kept.exchange !== 'browser') kept.exchange = 'appliance';
  if (kept.scale !== 'real') kept.scale = 'fit';
  if (!sizes.includes(kept.size)) kept.size = 'window';
  return kept;
}

export function keep(target: string, s: Settings): void {
  hold('localStorage', 'desktop ' + target, s);
}
