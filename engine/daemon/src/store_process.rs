//! `sniffer store`: the embedded store as a process of its own, as the owner of its folder and without any capability.

use std::io::{IsTerminal, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use caps::errors::CapsError;
use caps::{CapSet, Capability};
use engine_sys::interfaces::{Interface, LinkKind};
use engine_sys::{memory, process};
use serde::{Deserialize, Serialize};

use crate::capture_url::CaptureUrl;
use crate::config::command_line::{StoreCommand, StoreFlags};
use crate::config::setting::STORE;
use crate::config::settings::{Settings, row};
use crate::config::values::Values;
use crate::config::{
    PageToken, open_page, open_posts, page_token, plain_backend, post_token, store_target,
};
use crate::diagnostic::{Code, Console, Diagnostic, Exit};
use crate::invocation::Invocation;
use crate::process::is_in_container;
use crate::sandbox::{Confinement, Plan};
use crate::stdout::print_json;
use crate::supervised;

mod migrate;
mod owner;
mod rules;

/// Of 24 hours.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Milliseconds after which freed memory goes back to the kernel: at once, since what floods need is needed at one time.
const GIVE_BACK_MILLISECONDS: u16 = 0;

/// Days for which calls are kept in a ClickHouse unless others are given.
const BACKEND_DAYS: usize = 30;

/// Bytes that are read of the answer of another program on our port.
const ANSWER_BYTES_MAX: u64 = 4096;

/// The report of the store to its supervisor: one line on standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "store", rename_all = "lowercase")]
pub enum StoreReport {
    /// The store serves.
    Ready {
        /// The capture URL.
        capture_url: String,
        /// The page, for a browser that has its token.
        page_url: String,
        /// The page with its token.
        page_link: Link,
        /// Where its database is, if not in a file: connections there are self traffic.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        backend: Vec<SocketAddr>,
    },
    /// Another program serves a capture URL on its port.
    Taken {
        /// The capture URL.
        url: String,
        /// `7701 (capture URL) is taken by pid 812 (java)`.
        by: String,
    },
    /// Bundles cannot be stored, or can be again.
    Health {
        /// Why not; none when they can.
        problem: Option<String>,
    },
}

/// A link that opens the page for whoever has it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Link(String);

impl Link {
    /// The link, for a place where it may be seen.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl StoreReport {
    /// Whether the store is the one that we started.
    pub fn is_ours(&self) -> bool {
        !matches!(self, Self::Taken { .. })
    }

    /// Whether a store of ours reports this: its URLs are of this machine, and nothing in it has an effect on a terminal. The
    /// store reads what strangers send, and one who has taken it over must not have calls delivered elsewhere.
    pub fn is_plausible(&self, settings: &Settings) -> bool {
        let here = [settings.store, settings.ui].map(|address| format!("http://{address}/"));
        let is_loopback = |url: &str| {
            CaptureUrl::parse(url).is_ok_and(|url| !url.is_https() && url.is_loopback())
        };
        let is_here = |url: &str| {
            (is_loopback(url) || here.iter().any(|here| url.starts_with(here)))
                && url.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let is_text = |text: &str| !text.chars().any(char::is_control);
        match self {
            Self::Ready {
                capture_url,
                page_url,
                page_link,
                backend,
            } => {
                // A store that was taken over must not hide other connections from the capture.
                let hosts = settings
                    .store_backend
                    .as_ref()
                    .map(|address| &address.hosts);
                let is_of_backend = |address: &SocketAddr| {
                    hosts.is_some_and(|hosts| hosts.iter().any(|(_, port)| *port == address.port()))
                };
                is_here(capture_url)
                    && is_here(page_url)
                    && is_here(page_link.reveal())
                    && backend.iter().all(is_of_backend)
            }
            Self::Taken { url, by } => is_here(url) && is_text(by),
            Self::Health { problem } => problem.as_deref().is_none_or(is_text),
        }
    }

    /// The capture URL.
    pub fn url(&self) -> &str {
        match self {
            Self::Ready { capture_url, .. } => capture_url,
            Self::Taken { url, .. } => url,
            Self::Health { .. } => "",
        }
    }

    /// Ports of store and page, as a list.
    pub fn ports(&self) -> String {
        let port = |url: &str| {
            let authority = url.split('/').nth(2).unwrap_or_default();
            authority.rsplit(':').next().unwrap_or_default().to_owned()
        };
        match self {
            Self::Ready {
                capture_url,
                page_url,
                ..
            } => format!("{},{}", port(capture_url), port(page_url)),
            Self::Taken { url, .. } => port(url),
            Self::Health { .. } => String::new(),
        }
    }

    /// Where its database is, if not in a file.
    pub fn backend(&self) -> &[SocketAddr] {
        match self {
            Self::Ready { backend, .. } => backend,
            Self::Taken { .. } | Self::Health { .. } => &[],
        }
    }

    /// The page without its token, empty when there is none.
    pub fn page(&self) -> &str {
        match self {
            Self::Ready { page_url, .. } => page_url,
            Self::Taken { .. } | Self::Health { .. } => "",
        }
    }
}

/// How the page is named at the start: on a terminal by the link, which opens it. In a container the log has the link, too, since a
/// newcomer looks for it there, and only those read it who may run commands in the container; but no token that the user has set.
pub fn page_shown(settings: &Settings, page_url: &str, link: &Link, otherwise: &str) -> String {
    let token = &settings.ui_token;
    if *token == PageToken::Off {
        return page_url.to_owned();
    }
    let is_for_people = std::io::stderr().is_terminal();
    if is_for_people || (is_in_container() && !token.is_given()) {
        return link.reveal().to_owned();
    }
    format!("{page_url} ({otherwise})")
}

/// How other machines reach a page that listens on all addresses, for a message; nothing for any other page.
pub fn page_from_elsewhere(page: SocketAddr) -> String {
    if !page.ip().is_unspecified() {
        return String::new();
    }
    let interfaces = engine_sys::interfaces::list().unwrap_or_default();
    match address_for_others(page.ip(), &interfaces) {
        Some(ip) => {
            let address = SocketAddr::new(ip, page.port());
            format!(", from other machines http://{address}/ with the same token")
        }
        None => String::new(),
    }
}

/// The address of this machine by which others reach what listens on `any`; one of a bridge, such as that of containers, only
/// if there is no other.
fn address_for_others(any: IpAddr, interfaces: &[Interface]) -> Option<IpAddr> {
    let is_usable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => any.is_ipv6() && !ip.is_unicast_link_local(),
    };
    let of = |bridges: bool| {
        let mut found = interfaces.iter().filter(|interface| {
            let is_bridge = interface.kind == LinkKind::Bridge;
            interface.up && interface.carrier && !interface.loopback && is_bridge == bridges
        });
        found.find_map(|interface| interface.addresses.iter().copied().find(is_usable))
    };
    of(false).or_else(|| of(true))
}

/// `sniffer store`.
pub fn command(flags: &StoreFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    if let Some(StoreCommand::Migrate(flags)) = &flags.command {
        return migrate::command(flags, invocation);
    }
    let mut values = invocation.values()?;
    flags.settings.apply(&mut values);
    let settings = Settings::check(&values, STORE)?;
    run(
        &settings,
        retention(&settings, &values),
        flags.supervised,
        invocation.console,
    )
}

/// Runs the store until SIGTERM or SIGINT.
fn run(
    settings: &Settings,
    retention: store::Retention,
    is_supervised: bool,
    console: Console,
) -> Result<Exit, Diagnostic> {
    let token = page_token(settings)?;
    let post_token = post_token(settings)?;
    let elsewhere = page_from_elsewhere(settings.ui);
    if let (Some(warning), false) = (open_posts(settings, post_token.as_ref()), is_supervised) {
        console.report(&warning);
    }
    if let (Some(warning), false) = (open_page(settings, &token), is_supervised) {
        console.report(&warning);
    }
    let mut store = store::Config::new(&settings.data);
    store.capture = settings.store;
    store.page = settings.ui;
    store.token = token;
    store.post_token = post_token;
    // Floods come and go, and what they needed is not to stay.
    memory::give_back_after(GIVE_BACK_MILLISECONDS);
    // A kernel that refuses this makes the process larger, not wrong.
    let _ = memory::without_huge_pages();
    store.retention = retention;
    if let Some(target) = store_target(settings)? {
        store.location = store::Location::ClickHouse(target);
    }
    if let (Some(warning), false) = (plain_backend(settings), is_supervised) {
        console.report(&warning);
    }
    let user = prepare(&settings.data, &store)?;
    // For the token of the page; a file of calls makes it as well.
    let folder = store::folder::Folder::open(&settings.data);
    let opened = folder.and_then(|_| store::Opened::new(store));
    process::drop_capabilities().map_err(|error| cannot_give_up(&error))?;
    // Refused only by kernels before 3.5.
    let _ = process::no_new_privileges();
    // What was reached with a capability and cannot be without would fail later.
    let opened = opened.and_then(|opened| Ok(std::fs::read_dir(&settings.data).map(|_| opened)?));
    // Which process has a port that is taken, and what answers there, is determined before; after this only the files of the
    // database are needed.
    let mut plan = Plan::store(&settings.data, is_supervised);
    let backend = match &opened {
        Ok(opened) => opened.backend_addresses(),
        Err(_) => Vec::new(),
    };
    for address in &backend {
        plan.connect_to(address.port());
    }
    let files = (!settings.no_sandbox && opened.is_ok()).then(|| plan.confine_files());
    let report = |ready: &store::Ready| {
        let confinement = files.map_or(Confinement::Unwanted, |files| {
            Confinement::after(files, &plan)
        });
        if !confinement.is_full() {
            let user = user.map_or_else(String::new, |user| format!(", as user {user}"));
            console.info(format_args!("store sandbox: {confinement}{user}"));
        }
        let report = StoreReport::Ready {
            capture_url: ready.capture_url(),
            page_url: ready.page_url(),
            page_link: Link(ready.page_link()),
            backend: backend.clone(),
        };
        if is_supervised {
            print_json(&report);
        } else {
            let otherwise = if settings.ui_token.is_given() {
                "its token is the one that was set".to_owned()
            } else {
                format!(
                    "its token is in {}",
                    settings.data.join(store::token::TOKEN_NAME).display()
                )
            };
            let link = Link(ready.page_link());
            let page = page_shown(settings, report.page(), &link, &otherwise);
            let url = report.url();
            console.info(format!("store ready on {url}, page on {page}{elsewhere}"));
        }
    };
    let data = settings.data.display().to_string();
    let health = move |health: &store::Health| {
        let problem = match health {
            store::Health::Up => None,
            store::Health::Down(reason) => Some(reason.clone()),
        };
        match &problem {
            Some(reason) => console.report(&cannot_store(reason, &data)),
            None => console.info("the store can store calls again"),
        }
        if is_supervised {
            print_json(&StoreReport::Health { problem });
        }
    };
    let (passing, passed) = store::passed::passing();
    let linking = store::engine::Linking::default();
    let to_supervisor = linking.clone();
    let stop = async move {
        if is_supervised {
            // The first one is the link to the supervisor, the others are of its capture.
            let is_linked = AtomicBool::new(false);
            supervised::end_after_supervisor(move |connection| {
                if is_linked.swap(true, Ordering::Relaxed) {
                    passing.pass(connection);
                } else {
                    to_supervisor.set(connection);
                }
            });
        }
        store::termination().await;
    };
    let serve = |opened: store::Opened| {
        let opened = opened.with_passed(passed).with_link(linking);
        let opened = opened.with_rules(Arc::new(rules::Language));
        opened.run_until(report, health, stop)
    };
    match opened.and_then(serve) {
        Ok(()) => Ok(Exit::Done),
        Err(error) => match error.downcast_ref::<store::BindError>() {
            Some(taken)
                if taken.is_taken()
                    && is_supervised
                    && taken.role == store::Role::Capture
                    && is_capture_url(taken.address) =>
            {
                print_json(&StoreReport::Taken {
                    url: format!("http://localhost:{}/message", taken.address.port()),
                    by: taken.to_string(),
                });
                Ok(Exit::Done)
            }
            Some(bind) => Err(Diagnostic::new(Code::E101, bind.to_string())
                .fix("SNIFFER_STORE=:7711 SNIFFER_UI=127.0.0.1:7710    or --store and --ui")),
            None => {
                let is_refused = error.chain().any(|cause| {
                    let io = cause.downcast_ref::<std::io::Error>();
                    io.is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied)
                });
                let data = settings.data.display().to_string();
                Err(cannot_start(&format!("{error:#}"), is_refused, &data, user))
            }
        },
    }
}

