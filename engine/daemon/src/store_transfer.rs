//! `sniffer store export` and `import`: the calls of one store for another (`store::transfer`).

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine_core::bundle::{Bundle, Encoding};
use engine_sys::process;
use hyper::header::{HeaderName, HeaderValue};
use store::transfer::{Group, Groups};

use crate::config::command_line::{ExportFlags, ImportFlags};
use crate::config::setting::{EXPORT, IMPORT, Row};
use crate::config::settings::{Settings, row};
use crate::config::values::Values;
use crate::config::{self, Capture, store_target};
use crate::diagnostic::{Code, Diagnostic, Exit, system_words};
use crate::invocation::Invocation;
use crate::quantity::{plural, thousands};
use crate::random;
use crate::sandbox::{Confinement, Plan};
use crate::signals;
use crate::sink::Sinks;
use crate::sink::kind::Monitor;
use crate::sink::outlet::Outlets;
use crate::stdout::print;
use crate::store_process::{cannot_give_up, prepare, retention};

/// Calls that wait for the store, at most four groups of them; reading goes on below it.
const WAITING_CALLS_MAX: u64 = 4000;

/// How often it is looked whether they have become less.
const CHECK_EVERY: Duration = Duration::from_millis(5);

/// `sniffer store export`.
pub fn export(flags: &ExportFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let mut values = invocation.values()?;
    flags.settings.apply(&mut values);
    let settings = Settings::check(&values, EXPORT)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let exported = store::transfer::export(&settings.data, flags.after, &mut out);
    let exported = exported.map_err(|error| {
        let what = format!("the calls cannot be exported: {error:#}");
        Diagnostic::new(Code::E101, what).fix(format!(
            "--data DIR    the folder of a store (now {})",
            settings.data.display()
        ))
    })?;
    invocation.console.info(format_args!(
        "{} exported; --after {} exports what comes later",
        plural(exported.calls, "call"),
        exported.after
    ));
    Ok(Exit::Done)
}

/// `sniffer store import`.
pub fn import(flags: &ImportFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let mut values = invocation.values()?;
    flags.settings.apply(&mut values);
    let settings = Settings::check(&values, IMPORT)?;
    let file = open(&flags.file)?;
    if settings.url.is_none() {
        return import_file(&settings, &values, Groups::new(file));
    }
    // What a capture keeps and shows is not for the calls of another store.
    let rows: [&Row; 4] = [
        row::spool(),
        row::sinks(),
        row::no_send(),
        row::post_ledger(),
    ];
    for row in rows {
        values.remove(row);
    }
    let mut config = config::capture(&values, false)?;
    config.sinks.truncate(1);
    for sink in &mut config.sinks {
        sink.credentials.headers.push((
            HeaderName::from_static(store::IMPORT),
            HeaderValue::from_static("1"),
        ));
    }
    post(config, Groups::new(file), invocation)
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, Diagnostic> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).map_err(|error| {
        let what = format!("{}: {}", path.display(), system_words(&error));
        Diagnostic::new(Code::E132, what).fix("sniffer store export --data DIR > FILE")
    })?;
    Ok(Box::new(BufReader::new(file)))
}

/// Into the folder, or the database, of the settings.
fn import_file(
    settings: &Settings,
    values: &Values,
    mut groups: Groups<impl BufRead>,
) -> Result<Exit, Diagnostic> {
    let mut config = store::Config::new(&settings.data);
    if let Some(target) = store_target(settings)? {
        config.location = store::Location::ClickHouse(target);
    }
    prepare(&settings.data, &config)?;
    process::drop_capabilities().map_err(|error| cannot_give_up(&error))?;
    let imported =
        store::transfer::import(&config.location, retention(settings, values), &mut groups);
    let imported = imported.map_err(|error| cannot_import(&format!("{error:#}")))?;
    print(&format!(
        "{} imported, {} were there already\n",
        plural(imported.calls, "call"),
        thousands(imported.repeated)
    ));
    Ok(Exit::Done)
}

