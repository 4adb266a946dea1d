//! What a run is told beside its settings.

use std::path::Path;

use crate::config::Rules;
use crate::diagnostic::{Code, Console, Diagnostic};

/// What a run is told beside its settings.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Control socket.
    pub control: &'a Path,
    /// Ports of this machine whose connections are our own and not read.
    pub own_ports: &'a [u16],
    /// A supervisor started us: end with it, and tell it the final status on standard output.
    pub is_supervised: bool,
    /// Reads the settings again for their rules: what a rules file says now.
    pub reload: &'a dyn Fn() -> Result<Rules, Diagnostic>,
    /// The file that the rules are in.
    pub rules_file: Option<&'a Path>,
    /// Where notices and problems are written.
    pub console: Console,
}

/// Something that cannot fail did.
pub(super) fn bug(what: &str, error: &impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new(Code::E199, format!("{what}: {error}"))
}