/// The store has no database that it can use. `user` is whom it runs as, if not who started it.
fn cannot_start(why: &str, is_refused: bool, data: &str, user: Option<u32>) -> Diagnostic {
    let who = user.map_or_else(
        || "this user".to_owned(),
        |user| format!("its owner (user {user}, as whom the store runs)"),
    );
    let which = if is_refused {
        format!(", one that {who} may write to")
    } else {
        String::new()
    };
    Diagnostic::new(Code::E101, format!("the store cannot start: {why}"))
        .fix(format!("--data DIR    another folder{which} (now {data})"))
}

/// How much the store keeps. The defaults are those of a file; a ClickHouse has no bound but the age, unless one was given.
pub fn retention(settings: &Settings, values: &Values) -> store::Retention {
    let is_bounded = |row| settings.store_backend.is_none() || values.has(row);
    let bound = |row, number: usize| {
        if is_bounded(row) {
            number as u64
        } else {
            u64::MAX
        }
    };
    let days = settings
        .keep_days
        .or(settings.store_backend.as_ref().map(|_| BACKEND_DAYS));
    store::Retention {
        calls_max: bound(row::keep_calls(), settings.keep_calls),
        database_bytes_max: bound(row::keep_bytes(), settings.keep_bytes),
        age_max: days.map(|days| DAY * days as u32),
        // A bundle may come again as long as a sniffer keeps it; clocks differ, and it was in memory before.
        keys_age: store::limits::KEYS_AGE.max(settings.spool_age.saturating_add(DAY)),
    }
}

