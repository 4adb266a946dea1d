//! The state of the capture process, its control socket, and why it ended.

use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::child::Child;
use crate::config::settings::{Settings, row};
use crate::config::values::Values;
use crate::control::{self, Request, Response};
use crate::status::{Status, Stopped};

/// The state of the capture process.
pub(super) enum Capture {
    Off(Stopped, Instant),
    Starting {
        child: Child,
        replies: Vec<Sender<Response>>,
    },
    On {
        child: Child,
    },
    Stopping {
        child: Child,
        by: &'static str,
        deadline: Instant,
        replies: Vec<Sender<Response>>,
    },
}

/// Why a capture ended.
pub(super) enum End {
    /// It was stopped, by a user or a signal.
    Stopped(&'static str),
    /// It ended by itself, while it started or later.
    Died { was_on: bool },
}

/// Whether the configured URL is that of the embedded store, as in the environment files of network-sniffer 1.x.
pub(super) fn is_own_store(values: &Values, settings: &Settings) -> bool {
    let Some(url) = values.given(row::url()) else {
        return true;
    };
    let port = settings.store.port();
    let own =
        ["localhost", "127.0.0.1", "[::1]"].map(|host| format!("http://{host}:{port}/message"));
    own.iter().any(|own| own == url.text.trim())
}

/// Why a capture ended by itself, from the last error that it reported: `capture could not start: ... [E010]`. Empty if it
/// reported none.
pub(super) fn died(was_on: bool, errors: &str) -> String {
    let error = errors
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("error[")?.split_once("]: "));
    let before = if was_on {
        "capture ended"
    } else {
        "capture could not start"
    };
    error.map_or_else(String::new, |(code, what)| {
        format!("{before}: {what} [{code}]")
    })
}

/// The control socket of the capture process, in the folder of the supervisor's.
pub(super) fn capture_control(control: &Path) -> PathBuf {
    let mut name = control.as_os_str().to_owned();
    name.push(".capture");
    PathBuf::from(name)
}

pub(super) fn ask_capture(control: &Path) -> Option<Status> {
    control::send(
        &capture_control(control),
        Request::Status,
        Duration::from_secs(2),
    )
    .ok()?
    .status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_capture_that_died_is_its_last_error() {
        let errors = "warning[W021]: dmy0 is down\nerror[E010]: may not open a packet socket\n  fix: run as root\n";
        assert_eq!(
            died(false, errors),
            "capture could not start: may not open a packet socket [E010]"
        );
        assert_eq!(
            died(true, errors),
            "capture ended: may not open a packet socket [E010]"
        );
        assert_eq!(died(true, "killed"), "");
    }
}
