//! A request that asks for another protocol.

use crate::http::{Opening, Protocol};

/// What a request asks for.
#[derive(Debug)]
pub(super) struct Asked {
    /// Where the request begins.
    pub(super) offset: u64,
    /// HTTP/2 or WebSocket.
    pub(super) protocol: Protocol,
    /// What an answer may agree on.
    pub(super) opening: Opening,
}