/// Bundles are answered with 503 until they can be stored again, and their senders try again.
pub fn cannot_store(reason: &str, data: &str) -> Diagnostic {
    Diagnostic::new(
        Code::W103,
        format!("the store cannot store calls: {reason} ({data})"),
    )
    .fix(format!("df -h {data}    shows the space that is left; --keep-bytes 500M keeps less, --data DIR another folder"))
}

/// Becomes the owner of the data folder, and gives up all capabilities but those for binding the ports. Returns the owner, if
/// that is another user.
pub fn prepare(data: &Path, store: &store::Config) -> Result<Option<u32>, Diagnostic> {
    // No program that this process could start has any either. Only root may say so.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).unwrap_or(false) {
        caps::clear(None, CapSet::Bounding).map_err(|error| cannot_give_up(&error))?;
    }
    let owner = owner::become_owner(data, &store.files()).map_err(|error| {
        let what = format!(
            "the store cannot become the owner of {}: {error}",
            data.display()
        );
        Diagnostic::new(Code::E101, what)
            .fix("--data DIR    another folder, one of the user that starts the store")
    })?;
    keep_capabilities(&[
        // For port 80.
        Capability::CAP_NET_BIND_SERVICE,
        // To name the process that has a port which is taken.
        Capability::CAP_SYS_PTRACE,
        Capability::CAP_DAC_READ_SEARCH,
    ])
    .map_err(|error| cannot_give_up(&error))?;
    Ok(owner)
}

