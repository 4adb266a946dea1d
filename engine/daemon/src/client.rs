//! `sniffer on`, `off`, `status`, `page` and `rules reload`: a request to the running program, its answer on standard output.

use std::time::Duration;

use crate::control::{self, Request, Unreachable};
use crate::diagnostic::{Code, Diagnostic, Exit, printable};
use crate::invocation::Invocation;
use crate::status::{self, State};
use crate::stdout::{print, print_json};

/// Time for a status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for `on` and `off`: an `off` delivers first.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(120);

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
    }
    Ok(if exit == 0 && status.state != State::Stopped {
        Exit::Done
    } else {
        Exit::NotRunning
    })
}

/// Prints the link that opens the page, and nothing else on standard output.
pub fn show_page(invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let control = &invocation.control;
    let what = match control::send(control, Request::Page, STATUS_TIMEOUT) {
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

/// Sends a request and prints the answer.
pub fn request(invocation: &Invocation, request: Request) -> Result<Exit, Diagnostic> {
    let control = &invocation.control;
    match control::send(control, request, CONTROL_TIMEOUT) {
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
