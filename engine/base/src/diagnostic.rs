//! Errors and warnings as a user sees them: the problem, its cause, a remedy to paste, and a code to look up.
//!
//! A problem with `E` stops the program with the exit code of its kind, one with `W` does not. Text is written to standard
//! error, in colour where that is switched on. The code that finds a problem describes it; this module only renders it.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

mod catalogue;

pub use catalogue::Code;

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or running.
    Done = 0,
    /// A bug of the program.
    Bug = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Not running (`status`); the number is that of `systemctl` and `supervisorctl`.
    NotRunning = 3,
    /// The running program cannot be reached.
    Unknown = 4,
    /// A capability is missing, or seccomp or a security module refused.
    Permission = 5,
    /// An interface or a capture file.
    Source = 6,
    /// The destination.
    Destination = 7,
    /// Finished, but not everything was delivered or accounted for.
    Incomplete = 8,
}

impl Exit {
    /// The exit that has this code; an unknown code counts as a bug.
    pub fn from_code(code: u8) -> Self {
        let all = [
            Self::Done,
            Self::Bug,
            Self::Usage,
            Self::NotRunning,
            Self::Unknown,
            Self::Permission,
            Self::Source,
            Self::Destination,
            Self::Incomplete,
        ];
        all.into_iter()
            .find(|exit| *exit as u8 == code)
            .unwrap_or(Self::Bug)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// One problem, described for the person who can solve it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Which problem.
    pub code: Code,
    /// One sentence: what is wrong.
    pub what: String,
    /// The cause, as far as it is known; may have several lines.
    pub cause: Option<String>,
    /// A remedy to paste; may have several lines.
    pub fix: Option<String>,
}

impl Diagnostic {
    /// A problem with neither cause nor fix yet.
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            cause: None,
            fix: None,
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds a remedy to paste.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// How the program ends if this stops it.
    pub fn exit(&self) -> Exit {
        self.code.exit()
    }

    /// The text, with its final newline.
    pub fn render(&self, colour: bool) -> String {
        let (paint, word) = if self.code.stops() {
            ("\x1b[1;31m", "error")
        } else {
            ("\x1b[1;33m", "warning")
        };
        let (paint, dim, plain) = if colour {
            (paint, "\x1b[1m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let mut text = format!("{paint}{word}[{}]{plain}: {}\n", self.code, self.what);
        for (label, body) in [("cause", &self.cause), ("fix", &self.fix)] {
            let Some(body) = body else { continue };
            let indent = " ".repeat(label.len() + 4);
            let body = body.trim_end().replace('\n', &format!("\n{indent}"));
            text.push_str(&format!("  {dim}{label}:{plain} {body}\n"));
        }
        text
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// Text of another process without what has an effect on a terminal: blanks instead of control characters, but for line ends
/// and tabulators.
pub fn printable(text: &str) -> String {
    let replaced = |letter: char| match letter {
        '\n' | '\t' => letter,
        letter if letter.is_control() => ' ',
        letter => letter,
    };
    text.chars().map(replaced).collect()
}

/// The system's description of an error, without the number that Rust appends.
pub fn system_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}

/// Whether output is coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Writes notices and problems to standard error. Standard output is for data.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    colour: bool,
    quiet: bool,
}

impl Console {
    /// A console that writes only errors if `quiet`.
    pub fn new(colour: Colour, quiet: bool) -> Self {
        Self {
            colour: wants_colour(colour, std::io::stderr().is_terminal()),
            quiet,
        }
    }

    /// The flags with which a child process writes in the same way.
    pub fn flags(self) -> Vec<&'static str> {
        let mut flags = vec!["--color", if self.colour { "always" } else { "never" }];
        if self.quiet {
            flags.push("--quiet");
        }
        flags
    }

    /// Writes a notice, unless quiet.
    pub fn info(self, text: impl fmt::Display) {
        if !self.quiet {
            write_to_stderr(&format!("{text}\n"));
        }
    }

    /// Writes a problem; a warning only if not quiet.
    pub fn report(self, problem: &Diagnostic) {
        if problem.code.stops() || !self.quiet {
            write_to_stderr(&problem.render(self.colour));
        }
    }

    /// Writes several problems.
    pub fn report_all(self, problems: &[Diagnostic]) {
        for problem in problems {
            self.report(problem);
        }
    }
}

/// A closed standard error is ignored: there is nowhere left to report it.
fn write_to_stderr(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Whether a stream is coloured, by the flag, `NO_COLOR` (no-color.org: set and not empty) and the stream's kind.
pub fn wants_colour(colour: Colour, terminal: bool) -> bool {
    match colour {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => {
            let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
            terminal && !no_colour && !dumb
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(problem: &Diagnostic, colour: bool, expected: &str) {
        assert_eq!(problem.render(colour), expected);
    }

    #[test]
    fn has_the_form_of_every_message() {
        let problem = Diagnostic::new(Code::E020, "no interface \"eth0\"")
            .cause("up here: lo\nens5")
            .fix("-i ens5");
        check(
            &problem,
            false,
            "error[E020]: no interface \"eth0\"\n  cause: up here: lo\n         ens5\n  fix: -i ens5\n",
        );
        check(
            &Diagnostic::new(Code::W003, "quotes"),
            true,
            "\x1b[1;33mwarning[W003]\x1b[0m: quotes\n",
        );
        assert_eq!(problem.exit(), Exit::Source);
    }

    #[test]
    fn every_code_has_an_explanation_and_errors_have_an_exit_code() {
        for &code in Code::ALL {
            assert!(code.explanation().len() > 40, "{code} explains itself");
            assert_eq!(Code::find(&code.to_string()), Some(code));
            assert_eq!(code.stops(), code.to_string().starts_with('E'));
        }
        assert_eq!(Code::find("e041"), Some(Code::E041));
        assert_eq!(Code::find("E999"), None);
    }
}
