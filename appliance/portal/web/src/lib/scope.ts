// To what a device is narrowed, in words.

import type { Scope } from './types';
import { moment } from './words';

export function narrowed(scope: Scope | undefined): string {
  if (!scope) return '';
  const words: string[] = [];
  if (scope.protocols?.length) words.push(scope.protocols.join(', '));
  if (scope.targets?.length) words.push('to ' + scope.targets.join(', '));
  if (scope.expires) words.push('until ' + moment(scope.expires));
  return words.join(' ');
}