fn cannot_import(why: &str) -> Diagnostic {
    Diagnostic::new(Code::E132, format!("the calls cannot be imported: {why}"))
}

/// Into the store at a capture URL, as a capture delivers its bundles.
fn post(
    config: Capture,
    mut groups: Groups<impl BufRead>,
    invocation: &Invocation,
) -> Result<Exit, Diagnostic> {
    let bug = |what: &str, error: &dyn std::fmt::Display| {
        Diagnostic::new(Code::E199, format!("{what}: {error}"))
    };
    if let Some(warning) = config::plain_token(&config.sinks) {
        invocation.console.report(&warning);
    }
    let mut sinks = Sinks::of(&config, &random::identity(&config.host)?);
    sinks.prepare()?;
    process::drop_capabilities().map_err(|error| bug("cannot give up capabilities", &error))?;
    let mut plan = Plan::capture(&invocation.control);
    sinks.plan(&mut plan);
    let files = (!config.settings.no_sandbox).then(|| plan.confine_files());
    let stop = signals::stop_flag().map_err(|error| bug("cannot watch signals", &error))?;
    let started = sinks.start(1, config.rule_sets.len(), invocation.console);
    let (mut outlets, running) = started.map_err(|error| bug("cannot start a sink", &error))?;
    running.plan_calls(&mut plan);
    if let Some(files) = files {
        Confinement::after(files, &plan);
    }
    let monitors = running.monitors();
    let (Some((_, monitor)), Some(outlets)) = (
        monitors.into_iter().next(),
        outlets.pop().and_then(|mut sets| sets.pop()),
    ) else {
        return Err(cannot_import("the destination takes nothing"));
    };
    let mut feed = Feed {
        outlets,
        monitor,
        stop,
    };
    let fed = feed.all(&mut groups);
    running.stop(Instant::now() + config.settings.flush_timeout);
    let counters = feed.monitor.snapshot().counters;
    let lost = counters.calls_dropped();
    print(&format!(
        "{} sent, {} not\n",
        plural(counters.calls_sent, "call"),
        thousands(lost)
    ));
    fed.map_err(|why| cannot_import(&why))?;
    let is_stopped = feed.stop.load(Ordering::Relaxed);
    Ok(match lost > 0 || is_stopped {
        true => Exit::Incomplete,
        false => Exit::Done,
    })
}

/// The end of a sink at which a shard would be.
struct Feed {
    outlets: Outlets,
    monitor: Arc<dyn Monitor>,
    stop: Arc<AtomicBool>,
}

impl Feed {
    /// Delivers all groups, no faster than the store takes them, until it is interrupted.
    fn all(&mut self, groups: &mut Groups<impl BufRead>) -> Result<(), String> {
        while let Some(group) = groups.next_group().map_err(|error| format!("{error:#}"))? {
            self.outlets.push(bundle(group)?);
            if !self.waits(WAITING_CALLS_MAX) {
                return Ok(());
            }
        }
        self.waits(0);
        Ok(())
    }

    /// Waits until no more calls than this are on their way; false when it is interrupted.
    fn waits(&mut self, calls_max: u64) -> bool {
        while !self.stop.load(Ordering::Relaxed) {
            self.outlets.send();
            drop(self.outlets.take_empty());
            if self.outlets.is_empty() && self.monitor.snapshot().calls_in_flight <= calls_max {
                return true;
            }
            std::thread::sleep(CHECK_EVERY);
        }
        false
    }
}

fn bundle(group: Group) -> Result<Bundle, String> {
    let id = u128::from_str_radix(&group.key, 16);
    let calls = u32::try_from(group.calls);
    Ok(Bundle {
        id: id.map_err(|_| "the key of a group is no number".to_owned())?,
        calls: calls.map_err(|error| error.to_string())?,
        line_bytes: group.text.len() as u64,
        body: group.text.into_bytes(),
        encoding: Encoding::Plain,
        ..Bundle::default()
    })
}
