//! `sniffer demo`: the all-in-one on loopback, and calls of every shape for it to capture.
//!
//! If a sniffer already runs, the demo switches its capture on and only makes the calls. Nothing leaves the machine: server, client, store and page
//! are on loopback, and without `--data` the captured calls are deleted at the end.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::command_line::DemoFlags;
use crate::config::setting::DEMO;
use crate::config::settings::{Settings, row};
use crate::config::values::Values;
use crate::control::{self, Request};
use crate::diagnostic::{Code, Console, Diagnostic, Exit, system_words};
use crate::invocation::Invocation;
use crate::quantity::plural;
use crate::status::{State, Status};
use crate::store_process::ask;
use crate::supervisor;

mod client;
mod server;

/// How long the sniffer may take to start capturing.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long calls may take from the wire to the store before the demo reports what is there.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Ports that are tried, of those that the settings read.
const PORTS_TRIED: usize = 64;

/// `sniffer demo`: runs until Ctrl-C, or for the time that a flag gives.
pub fn command(flags: &DemoFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let mut values = invocation.values()?;
    flags.settings.apply(&mut values);
    let (control, console) = (invocation.control.clone(), invocation.console);
    let running = status_of(&control);
    let page = (!values.has(row::ui())).then(|| row::ui().default());
    let page = page.and_then(|address| Page::find(address, &control));
    if flags.calls_only || running.is_some() || page.is_some() {
        if let Some(status) = &running {
            switch_on(status, &control, console)?;
        } else if let Some(page) = &page {
            console.info(format!(
                "a store has its page on {}: making calls for the sniffer that it belongs to",
                page.address
            ));
        } else {
            console.info("no sniffer of this user is running: making calls all the same");
        }
        let control = running.is_some().then_some(control.as_path());
        let port = match flags.port {
            0 => port_that_is_read(&values)?,
            given => given,
        };
        return calls_only(port, page.as_ref(), control, console);
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
    // What it shows is its own, and nothing of the network reaches it.
    if !values.has(row::ui_token()) && Settings::check(&values, DEMO)?.ui.ip().is_loopback() {
        values.set(row::ui_token(), "off");
    }
    values.remove(row::url());
    values.remove(row::mode());
    let shop = server::start(flags.port).map_err(|error| cannot_listen(flags.port, &error))?;
    values.set(row::interfaces(), "lo");
    values.set(row::ports(), shop.port().to_string());

    let making = control.clone();
    let exit_after = flags.exit_after;
    let make = move || {
        let made = make_and_report(&making, shop, exit_after, console);
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
        is_demo: true,
    });
    let _ = std::fs::remove_dir_all(folder);
    exit
}

/// Switches the capture of a running sniffer on, if it is off.
fn switch_on(status: &Status, control: &Path, console: Console) -> Result<(), Diagnostic> {
    if status.state == State::Running {
        console.info("a sniffer is running: making calls for it");
        return Ok(());
    }
    console.info("a sniffer is running, but its capture is off: switching it on");
    let answer = control::send(control, Request::On, START_TIMEOUT).map_err(|_| {
        let what = format!("no answer on {}", control.display());
        Diagnostic::new(Code::E110, what)
    })?;
    if answer.exit == Exit::Done as u8 {
        return Ok(());
    }
    Err(Diagnostic::new(
        Code::E112,
        format!("the capture does not start: {}", answer.text.trim_end()),
    )
    .fix("sniffer check    shows what it needs"))
}

