//! What the supervisor and its children start with.

use std::path::PathBuf;

use crate::config::values::Values;
use crate::diagnostic::Console;

/// What the supervisor runs with.
#[derive(Clone, Debug)]
pub struct Options {
    /// All settings, flags over environment. They become the environment of the children.
    pub values: Values,
    /// Capture at once.
    pub on: bool,
    /// Its control socket.
    pub control: PathBuf,
    /// Its page shows calls of its own making.
    pub is_demo: bool,
    /// Where notices and problems are written.
    pub console: Console,
}