/// The error when the kernel does not let a capability go.
pub fn cannot_give_up(error: &CapsError) -> Diagnostic {
    Diagnostic::new(Code::E199, format!("cannot give up capabilities: {error}"))
}

/// Gives up all capabilities but these, which take effect, as far as they are permitted.
fn keep_capabilities(kept: &[Capability]) -> Result<(), CapsError> {
    let mut permitted = caps::read(None, CapSet::Permitted)?;
    permitted.retain(|capability| kept.contains(capability));
    // What is in effect must be permitted, so it shrinks first.
    caps::set(None, CapSet::Effective, &permitted)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Permitted, &permitted)
}

/// Whether what listens there is a capture URL: it answers an empty bundle with 204, or reports whether it is saturated
/// (`docs/contract.md`, section 1.8).
fn is_capture_url(address: SocketAddr) -> bool {
    let local = SocketAddr::from(([127, 0, 0, 1], address.port()));
    let bundle = ask(
        local,
        "POST /message",
        "Content-Type: application/ndjson; charset=UTF-8\r\nContent-Length: 0\r\n",
    );
    if bundle.is_ok_and(|answer| answer.starts_with("HTTP/1.1 204")) {
        return true;
    }
    ["GET /saturated", "GET /message/saturated"]
        .iter()
        .any(|request| {
            let answer = ask(local, request, "").unwrap_or_default();
            let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default().trim();
            answer.starts_with("HTTP/1.1 200") && (body == "true" || body == "false")
        })
}

