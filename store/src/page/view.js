// The state of the page that several modules read.

/** Calls of the list that are in memory, at most; those in view have rows. */
export const CALLS_HELD = 4000;

export const view = {
  calls: [], // newest first: a part of the list without a hole
  ids: new Set(), // their ids
  rows: new Map(), // id → row, of the calls in view
  arrived: [], // newest first, shown with the next redraw
  stale: false, // calls are missing between the list and the newest
  ahead: false, // there are newer calls than the first of `calls`: the list was moved to another time
  unannounced: 0,
  missed: 0, // calls that arrived while the list was paused or scrolled down
  newest: null, // the place in the stream up to which the list is complete
  next: null, // id of the call behind which older ones start
  timedOut: false,
  coverage: null, // what the list is based on
  selected: null,
  open: null,
  filter: '',
  from: '', // as the API takes it: a date, or how long ago
  to: '',
  pane: 'calls',
  paused: false,
  follow: true,
  stored: null,
  capture: null, // the status of the capture beside the store; null where there is none
};
