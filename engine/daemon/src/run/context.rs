//! What a run needs besides its settings.

use std::path::Path;

use crate::config::Rules;
use crate::diagnostic::{Code, Console, Diagnostic};
use crate::status::Killed;

/// What a run needs besides its settings.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The control socket.
    pub control: &'a Path,
    /// Ports of this machine whose connections are self traffic and not read.
    pub own_ports: &'a [u16],
    /// Addresses whose connections are self traffic of the store beside the capture.
    pub own_addresses: &'a [std::net::SocketAddr],
    /// A supervisor started this process: it ends with the supervisor, and prints its final status on standard output.
    pub is_supervised: bool,
    /// Reads the settings again for their rules, and with them the rules file.
    pub reload: &'a dyn Fn() -> Result<Vec<Rules>, Diagnostic>,
    /// Captures of the same supervisor that were killed before.
    pub killed: Killed,
    /// Where notices and problems are written.
    pub console: Console,
}

/// An error of what cannot fail.
pub(super) fn bug(what: &str, error: &impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new(Code::E199, format!("{what}: {error}"))
}
