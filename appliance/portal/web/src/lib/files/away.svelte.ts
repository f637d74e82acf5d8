// Work with files of which the person may be looking at another page of the application: its frame says so on each. What
// does the work comes with the page of files.

import type { Work } from './work.svelte';

export const away = $state<{ all: Work[] }>({ all: [] });
