//! What status shows, gathered: counters of shards and uploader in, the ledger with its warnings out.
//!
//! Nothing is kept here but what is read from others; any thread may ask.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use engine_core::limits;
use engine_sys::packet::Steering;

use super::hints::{self, Setting};
use super::proc_status;
use super::published::{Published, Stages, ports_of};
use super::rule_watch::RuleWatch;
use super::said::{cannot_keep_up, ring_was_full};
use crate::diagnostic::{Code, Diagnostic};
use crate::metrics::exposition::{self, Moment};
use crate::metrics::process::Process;
use crate::metrics::{Answer, Page};
use crate::quantity::plural;
use crate::sandbox::Confinement;
use crate::sink::http::{self as upload, Stats};
use crate::status::{self, Calls, Output, Packets, Port, State, Status, Step, Warning};

/// How often a ledger that does not balance is read again before it is believed: a bundle may be between two counters.
const LEDGER_TRIES: u32 = 20;

/// Between two looks at whether the shards publish.
const LIVE_PAUSE: Duration = Duration::from_millis(20);

/// Everything that status needs, readable from any thread.
pub(super) struct View {
    pub(super) setting: Setting,
    pub(super) started: Instant,
    pub(super) interfaces: Vec<String>,
    pub(super) reads: String,
    pub(super) ring_bytes: u64,
    pub(super) steering: Steering,
    pub(super) memory_limit_bytes: u64,
    pub(super) rules: Mutex<RuleWatch>,
    pub(super) url: String,
    pub(super) sentence: String,
    pub(super) uploads: Option<Arc<Stats>>,
    pub(super) published: Vec<Arc<Published>>,
    /// Set once all threads run.
    pub(super) confinement: OnceLock<Confinement>,
    pub(super) began: SystemTime,
    /// Where metrics are served, or why they are not.
    pub(super) metrics: Result<String, Diagnostic>,
    /// Not ready while the destination is down.
    pub(super) needs_output: bool,
    pub(super) reloads: Reloads,
}

/// How often the rules were read again.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    pub(super) good: AtomicU64,
    pub(super) bad: AtomicU64,
}

