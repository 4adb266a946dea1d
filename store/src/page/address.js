// The address of the page: pane, filter, range of time and the open call stand in it, so that a bookmark keeps them.

import { wanted } from './api.js';
import { view } from './view.js';

export function writeAddress() {
  const parameters = wanted();
  if (view.pane !== 'calls') parameters.set('pane', view.pane);
  const query = parameters.size ? `?${parameters}` : '';
  history.replaceState(null, '', `${location.pathname}${query}${view.open === null ? '' : `#call=${view.open}`}`);
  document.title = view.filter ? `${view.filter} – sniffer` : 'sniffer';
}
