// Files of packets of the capture beside the store, where it keeps any.

import { $, button, make, save } from './dom.js';
import { bytes } from './format.js';
import { view } from './view.js';

/** Seconds of the file without a call. */
const LAST_SECONDS = 30;

/** Bytes of packets that the capture keeps; 0 where it keeps none. */
export function keptPackets() {
  return view.capture?.capture?.kept_packets_bytes ?? 0;
}

/** Has the browser save the file of a path; an error has the sentence of the answer. */
export async function savePackets(path, name) {
  const response = await fetch(path, { cache: 'no-store' });
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    throw new Error(answer.error ?? response.statusText);
  }
  save(await response.blob(), name);
}

const pathOf = (id) => `/api/v1/calls/${id}/pcap`;
const nameOf = (id) => `call-${id}.pcapng`;

/** The button in the head of the call with this id. */
export function offerPackets(id) {
  const offer = $('detail-pcap');
  offer.hidden = !keptPackets();
  offer.disabled = false;
  offer.title = 'The packets of the call as a file for Wireshark';
  offer.dataset.id = id;
}

/** Saves those of the call that is open; where there are none, the button has the reason. */
export async function saveOffered() {
  const offer = $('detail-pcap');
  const { id } = offer.dataset;
  offer.disabled = true;
  try {
    await savePackets(pathOf(id), nameOf(id));
    if (offer.dataset.id === id) offer.disabled = false;
  } catch (error) {
    if (offer.dataset.id !== id) return;
    offer.title = error.message;
    $('announce').textContent = error.message;
  }
}

/** The tab of a call. */
export function packets(call) {
  if (!keptPackets()) return [];
  const state = make('p', 'error');
  state.setAttribute('role', 'alert');
  state.hidden = true;
  const saving = (path, name) => async ({ currentTarget }) => {
    currentTarget.disabled = true;
    state.hidden = true;
    try {
      await savePackets(path, name);
    } catch (error) {
      state.hidden = false;
      state.textContent = error.message;
    }
    currentTarget.disabled = false;
  };
  const buttons = make('div', 'buttons');
  buttons.append(
    button('packets-call', 'Packets of this call', saving(pathOf(call.id), nameOf(call.id))),
    button('packets-last', `All packets of the last ${LAST_SECONDS} s`, saving(`/api/v1/packets?from=-${LAST_SECONDS}s`, 'packets.pcapng')),
  );
  return [
    make('p', 'dim', `The last packets are kept in ${bytes(keptPackets())} of memory, as they were sent: rules hide nothing in them. A file for Wireshark has those of the connection from a second before the call to a second behind it.`),
    buttons,
    state,
  ];
}
