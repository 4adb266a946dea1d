// The state of the page that several modules read.

/** Calls in the list, at most. */
export const ROWS_MAX = 1000;

export const view = {
  calls: [], // newest first, as in the table
  rows: new Map(), // id → row
  arrived: [], // newest first, shown with the next redraw
  stale: false, // calls are missing between the list and the newest
  unannounced: 0,
  tabStop: null,
  missed: 0, // calls that arrived while the list was paused or scrolled down
  newest: null, // the place in the stream up to which the list is complete
  next: null, // id of the call behind which older ones start
  timedOut: false,
  selected: null,
  open: null,
  filter: '',
  from: '', // as the API takes it: a date, or how long ago
  to: '',
  paused: false,
  follow: true,
  stored: null,
  captureUrl: null,
};