/// Makes the calls for a sniffer that already runs. If its page is known, the exit shows whether they reached its store, and else,
/// if its control socket is, whether it saw them.
fn calls_only(
    port: u16,
    page: Option<&Page>,
    control: Option<&Path>,
    console: Console,
) -> Result<Exit, Diagnostic> {
    // A page that does not admit us shows nothing.
    let page = page.filter(|page| page.calls_received().is_some());
    let (counted, place) = match page {
        Some(page) => ("reached the store", format!("http://{}", page.address)),
        None => ("were seen by the sniffer", "sniffer status".to_owned()),
    };
    let received = || match page {
        Some(page) => page.calls_received(),
        None => control.and_then(calls_seen),
    };
    let before = received();
    let shop = server::start(port).map_err(|error| cannot_listen(port, &error))?;
    console.info(format!(
        "calls go to {shop} on lo{}",
        if port == 0 {
            "; if the sniffer reads certain ports only: --port PORT"
        } else {
            ""
        }
    ));
    let calls = client::make_calls(shop).map_err(|error| {
        Diagnostic::new(Code::E199, format!("the demo's calls failed: {error}"))
    })?;
    console.info(format!("made {calls} calls"));
    let Some(before) = before else {
        return Ok(Exit::Done);
    };
    let deadline = Instant::now() + DELIVERY_TIMEOUT;
    loop {
        let arrived = received().map_or(0, |now| now.saturating_sub(before));
        if arrived >= calls {
            console.info(format!("{calls} calls {counted}: {place}"));
            return Ok(Exit::Done);
        }
        if Instant::now() > deadline {
            let what = format!("{arrived} of {calls} calls {counted}: {place}");
            let reads = control
                .and_then(status_of)
                .and_then(|status| status.capture);
            let reads = reads.map_or_else(String::new, |capture| {
                format!(
                    ", and reads {} on {}",
                    capture.reads,
                    capture.interfaces.join(", ")
                )
            });
            return Err(Diagnostic::new(Code::E112, what).fix(format!(
                "sniffer on    switches the capture on; it has to read lo and the port of the calls{reads}\nsniffer demo --calls-only --port 8080    makes them to another port, here 8080"
            )));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A free port of those that the settings read, which a container has for all its commands; 0, for any, where they read every port or
/// none of them is free.
fn port_that_is_read(values: &Values) -> Result<u16, Diagnostic> {
    let row = row::ports();
    let ports = row.check(values.given(row))?.set;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut read = (1..=u16::MAX)
        .filter(|port| !ports.is_any() && ports.contains(*port))
        .take(PORTS_TRIED);
    Ok(read.find(is_free).unwrap_or(0))
}

/// The page of a store that runs already.
struct Page {
    address: SocketAddr,
    /// None where it requires none, and where this user may not have it.
    token: Option<String>,
}

impl Page {
    /// The page of this address, if a store has one there.
    fn find(address: SocketAddr, control: &Path) -> Option<Self> {
        let link = link_of(control).unwrap_or_default();
        let token = link
            .split_once("?token=")
            .map(|(_, token)| token.to_owned());
        let page = Self { address, token };
        let answer = page.status()?;
        let requires_token =
            answer.starts_with("HTTP/1.1 401") && answer.contains("`sniffer page`");
        (requires_token || calls_received(&answer).is_some()).then_some(page)
    }

    fn status(&self) -> Option<String> {
        let token = self.token.as_ref();
        let authorization = token.map_or_else(String::new, |token| {
            format!("Authorization: Bearer {token}\r\n")
        });
        ask(self.address, "GET /api/v1/status", &authorization).ok()
    }

    /// Calls that its store ever stored; none if the page does not admit us.
    fn calls_received(&self) -> Option<u64> {
        calls_received(&self.status()?)
    }
}

/// Calls that the sniffer with this control socket has seen, those included that its rules stop.
fn calls_seen(control: &Path) -> Option<u64> {
    Some(status_of(control)?.capture?.calls.seen)
}

fn calls_received(answer: &str) -> Option<u64> {
    let (_, rest) = answer.split_once("\"calls_received\":")?;
    let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
    rest[..digits].parse().ok()
}

/// The link that opens the page of the running all-in-one.
fn link_of(control: &Path) -> Option<String> {
    let answer = control::send(control, Request::Page, Duration::from_secs(2)).ok()?;
    (answer.exit == Exit::Done as u8).then_some(answer.text)
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
fn make_and_report(
    control: &Path,
    shop: SocketAddr,
    exit_after: Option<u64>,
    console: Console,
) -> bool {
    let failed = |status: &Status| {
        status
            .stopped
            .as_ref()
            .is_some_and(|stopped| !stopped.by.is_empty())
    };
    let status = wait_for(control, START_TIMEOUT, |status| {
        status.state == State::Running || failed(status)
    });
    if status.is_none_or(|status| status.state != State::Running) {
        console.info("demo: capture did not start; see the message above");
        return false;
    }
    let page = link_of(control).unwrap_or_default();
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
    let end = exit_after.map_or_else(
        || "goes on until Ctrl-C".to_owned(),
        |seconds| format!("ends in {}", plural(seconds, "second")),
    );
    console.info(format!("\n  open {page}\n\ndemo: {end}"));
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