/// The beginning of the answer to a request without a body.
pub fn ask(address: SocketAddr, request: &str, fields: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.write_all(
        format!("{request} HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n")
            .as_bytes(),
    )?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_that_is_refused_is_a_matter_of_who_may_write() {
        let fix = |is_refused, user| cannot_start("why", is_refused, "/data", user).fix.unwrap();
        assert_eq!(fix(false, None), "--data DIR    another folder (now /data)");
        assert_eq!(
            fix(true, Some(7)),
            "--data DIR    another folder, one that its owner (user 7, as whom the store runs) may write to (now /data)"
        );
    }

    #[test]
    fn others_reach_an_address_that_is_not_local() {
        let interface = |kind, addresses: &[&str]| Interface {
            name: "x".into(),
            index: 1,
            up: true,
            carrier: true,
            loopback: addresses.contains(&"127.0.0.1"),
            ethernet: true,
            mtu: 1500,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            kind,
            master: None,
        };
        let lo = interface(LinkKind::Plain, &["127.0.0.1", "::1"]);
        let docker = interface(LinkKind::Bridge, &["172.17.0.1"]);
        let eth = interface(
            LinkKind::Plain,
            &["169.254.3.4", "fe80::1", "2001:db8::7", "192.0.2.7"],
        );
        let unplugged = Interface {
            carrier: false,
            ..interface(LinkKind::Plain, &["198.51.100.1"])
        };
        let all = [lo.clone(), unplugged, docker.clone(), eth];
        let of = |any: &str, all: &[Interface]| {
            address_for_others(any.parse().unwrap(), all).map(|ip| ip.to_string())
        };
        assert_eq!(of("0.0.0.0", &all).as_deref(), Some("192.0.2.7"));
        assert_eq!(of("::", &all).as_deref(), Some("2001:db8::7"));
        assert_eq!(
            of("0.0.0.0", &[lo.clone(), docker]).as_deref(),
            Some("172.17.0.1")
        );
        assert_eq!(of("0.0.0.0", &[lo]), None);
        assert_eq!(page_from_elsewhere("127.0.0.1:7700".parse().unwrap()), "");
    }

    #[test]
    fn a_report_of_elsewhere_is_none() {
        let values = Values::default();
        let settings = Settings::check(&values, STORE).unwrap();
        let ready = |capture: &str, page: &str| {
            let ready = StoreReport::Ready {
                capture_url: capture.into(),
                page_url: page.into(),
                page_link: Link(page.into()),
                backend: Vec::new(),
            };
            ready.is_plausible(&settings)
        };
        let page = "http://localhost:7700/?token=a";
        assert!(ready("http://localhost:7701/message", page));
        assert!(ready("http://127.0.0.1:7701/message", page));
        for capture in [
            "http://lake.example/message",
            "http://10.0.0.1:7701/message",
            "http://localhost@10.0.0.1/message",
            "http://localhost:7701/\u{1b}[2J",
            "https://localhost:7701/message",
            "",
        ] {
            assert!(!ready(capture, page), "{capture}");
            assert!(
                !ready("http://localhost:7701/message", capture),
                "{capture}"
            );
        }
        let health = |problem: &str| {
            let problem = Some(problem.to_owned());
            StoreReport::Health { problem }.is_plausible(&settings)
        };
        assert!(health("disk full") && !health("disk \u{9b}2J"));
    }

    #[test]
    fn a_report_has_its_ports() {
        let ready = StoreReport::Ready {
            capture_url: "http://localhost:7701/message".into(),
            page_url: "http://[::1]:7700/".into(),
            page_link: Link("http://[::1]:7700/?token=abc".into()),
            backend: vec!["192.0.2.1:8123".parse().unwrap()],
        };
        let of = |backend: &str| {
            let mut values = Values::default();
            if !backend.is_empty() {
                values.set(row::store_backend(), backend);
            }
            Settings::check(&values, STORE).unwrap()
        };
        assert!(ready.is_plausible(&of("clickhouse://ch:8123/d")));
        // Connections elsewhere are no self traffic.
        assert!(!ready.is_plausible(&of("clickhouse://ch:9000/d")));
        assert!(!ready.is_plausible(&of("")));
        assert!(!format!("{ready:?}").contains("abc"));
        assert_eq!(ready.ports(), "7701,7700");
        let line = serde_json::to_string(&ready).unwrap();
        assert_eq!(serde_json::from_str::<StoreReport>(&line).unwrap(), ready);
    }
}
