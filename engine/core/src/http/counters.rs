//! The HTTP stage's part of the ledger.

use crate::http::exchange::UnpairedReason;

crate::counters! {
    /// Calls balance at any time: `exchanges_opened` = `exchanges_finished` + all `half_*` + those that are open.
    ///
    /// First what holds for every protocol, then what only HTTP/1.x has, then what only HTTP/2 has.
    pub struct Counters {
        /// Flows recognised as HTTP/1.x.
        flows_http,
        /// Flows with no wanted port, not read.
        flows_unwanted,
        /// Flows recognised as TLS, not read.
        flows_tls,
        /// Flows recognised as HTTP/2 in the clear.
        flows_http2,
        /// Of these, flows whose beginning was not captured.
        flows_http2_midstream,
        /// Flows of HTTP/1 that became HTTP/2 by an upgrade.
        flows_http2_upgraded,
        /// QUIC connections on UDP port 443, by the first packets of their clients, not read.
        flows_quic,
        /// Flows that are no protocol known here, not read.
        flows_other,
        /// Flows not read further because too many requests waited for their response.
        flows_overflowed,
        /// Flows that became a tunnel (101, or 2xx to CONNECT). What a CONNECT opened is read if it is HTTP.
        flows_tunnelled,
        /// Tunnels of a CONNECT with HTTP/1.x in them, which is read.
        tunnels_http,
        /// Tunnels of a CONNECT with HTTP/2 in the clear in them, which is read.
        tunnels_http2,
        /// Tunnels of a CONNECT with TLS in them, not read.
        tunnels_tls,
        /// Tunnels of a CONNECT with no protocol known here in them, or with an upgrade, not read.
        tunnels_other,
        /// Bytes of flows that are not read, delivered before the flow table stopped ordering them.
        bytes_ignored,
        /// Bytes of QUIC, with those that were cut off.
        bytes_quic,
        /// Bytes of tunnels, delivered before the flow table stopped ordering them.
        bytes_tunnelled,

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
        /// Half calls: the flow was idle for too long.
        half_timeout,
        /// Half calls: the connection ended before the other side came.
        half_closed,
        /// Half calls: the other side is missing from the capture, or cannot be attributed.
        half_gap,
        /// Half calls: the flow was evicted, or too many requests waited.
        half_evicted,
        /// Half calls: the capture ended first.
        half_shutdown,
        /// Half calls: a mirror or a snap length cut off the end of a head.
        half_truncated,
        /// Half calls: the stream was reset before the response came.
        half_reset,
        /// Half calls: the server refused the stream.
        half_refused,
        /// Half calls: method, path or status refer to a header table whose beginning was not captured.
        half_hpack,
        /// Half calls: a head is too long.
        half_oversized,

        /// Heads with too many bytes or too many fields, passed over.
        heads_oversized,
        /// Heads given up because the shard's head buffers were full.
        heads_shed,
        /// Heads cut by a gap or by the end of the flow.
        heads_cut,
        /// Bodies that ended before the end of their framing.
        bodies_cut,
        /// Bytes of heads and lines that were copied because they did not lie in one piece.
        bytes_copied,
        /// Bytes of request bodies that were never captured.
        request_bytes_missing,
        /// Bytes of response bodies that were never captured.
        response_bytes_missing,

        /// HTTP/1 connections on which gaps among pipelined messages made pairing impossible; from then on all their calls
        /// are half calls.
        pairings_given_up,
        /// Probable HTTP/1 pairs that a later message refuted: request and response each became a half call.
        pairs_refuted,
        /// Places where an HTTP/1 message had to start and none did.
        heads_malformed,
        /// HTTP/1 header lines left out: no colon, no name, or a fold after nothing.
        header_lines_odd,
        /// HTTP/1 messages whose lengths contradict each other or are no lengths.
        framing_conflicts,
        /// HTTP/1 bodies whose chunked coding broke.
        bodies_broken,
        /// Times that the next HTTP/1 message was found after a gap or malformed bytes.
        resynchronised,
        /// Bytes passed over in search of a message or a frame.
        bytes_passed_over,

        /// HTTP/2 frames read.
        http2_frames,
        /// HTTP/2 frames of a type that is not known, passed over.
        http2_frames_unknown,
        /// HTTP/2 frames on a stream where they may not be, and those whose length cannot be believed or that come within a
        /// header block: these end the reading of their direction.
        http2_frames_malformed,
        /// HTTP/2 header blocks that cannot be decoded: each ends the reading of its direction.
        http2_blocks_broken,
        /// HTTP/2 fields whose name or value refers to an entry of a header table that was not captured, or is not kept.
        http2_fields_unknown,
        /// Entries of HTTP/2 header tables that were forgotten because the table is larger than what is kept.
        http2_table_entries_forgotten,
        /// HTTP/2 connections whose header tables were forgotten because all tables together held too much.
        http2_tables_shed,
        /// HTTP/2 messages that are not as RFC 9113 section 8 requires; they are reported as they were sent.
        http2_messages_malformed,
        /// HTTP/2 streams reset by one side.
        http2_streams_reset,
        /// HTTP/2 streams that the server refused.
        http2_streams_refused,
        /// HTTP/2 streams given up because too many were open, or memory was short.
        http2_streams_evicted,
        /// HTTP/2 requests that a server promised.
        http2_pushes,
        /// HTTP/2 announcements of the end of a connection (GOAWAY).
        http2_goaways,
        /// Messages of remote procedure calls, whether they are in a line or not.
        rpc_messages,
        /// Messages and frames of such calls that could not be decompressed, or of which bytes were never captured.
        rpc_messages_undecodable,
        /// Times that the next HTTP/2 frame was found in the midst of a connection, or after a gap.
        http2_resynchronised,

        /// WebSockets of which the messages are read, on connections of HTTP/1 and streams of HTTP/2.
        websocket_connections,
        /// Messages of WebSockets read whole.
        websocket_messages,
        /// WebSockets not read further because a frame breaks the protocol.
        websocket_broken,
        /// Lines of streams that are written in parts, without the last line of each, which is that of the call.
        stream_parts,
    }
}

impl Counters {
    /// Unpaired exchanges, whatever the reason.
    pub fn unpaired_total(&self) -> u64 {
        self.unpaired().map(|(_, count)| count).sum()
    }

    /// Unpaired exchanges, for each reason by its label.
    pub fn unpaired(self) -> impl Iterator<Item = (&'static str, u64)> {
        let reasons = UnpairedReason::ALL.into_iter();
        reasons.map(move |reason| (reason.label(), self.unpaired_for(reason)))
    }

    /// Exchanges that are unpaired for this reason.
    pub fn unpaired_for(mut self, reason: UnpairedReason) -> u64 {
        *self.unpaired_mut(reason)
    }

    pub(super) fn unpaired_mut(&mut self, reason: UnpairedReason) -> &mut u64 {
        match reason {
            UnpairedReason::Timeout => &mut self.half_timeout,
            UnpairedReason::Closed => &mut self.half_closed,
            UnpairedReason::Gap => &mut self.half_gap,
            UnpairedReason::Evicted => &mut self.half_evicted,
            UnpairedReason::Shutdown => &mut self.half_shutdown,
            UnpairedReason::Truncated => &mut self.half_truncated,
            UnpairedReason::Reset => &mut self.half_reset,
            UnpairedReason::Refused => &mut self.half_refused,
            UnpairedReason::Hpack => &mut self.half_hpack,
            UnpairedReason::Oversized => &mut self.half_oversized,
        }
    }
}
