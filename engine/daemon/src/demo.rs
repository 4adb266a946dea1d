//! `sniffer demo`: the all-in-one on loopback, and calls of every shape for it to capture.
//!
//! If a sniffer already runs, the demo only makes the calls. Nothing leaves the machine: server, client, store and page
//! are on loopback, and without `--data` the captured calls are deleted at the end.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::command_line::DemoFlags;
use crate::config::settings::row;
use crate::control::{self, Request};
use crate::diagnostic::{Code, Console, Diagnostic, Exit, system_words};
use crate::invocation::Invocation;
use crate::status::{State, Status};
use crate::supervisor;

mod client;
mod server;

/// How long the sniffer may take to start capturing.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long calls may take from the wire to the store before the demo reports what is there.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// `sniffer demo`: runs until Ctrl-C, or for the time that a flag gives.
pub fn command(flags: &DemoFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let mut values = invocation.values()?;
    flags.settings.apply(&mut values);
    let (control, console) = (invocation.control.clone(), invocation.console);
    let running = status_of(&control);
    if flags.calls_only || running.is_some() {
        return calls_only(flags, running.as_ref(), console);
    }
    let (folder, control) = folder_and_control(control)?;
    if !values.has(row::data()) {
        values.set(row::data(), folder.join("data").to_string_lossy());
    }
    for listening in [row::store(), row::ui()] {
        if !values.has(listening) {
            let port = free_port(listening.default().port())?;
            values.set(listening, format!("127.0.0.1:{port}"));
        }
    }
    values.remove(row::url());
    values.remove(row::mode());
    let shop = server::start(flags.port).map_err(|error| cannot_listen(flags.port, &error))?;
    values.set(row::interfaces(), "lo");
    values.set(row::ports(), shop.port().to_string());

    let making = control.clone();
    let exit_after = flags.exit_after;
    let make = move || {
        let made = make_and_report(&making, shop, console);
        let seconds = match (made, exit_after) {
            (false, _) => 0,
            (true, Some(seconds)) => seconds,
            (true, None) => return,
        };
        std::thread::sleep(Duration::from_secs(seconds));
        // The supervisor handles the signal as it does Ctrl-C.
        let _ = signal_hook::low_level::raise(signal_hook::consts::SIGTERM);
    };
    std::thread::Builder::new()
        .name("demo".into())
        .spawn(make)
        .map_err(|error| Diagnostic::new(Code::E199, format!("cannot start a thread: {error}")))?;
    let exit = supervisor::run(supervisor::Options {
        values,
        on: true,
        control,
        console,
    });
    let _ = std::fs::remove_dir_all(folder);
    exit
}

/// Makes the calls for a sniffer that already runs, and reports whether one does.
fn calls_only(
    flags: &DemoFlags,
    running: Option<&Status>,
    console: Console,
) -> Result<Exit, Diagnostic> {
    match running {
        Some(status) if status.state == State::Running => {
            console.info("a sniffer is running: making calls for it");
        }
        Some(_) => console.info(
            "a sniffer is running but off (turn it on: sniffer on): making calls all the same",
        ),
        None => console.info("no sniffer of this user is running: making calls all the same"),
    }
    let shop = server::start(flags.port).map_err(|error| cannot_listen(flags.port, &error))?;
    console.info(format!(
        "calls go to {shop} on lo{}",
        if flags.port == 0 {
            "; if the sniffer reads certain ports only: --port PORT"
        } else {
            ""
        }
    ));
    let calls = client::make_calls(shop).map_err(|error| {
        Diagnostic::new(Code::E199, format!("the demo's calls failed: {error}"))
    })?;
    console.info(format!("made {calls} calls"));
    Ok(Exit::Done)
}

/// A new folder, and the usual control socket if it can be made, so that a plain `sniffer` finds this one.
fn folder_and_control(control: PathBuf) -> Result<(PathBuf, PathBuf), Diagnostic> {
    let folder = std::env::temp_dir().join(format!("sniffer-demo-{}", std::process::id()));
    let made = std::fs::create_dir(&folder).and_then(|()| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))
    });
    made.map_err(|error| {
        Diagnostic::new(
            Code::E101,
            format!("cannot make {}: {error}", folder.display()),
        )
        .fix("TMPDIR=/a/folder/to/write/to")
    })?;
    let usable = control
        .parent()
        .is_some_and(|parent| std::fs::create_dir_all(parent).is_ok() && !is_read_only(parent));
    let control = if usable {
        control
    } else {
        folder.join("control.sock")
    };
    Ok((folder, control))
}

fn is_read_only(folder: &Path) -> bool {
    let probe = folder.join(format!(".{}", std::process::id()));
    let refused = std::fs::write(&probe, "").is_err();
    let _ = std::fs::remove_file(probe);
    refused
}

/// The usual port if it is free, otherwise any free one.
fn free_port(usual: u16) -> Result<u16, Diagnostic> {
    let bound =
        TcpListener::bind(("127.0.0.1", usual)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)));
    bound
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| cannot_listen(usual, &error))
}

fn cannot_listen(port: u16, error: &std::io::Error) -> Diagnostic {
    Diagnostic::new(
        Code::E101,
        format!("cannot listen on 127.0.0.1:{port}: {}", system_words(error)),
    )
}

fn status_of(control: &Path) -> Option<Status> {
    control::send(control, Request::Status, Duration::from_secs(2))
        .ok()?
        .status
}

/// Makes the calls once capture is on, waits until they are in the store, and prints the page's address. False if there
/// is nothing to see.
fn make_and_report(control: &Path, shop: SocketAddr, console: Console) -> bool {
    let failed = |status: &Status| {
        status
            .stopped
            .as_ref()
            .is_some_and(|stopped| !stopped.by.is_empty())
    };
    let status = wait_for(control, START_TIMEOUT, |status| {
        status.state == State::Running || failed(status)
    });
    let Some(status) = status.filter(|status| status.state == State::Running) else {
        console.info("demo: capture did not start; see the message above");
        return false;
    };
    let page = status.store.map(|store| store.page).unwrap_or_default();
    console.info(format!("demo: calling a small shop on http://{shop}"));
    let calls = match client::make_calls(shop) {
        Ok(calls) => calls,
        Err(error) => {
            console.info(format!("demo: the calls failed: {error}"));
            return false;
        }
    };
    let sent = |status: &Status| {
        status
            .capture
            .as_ref()
            .map_or(0, |capture| capture.calls.sent)
    };
    let delivered = wait_for(control, DELIVERY_TIMEOUT, |status| sent(status) >= calls)
        .or_else(|| status_of(control));
    let sent = delivered.as_ref().map_or(0, sent);
    console.info(format!(
        "demo: made {calls} calls, {sent} captured and stored"
    ));
    console.info(format!("\n  open {page}\n\ndemo: goes on until Ctrl-C"));
    true
}

fn wait_for(control: &Path, timeout: Duration, wanted: impl Fn(&Status) -> bool) -> Option<Status> {
    let deadline = Instant::now() + timeout;
    while Instant::now() < deadline {
        if let Some(status) = status_of(control).filter(&wanted) {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}
