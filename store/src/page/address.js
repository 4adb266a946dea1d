// The address of the page: the filter and the open call stand in it, so that a bookmark keeps both.

import { view } from './view.js';

export function writeAddress() {
  const query = view.filter ? `?filter=${encodeURIComponent(view.filter)}` : '';
  history.replaceState(null, '', `${location.pathname}${query}${view.open === null ? '' : `#call=${view.open}`}`);
  document.title = view.filter ? `${view.filter} – sniffer` : 'sniffer';
}
