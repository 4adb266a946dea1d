//! One connection of steady traffic.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Opening,
    Calling,
    Closing,
    /// Closed for good; no other connection replaces it.
    Closed,
}

#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) phase: Phase,
    /// Index of the next frame in the script of the phase.
    pub(super) frame: usize,
    /// Index of the body of the current call.
    pub(super) variant: usize,
    /// Number of the current call, the first of those at once.
    pub(super) number: u64,
    /// Streams that it has used.
    pub(super) streams: u64,
    pub(super) calls_left: u64,
    pub(super) address: u32,
    pub(super) port: u16,
    /// Sequence numbers of client and server at the start of the current script.
    pub(super) next: [u32; 2],
}
