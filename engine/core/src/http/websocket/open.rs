//! What is known of a WebSocket between two of its bytes.

use super::reading::Reading;
use crate::http::{Opening, Side};

/// A WebSocket that is open; `D` is [`Exchanges::Draft`](crate::http::Exchanges::Draft).
#[derive(Debug)]
pub(in crate::http) struct Conversation<D> {
    pub(super) draft: D,
    pub(super) opening: Opening,
    pub(super) request: Reading,
    pub(super) response: Reading,
    /// Who has sent the first Close frame.
    pub(super) closed_by: Option<Side>,
}
