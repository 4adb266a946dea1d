//! `sniffer on`, `off`, `status`, `page`, `ports` and `rules reload`: a request to the running program, its answer on standard output.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::control::{self, Request, Response, Unreachable};
use crate::diagnostic::{Code, Diagnostic, Exit, printable};
use crate::invocation::Invocation;
use crate::process;
use crate::status::{self, State, Status};
use crate::stdout::{print, print_json};

pub mod ports;

/// Time for a status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for `on` and `off`: an `off` delivers first.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(120);

/// How long the first process of a container may take from its start until its control socket is there.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// What is printed before each status on a terminal: the cursor goes to the top, and the rest is erased.
const ERASE: &str = "\x1b[H\x1b[2J";

/// Prints the status every `seconds`, until a signal comes or nobody reads it any more.
pub fn watch_status(invocation: &Invocation, json: bool, seconds: u64) -> Result<Exit, Diagnostic> {
    let is_terminal = std::io::stdout().is_terminal();
    loop {
        if is_terminal && !json {
            print(ERASE);
        }
        let exit = show_status(invocation, json)?;
        if !is_terminal && !json {
            print("\n");
        }
        if std::io::stdout().flush().is_err() {
            return Ok(exit);
        }
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

/// Prints the status, as JSON or as text. A program that does not run has one, too.
pub fn show_status(invocation: &Invocation, json: bool) -> Result<Exit, Diagnostic> {
    let answer = control::send(&invocation.control, Request::Status, STATUS_TIMEOUT);
    let (status, exit) = match answer {
        Ok(response) => (response.status.unwrap_or_else(status::empty), response.exit),
        Err(Unreachable::NotRunning) => (status::empty(), Exit::NotRunning as u8),
        Err(Unreachable::Error(problem)) => return Err(problem),
    };
    if json {
        print_json(&status);
    } else {
        print(&printable(&status.render()));
        if let Some(advice) = advice(&status) {
            invocation.console.info(advice);
        }
    }
    Ok(if exit == 0 && status.state != State::Stopped {
        Exit::Done
    } else {
        Exit::NotRunning
    })
}

/// What to do where nothing captures and nothing ever did.
fn advice(status: &Status) -> Option<&'static str> {
    let was_never_on = status.state == State::Stopped
        && status.capture.is_none()
        && status
            .stopped
            .as_ref()
            .is_none_or(|stopped| stopped.by.is_empty());
    was_never_on.then_some(match status.store {
        Some(_) => "sniffer on    starts to capture",
        None => "sniffer all-in-one --on    captures, and shows the calls on a page; sniffer demo brings calls with it",
    })
}

/// Prints the link that opens the page, and nothing else on standard output.
pub fn show_page(invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let control = &invocation.control;
    let what = match send(control, Request::Page, STATUS_TIMEOUT) {
        Ok(response) if response.exit == Exit::Done as u8 => {
            print(&format!("{}\n", response.text.trim_end()));
            return Ok(Exit::Done);
        }
        Ok(response) => response.text,
        Err(Unreachable::Error(problem)) => return Err(problem),
        Err(Unreachable::NotRunning) => format!("nothing answers on {}", control.display()),
    };
    let fix = "sniffer all-in-one    has a page; the token of `sniffer store` is in page.token in its data folder";
    Err(Diagnostic::new(Code::E113, format!("no page: {what}")).fix(fix))
}

/// Sends a request. To a container that has only been started, as by two lines that are pasted together, it is sent as soon as the
/// control socket is there.
fn send(control: &Path, request: Request, timeout: Duration) -> Result<Response, Unreachable> {
    let started = Instant::now();
    loop {
        match control::send(control, request, timeout) {
            Err(Unreachable::NotRunning)
                if started.elapsed() < START_TIMEOUT && process::is_container_of_sniffer() =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            answer => return answer,
        }
    }
}

/// Sends a request and prints the answer.
pub fn request(invocation: &Invocation, request: Request) -> Result<Exit, Diagnostic> {
    let control = &invocation.control;
    match send(control, request, CONTROL_TIMEOUT) {
        Ok(response) => {
            print(&format!("{}\n", printable(response.text.trim_end())));
            Ok(Exit::from_code(response.exit))
        }
        Err(Unreachable::Error(problem)) => Err(problem),
        Err(Unreachable::NotRunning) => {
            print("sniffer: ERROR (no sniffer is running)\n");
            let what = format!("nothing answers on {}", control.display());
            let problem = Diagnostic::new(Code::E110, what);
            eprint!("{}", problem.fix("sniffer all-in-one    or: sniffer run"));
            Ok(Exit::NotRunning)
        }
    }
}
