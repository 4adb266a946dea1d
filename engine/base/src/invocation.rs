//! The options that every command takes, and the settings of the environment that go with them.

use std::path::PathBuf;

use crate::config;
use crate::config::command_line::{Cli, GlobalFlags};
use crate::config::environment;
use crate::config::values::Values;
use crate::diagnostic::{Console, Diagnostic};

/// What a command gets besides its own flags.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Standard error.
    pub console: Console,
    /// The control socket.
    pub control: PathBuf,
    /// `--json` stood before the command.
    pub json: bool,
    /// The flags of every command.
    pub flags: GlobalFlags,
}

impl Invocation {
    /// From the command line.
    pub fn new(cli: &Cli) -> Self {
        Self {
            console: Console::new(cli.global.color, cli.global.quiet),
            control: config::control_path(&cli.global.settings),
            json: cli.json,
            flags: cli.global.clone(),
        }
    }

    /// The settings of the environment; a command adds its flags. Names that are not settings are reported here.
    ///
    /// # Errors
    ///
    /// A name is not a setting, and `--lenient` is not given.
    pub fn values(&self) -> Result<Values, Diagnostic> {
        let (mut values, notices) = environment::values(std::env::vars_os(), self.flags.lenient)?;
        self.console.report_all(&notices);
        self.flags.settings.apply(&mut values);
        Ok(values)
    }
}
