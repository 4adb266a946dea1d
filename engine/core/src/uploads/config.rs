//! Which uploads are skipped.

use std::sync::Arc;

use super::marker::Identity;

/// Which uploads are skipped.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Who this process is; nobody where it uploads nothing, as in `read`.
    pub identity: Option<Arc<Identity>>,
    /// Read the uploads of other sniffers as calls.
    pub include_others: bool,
}
