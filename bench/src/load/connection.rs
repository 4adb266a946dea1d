//! One connection of steady traffic.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Opening,
    Calling,
    Closing,
    Over,
}

#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) phase: Phase,
    pub(super) frame: usize,
    pub(super) variant: usize,
    pub(super) number: u64,
    pub(super) calls_left: u64,
    pub(super) address: u32,
    pub(super) port: u16,
    /// Sequence numbers at the start of the current script.
    pub(super) next: [u32; 2],
}
