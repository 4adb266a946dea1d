//! Exchange in, details through the rules, one finished line out.

/// What the receiver of a line may want to know beside it; never part of the line unless annotations are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Full length of the request body after decoding, as far as known, in bytes.
    pub request_body_bytes: u64,
    /// Full length of the response body after decoding, as far as known, in bytes.
    pub response_body_bytes: u64,
    /// A body was cut at the body limit.
    pub body_limited: bool,
    /// Bytes of bodies that were never captured.
    pub missing_bytes: u64,
    /// Either message ended before its framing said so.
    pub incomplete: bool,
    /// A half call: its request or response was never seen.
    pub half: bool,
    /// Innermost VNI, if any.
    pub vni: Option<u32>,
    /// First byte of the request (of the response for an orphan), nanoseconds since the epoch.
    pub time_nanos: u64,
    /// First request byte to first response byte, in nanoseconds.
    pub took_nanos: u64,
}

/// Takes finished lines: the bundler in the daemon, a printer in `sniffer read`.
pub trait Output {
    /// One line without its newline: a JSON array of `[key, value]` pairs.
    fn line(&mut self, line: &[u8], notes: &Notes);
}
