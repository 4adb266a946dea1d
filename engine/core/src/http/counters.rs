//! What was read of HTTP, and what was not.

crate::counters! {
    /// Calls: `exchanges_opened` = `exchanges_finished` + all `half_*` + [`Counters::open`].
    pub struct Counters {
        /// Flows that turned out to speak HTTP/1.x.
        flows_http,
        /// Flows with no wanted port, not read.
        flows_unwanted,
        /// Flows that spoke TLS, not read.
        flows_tls,
        /// Flows that spoke HTTP/2 in the clear, not read.
        flows_http2,
        /// Flows that spoke something else, not read.
        flows_other,
        /// Flows not read further because too many requests waited for their response.
        flows_overflowed,
        /// Flows that became a tunnel (101, or 2xx to CONNECT), not read further.
        flows_tunnelled,
        /// Request heads read.
        requests,
        /// Final response heads read.
        responses,
        /// Interim responses (1xx except 101) passed over.
        responses_interim,
        /// Exchanges begun, by a request or by a response without one.
        exchanges_opened,
        /// Exchanges with request and response.
        exchanges_finished,
        /// Responses without a request, each of them also counted in its `half_*`.
        orphans,
        /// Half exchanges: the flow was idle for too long.
        half_timeout,
        /// Half exchanges: the connection ended before the other half.
        half_closed,
        /// Half exchanges: the other half was lost in the capture, or cannot be told from another's.
        half_gap,
        /// Half exchanges: the flow made room, or too many requests waited.
        half_evicted,
        /// Half exchanges: the capture ended first.
        half_shutdown,
        /// Connections on which losses among pipelined messages made pairing impossible; from then on all are halves.
        pairings_given_up,
        /// Heads with too many bytes or too many fields, passed over.
        heads_oversized,
        /// Heads given up because the shard's head buffers were full.
        heads_shed,
        /// Probable pairs that the next message refuted: the request was told as a half, the response not at all.
        pairs_refuted,
        /// Places where a message had to start and none did.
        heads_malformed,
        /// Heads cut by a loss or by the end of the flow.
        heads_cut,
        /// Header lines left out: no colon, no name, or a fold after nothing.
        header_lines_odd,
        /// Messages whose lengths contradict each other or are no lengths.
        framing_conflicts,
        /// Bodies whose chunked coding broke.
        bodies_broken,
        /// Bodies that ended before their framing said so.
        bodies_cut,
        /// Times that a half found its next message after a loss or rubbish.
        resynchronised,
        /// Bytes passed over in search of a message.
        bytes_hunted,
        /// Bytes of flows that are not read, delivered before the flow table knew.
        bytes_ignored,
        /// Bytes of tunnels delivered before the flow table knew.
        bytes_tunnelled,
        /// Bytes of heads and lines that were copied because they did not lie in one piece.
        bytes_copied,
        /// Bytes of request bodies that were never captured.
        request_bytes_missing,
        /// Bytes of response bodies that were never captured.
        response_bytes_missing,
    }
}

impl Counters {
    /// Unpaired exchanges, whatever the reason.
    pub fn halves(&self) -> u64 {
        self.unpaired().map(|(_, count)| count).sum()
    }

    /// Unpaired exchanges, for each reason.
    pub fn unpaired(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        [
            ("timeout", self.half_timeout),
            ("closed", self.half_closed),
            ("gap", self.half_gap),
            ("evicted", self.half_evicted),
            ("shutdown", self.half_shutdown),
        ]
        .into_iter()
    }

    /// Exchanges open now: a gauge.
    pub fn open(&self) -> u64 {
        self.exchanges_opened
            .saturating_sub(self.exchanges_finished + self.halves())
    }
}
