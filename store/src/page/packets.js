// Files of packets of the capture beside the store, where it keeps any.

import { button, make, save } from './dom.js';
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
    button('packets-call', 'Packets of this call', saving(`/api/v1/calls/${call.id}/pcap`, `call-${call.id}.pcapng`)),
    button('packets-last', `All packets of the last ${LAST_SECONDS} s`, saving(`/api/v1/packets?from=-${LAST_SECONDS}s`, 'packets.pcapng')),
  );
  return [
    make('p', 'dim', `The last packets are kept in ${bytes(keptPackets())} of memory, as they were sent: rules hide nothing in them. A file for Wireshark has those of the connection from a second before the call to a second behind it.`),
    buttons,
    state,
  ];
}