impl View {
    pub(super) fn rules(&self) -> MutexGuard<'_, RuleWatch> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stages(&self) -> Stages {
        Stages::sum(self.published.iter().map(AsRef::as_ref))
    }

    /// What there is to say about silence and about the rules.
    pub(super) fn hints(&self, stages: &Stages) -> Vec<Diagnostic> {
        let ports = Port::all(&ports_of(self.published.iter().map(|shard| shard.load())));
        let mut hints = hints::hints(&self.setting, stages, &ports, self.started.elapsed());
        hints.extend(self.rules().warnings(stages));
        hints.extend(self.metrics.as_ref().err().cloned());
        hints
    }

    pub(super) fn status(&self, state: State) -> Status {
        let capture = self.capture();
        let hints = self.hints(&Stages(capture.stages.clone()));
        let warnings = warnings(&capture, hints);
        Status {
            state,
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            capture: Some(capture),
            warnings,
            ..status::empty()
        }
    }

    fn capture(&self) -> status::Capture {
        let (cells, uploads, calls) = self.ledger();
        let stages = Stages::sum_of(&cells);
        let shard = |name| stages.get("shard", name);
        let (rules, rule_hits) = {
            let watch = self.rules();
            (watch.name.clone(), watch.hits())
        };
        status::Capture {
            interfaces: self.interfaces.clone(),
            reads: self.reads.clone(),
            shards: self.published.len(),
            ring_bytes: self.ring_bytes,
            steering: self.steering.to_string(),
            flows_apart: shard("flows_other_shard"),
            sentence: self.sentence.clone(),
            calls,
            halves: halves(&stages),
            ports: Port::all(&ports_of(&cells)),
            packets: Packets {
                received: shard("frames_read"),
                bytes: shard("frames_read_bytes"),
                ignored: shard("frames_ignored_own_upload"),
                dropped: shard("ring_dropped_full"),
            },
            output: output(&self.url, uploads.as_ref()),
            overload: status::Overload::of(&stages),
            rules,
            rule_hits,
            memory_bytes: proc_status("RssAnon:")
                .split(' ')
                .next()
                .and_then(|kib| kib.parse::<u64>().ok())
                .unwrap_or(0)
                * 1024,
            memory_limit_bytes: self.memory_limit_bytes,
            sandbox: self
                .confinement
                .get()
                .map(ToString::to_string)
                .unwrap_or_default(),
            metrics: self.metrics.clone().unwrap_or_default(),
            stages: stages.0,
        }
    }

    /// The cells of each shard, the uploader's counters, and the calls by both. Shards and uploader count apart, so a
    /// bundle on its way may be seen twice or not at all for a moment.
    fn ledger(&self) -> (Vec<Vec<u64>>, Option<upload::Snapshot>, Calls) {
        let mut tries = 0;
        loop {
            let uploads = self.uploads.as_ref().map(|stats| stats.snapshot());
            let cells: Vec<Vec<u64>> = self.published.iter().map(|shard| shard.load()).collect();
            let calls = calls(&Stages::sum_of(&cells), uploads.as_ref());
            tries += 1;
            if calls.unaccounted == 0 || tries >= LEDGER_TRIES {
                return (cells, uploads, calls);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the metrics port answers.
    pub(super) fn page(&self, page: Page) -> Answer {
        match page {
            Page::Metrics => Answer {
                is_well: true,
                text: exposition::page(&self.moment()),
            },
            Page::Live => {
                let is_well = self.is_alive();
                let text = format!("{{\"live\":{is_well}}}\n");
                Answer { is_well, text }
            }
            Page::Ready => {
                let reasons = self.unready();
                let is_well = reasons.is_empty();
                let text = serde_json::json!({"ready": is_well, "reasons": reasons});
                Answer {
                    is_well,
                    text: format!("{text}\n"),
                }
            }
        }
    }

    fn moment(&self) -> Moment {
        let (shards, uploads, calls) = self.ledger();
        let reloads = [&self.reloads.good, &self.reloads.bad];
        let [good, bad] = reloads.map(|count| count.load(Ordering::Relaxed));
        Moment {
            started: Some(self.began),
            shards,
            calls,
            uploads,
            rules: self.rules().hits(),
            reloads: (good, bad),
            ring_bytes: self.ring_bytes,
            memory_limit_bytes: self.memory_limit_bytes,
            process: Process::read(),
        }
    }

    /// Whether every shard publishes.
    fn is_alive(&self) -> bool {
        let beats = || -> Vec<u64> { self.published.iter().map(|shard| shard.beat()).collect() };
        let (before, asked) = (beats(), Instant::now());
        loop {
            std::thread::sleep(LIVE_PAUSE);
            if beats().iter().zip(&before).all(|(now, then)| now != then) {
                return true;
            }
            if asked.elapsed() > limits::SHARD_BEAT_MAX {
                return false;
            }
        }
    }

    /// Why no calls can be captured or, where that matters, delivered.
    fn unready(&self) -> Vec<&'static str> {
        let is_deaf = self.stages().get("shard", "rings_open") == 0;
        let is_down = self.needs_output
            && self
                .uploads
                .as_ref()
                .is_some_and(|stats| stats.snapshot().down_for > limits::OUTPUT_DOWN_MAX);
        [
            (is_deaf, "no interface is open"),
            (is_down, "the destination is down"),
        ]
        .into_iter()
        .filter_map(|(holds, reason)| holds.then_some(reason))
        .collect()
    }
}

/// Each box from where it is counted; what they leave over is unaccounted.
pub(crate) fn calls(stages: &Stages, uploads: Option<&upload::Snapshot>) -> Calls {
    let none = upload::Snapshot::default();
    let uploads = uploads.unwrap_or(&none);
    let message = |name| stages.get("message", name);
    let shard = |name| stages.get("shard", name);
    let dropped = [
        ("refused", uploads.calls_dropped_refused),
        (
            "queue_full",
            uploads.calls_dropped_queue_full + shard("calls_shed_queue_full"),
        ),
        ("memory", message("calls_shed")),
        ("overload", message("calls_shed_overload")),
        ("shutdown", uploads.calls_dropped_shutdown),
    ];
    Calls {
        seen: message("calls_seen"),
        sent: uploads.calls_sent,
        stopped: message("calls_stopped") + shard("calls_withheld"),
        sampled: message("calls_sampled"),
        dropped: dropped
            .into_iter()
            .map(|(reason, count)| (reason.to_owned(), count))
            .collect(),
        in_flight: shard("calls_held") + uploads.calls_in_flight,
        unaccounted: 0,
    }
    .balanced()
}

/// Half calls by what is missing and by reason.
pub fn halves(stages: &Stages) -> BTreeMap<String, u64> {
    let cells = stages.0.get("http").into_iter().flatten();
    cells
        .filter_map(|(name, count)| Some((name.strip_prefix("half_")?.to_owned(), *count)))
        .collect()
}

fn output(url: &str, uploads: Option<&upload::Snapshot>) -> Output {
    let Some(uploads) = uploads else {
        return Output {
            url: url.to_owned(),
            ..Output::default()
        };
    };
    let tried = uploads.last_success.is_some() || uploads.down;
    Output {
        url: url.to_owned(),
        up: tried.then_some(!uploads.down),
        last_code: uploads.last_status,
        last_success_millis: uploads
            .last_success
            .and_then(|at| at.elapsed().ok())
            .and_then(|ago| u64::try_from(ago.as_millis()).ok()),
        last_error: Some(uploads.last_error.clone()).filter(|error| !error.is_empty()),
        posts: uploads.posts,
        retries: uploads.retries,
        queue_calls: uploads.calls_in_flight,
        queue_bytes: uploads.bytes_queued,
        transport: uploads.driver.clone(),
    }
}

fn warnings(capture: &status::Capture, hints: Vec<Diagnostic>) -> Vec<Warning> {
    let mut problems = hints;
    if capture.output.up == Some(false) {
        problems.push(destination_down(capture));
    }
    if capture.output.transport.contains('(') {
        problems.push(Diagnostic::new(
            Code::W050,
            format!("uploader: {}", capture.output.transport),
        ));
    }
    if capture.packets.dropped > 0 {
        problems.push(ring_was_full(capture.packets.dropped));
    }
    if capture.overload.step != Step::None {
        problems.push(cannot_keep_up(&capture.overload));
    }
    if capture.flows_apart > 0 {
        problems.push(flows_part(capture));
    }
    problems
        .into_iter()
        .map(|problem| Warning {
            code: problem.code.to_string(),
            text: problem.what,
        })
        .collect()
}

fn flows_part(capture: &status::Capture) -> Diagnostic {
    Diagnostic::new(
        Code::W073,
        format!(
            "{}, the directions of {} came to different shards: their calls are halves",
            capture.steering,
            plural(capture.flows_apart, "flow"),
        ),
    )
    .fix("--shards 1")
}

fn destination_down(capture: &status::Capture) -> Diagnostic {
    let output = &capture.output;
    let why = output
        .last_error
        .clone()
        .unwrap_or_else(|| format!("answered {}", output.last_code));
    let dropped = capture.calls.dropped_total();
    Diagnostic::new(
        Code::W042,
        format!(
            "{}: {why}; keeping what fits and trying again, {dropped} calls lost so far",
            output.url
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(counters: &[(&str, &str, u64)]) -> Stages {
        // From the counters that there are, so that one that was renamed fails here.
        let mut stages = Stages::sum([&Published::default()]);
        for (stage, name, count) in counters {
            let cell = stages
                .0
                .get_mut(*stage)
                .and_then(|cells| cells.get_mut(*name));
            *cell.unwrap_or_else(|| panic!("no counter {stage}.{name}")) = *count;
        }
        stages
    }

    #[test]
    fn every_call_is_in_one_box_and_what_is_in_none_is_said() {
        let stages = stages(&[
            ("message", "calls_seen", 100),
            ("message", "calls_stopped", 10),
            ("message", "calls_sampled", 5),
            ("message", "calls_shed", 1),
            ("message", "calls_shed_overload", 9),
            ("shard", "calls_withheld", 2),
            ("shard", "calls_shed_queue_full", 3),
            ("shard", "calls_held", 4),
        ]);
        let uploads = upload::Snapshot {
            calls_sent: 50,
            calls_dropped_refused: 6,
            calls_dropped_queue_full: 7,
            calls_dropped_shutdown: 8,
            calls_in_flight: 3,
            ..upload::Snapshot::default()
        };
        let calls = calls(&stages, Some(&uploads));
        assert_eq!(
            (calls.seen, calls.sent, calls.stopped, calls.sampled),
            (100, 50, 12, 5)
        );
        assert_eq!(
            (calls.dropped_total(), calls.in_flight, calls.unaccounted),
            (34, 7, -8)
        );
        assert_eq!(calls.dropped["overload"], 9);
        assert_eq!(calls.dropped["queue_full"], 10);
    }

    #[test]
    fn the_counters_that_are_read_by_name_exist() {
        let counters = [
            ("decap", "undone_vxlan", 0),
            ("decap", "undone_geneve", 0),
            ("decap", "skipped_vni_unwanted", 0),
            ("http", "flows_http", 0),
            ("http", "flows_tls", 0),
            ("http", "flows_http2", 0),
            ("http", "flows_unwanted", 0),
            ("http", "half_timeout", 9),
            ("shard", "frames_read", 0),
            ("shard", "frames_read_bytes", 0),
            ("shard", "frames_ignored_own_upload", 0),
            ("shard", "ring_dropped_full", 0),
            ("shard", "flows_other_shard", 0),
            ("shard", "bundles_plain_overload", 0),
            ("shard", "overload_plain", 0),
            ("shard", "overload_thin", 0),
            ("shard", "overload_shed", 0),
            ("shard", "overload_shed_percent", 0),
            ("message", "bodies_thinned", 0),
        ];
        assert_eq!(halves(&stages(&counters))["timeout"], 9);
    }
}
