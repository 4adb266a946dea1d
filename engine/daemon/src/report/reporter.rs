//! A running capture as status, metrics and log show it.
//!
//! It is computed from what shards and sinks publish; any thread may do so.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use engine_core::flow::CopyTable;
use engine_core::http::PortTable;
use engine_core::limits::RULE_SETS_AT_ONCE_MAX;
use engine_core::message::{self, Durations, NetworkTable};
use engine_core::uploads::SenderTable;
use engine_sys::packet::{SELF_TEST_VNI, Steering};

use super::copies;
use super::faults::{faults, one_shard_hot};
use super::hints::{self, Scope, Seen};
use super::ledger::{calls, unpaired};
use super::rule_matches::RuleMatches;
use super::warnings::{spool_troubles, warnings};
use crate::capture::hotplug::Interfaces;
use crate::capture::kept::{KeptPackets, NoPackets};
use crate::control::{Response, WantedPackets};
use crate::counters::{OutletCounters, Published, RuleSetCounters, Sample, Stages};
use crate::diagnostic::{Code, Diagnostic, Exit};
use crate::limits;
use crate::metrics::exposition::{self, Moment};
use crate::metrics::{Answer, Page};
use crate::process::Process;
use crate::quantity::bytes;
use crate::sandbox::Confinement;
use crate::sink::kind::Monitor;
use crate::sink::spool;
use crate::sink::stats::{Snapshot, UrlState};
use crate::status::{self, Calls, Copies, Killed, Output, Packets, Port, RuleHits, State, Status};

/// How often a ledger that does not balance is read again before it is reported: a bundle may be between two counters.
const LEDGER_TRIES: u32 = 20;

/// Pause between two checks of whether the shards publish.
const LIVE_PAUSE: Duration = Duration::from_millis(20);

/// Everything that status, metrics and log are computed from.
pub struct Reporter {
    /// Whether packets are captured; stopping while what was captured is being delivered.
    pub state: Mutex<State>,
    /// What is captured, as far as it explains that no calls are seen.
    pub scope: Scope,
    /// When the capture began.
    pub started: Instant,
    /// The interfaces as they are now.
    pub interfaces: Mutex<Interfaces>,
    /// Packets of all interfaces when the capture began, captured or not.
    pub packets_before: Vec<(String, u64)>,
    /// What is read on them, in words.
    pub reads: String,
    /// Bytes of all rings.
    pub ring_bytes: u64,
    /// How a flow finds its shard.
    pub steering: Steering,
    /// The memory limit in bytes.
    pub memory_limit_bytes: u64,
    /// The rule sets in use.
    pub rules: Mutex<Vec<RuleMatches>>,
    /// The summary that was logged at the start.
    pub sentence: String,
    /// The counters of each sink, and the number of its rule set.
    pub sinks: Vec<(usize, Arc<dyn Monitor>)>,
    /// The counters of each shard.
    pub published: Vec<Arc<Published>>,
    /// Set once all threads run.
    pub confinement: OnceLock<Confinement>,
    /// When the capture began, by the wall clock.
    pub began: SystemTime,
    /// Where metrics are served, or why they are not.
    pub metrics: Result<String, Diagnostic>,
    /// Not ready while the destination is down.
    pub needs_output: bool,
    /// How often the rules were read again.
    pub reloads: Reloads,
    /// Captures of the same supervisor that were killed before.
    pub killed: Killed,
    /// Packets that are kept for files of them.
    pub kept: Option<KeptPackets>,
}

/// How often the rules were read again.
#[derive(Debug, Default)]
pub struct Reloads {
    /// The new rules are in use.
    pub succeeded: AtomicU64,
    /// The rules had an error, and the old ones stayed.
    pub failed: AtomicU64,
}

impl Reporter {
    /// Whether packets are captured.
    pub fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What status and metrics report from now on.
    pub fn set_state(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The rule sets in use.
    pub fn rules(&self) -> MutexGuard<'_, Vec<RuleMatches>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The interfaces as they are now.
    pub fn interfaces(&self) -> MutexGuard<'_, Interfaces> {
        self.interfaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters of all shards.
    pub fn stages(&self) -> Stages {
        sum(&self.samples())
    }

    /// What became of the calls under each rule set.
    pub fn rule_sets(&self) -> [RuleSetCounters; RULE_SETS_AT_ONCE_MAX] {
        rule_sets(&self.samples())
    }

    /// What became of the calls for the sink with this number, as the sink itself counts them.
    pub fn calls_of(&self, number: usize, sink: Snapshot) -> Calls {
        let rule_set = self.sinks.get(number).map_or(0, |(rule_set, _)| *rule_set);
        Column::new(number, rule_set, sink, &self.samples()).calls
    }

    /// What became of the calls for the sink with this number; none without such a sink.
    pub fn calls_for(&self, number: usize) -> Option<Calls> {
        let (_, columns) = self.ledger();
        columns.into_iter().nth(number).map(|column| column.calls)
    }

    /// What each shard published last.
    fn samples(&self) -> Vec<Sample> {
        self.published.iter().map(|shard| shard.sample()).collect()
    }

    /// Calls on their way, each once for every sink that it is on its way to.
    pub fn in_flight(&self) -> u64 {
        let (_, columns) = self.ledger();
        columns.iter().map(|column| column.calls.in_flight).sum()
    }

    /// Calls dropped because the queue of a sink was full, each once for every such sink.
    pub fn queue_full(&self) -> u64 {
        let (_, columns) = self.ledger();
        let dropped = columns
            .iter()
            .map(|column| column.calls.dropped.get("queue_full"));
        dropped.flatten().sum()
    }

    /// What is wrong with the spool.
    pub fn spool_troubles(&self) -> Vec<Diagnostic> {
        if self
            .sinks
            .iter()
            .all(|(_, sink)| sink.snapshot().spool.is_none())
        {
            return Vec::new();
        }
        spool_troubles(&self.capture().0)
    }

    /// A file of packets, or why there is none.
    pub fn packets(&self, wanted: &WantedPackets) -> Response {
        let Some(kept) = &self.kept else {
            let text = "this capture keeps no packets: --keep-packets 64M --unmasked";
            return Response::new(Exit::Usage, text);
        };
        let dropped = self.stages().shard.ring_dropped_full;
        match kept.file(wanted, dropped) {
            Ok(file) => Response::with_file(file),
            Err(NoPackets { kept_from_millis }) => {
                let from = kept_from_millis.and_then(|millis| i64::try_from(millis).ok());
                let text = from.map_or_else(
                    || "no packets are kept yet".to_owned(),
                    |from| {
                        let from = store::date::format(from);
                        format!("none of the packets is kept; those since {from} are")
                    },
                );
                Response::new(Exit::Incomplete, text)
            }
        }
    }

    /// The skipped uploads of sniffers.
    pub fn uploads(&self) -> status::Uploads {
        let samples = self.samples();
        status::Uploads::of(&sum(&samples), &senders(&samples))
    }

    /// The networks of which packets are read, by their VNI.
    pub fn networks_read(&self) -> Vec<u32> {
        let seen = seen(&self.samples()).vnis.into_iter();
        seen.filter(|network| network.wanted)
            .map(|network| network.vni)
            .collect()
    }

    /// Diagnostics: why no calls are seen, what is wrong with the rules, why metrics are not served.
    pub fn hints(&self, stages: &Stages) -> Vec<Diagnostic> {
        let mut seen = seen(&self.samples());
        if hints::is_silent(stages) {
            seen.elsewhere = self.packets_elsewhere();
        }
        let mut hints = hints::hints(&self.scope, stages, &seen, self.started.elapsed());
        hints.extend(faults(stages));
        let samples = self.samples();
        hints.extend(one_shard_hot(samples.iter().map(|sample| &sample.stages)));
        for (rules, counters) in self.rules().iter().zip(&self.rule_sets()) {
            hints.extend(rules.warnings(counters));
        }
        hints.extend(copies::captured_twice(stages, &copied(&self.samples())));
        hints.extend(self.metrics.as_ref().err().cloned());
        hints.extend(self.kept.as_ref().map(|kept| {
            let room = bytes(kept.bytes_max() as u64);
            let what = format!("packets are kept unmasked in {room} of memory, for files of them: rules hide nothing there");
            Diagnostic::new(Code::W078, what)
                .fix("leave out --keep-packets once they are not needed any more")
        }));
        hints
    }

    /// Interfaces that are not captured, with the packets that passed them since the capture began.
    fn packets_elsewhere(&self) -> Vec<(String, u64)> {
        let mut now = engine_sys::interfaces::packets().unwrap_or_default();
        let captured = self.interfaces();
        now.retain(|(name, _)| !captured.captured.contains(name));
        for (name, packets) in &mut now {
            let before = self.packets_before.iter().find(|(known, _)| known == name);
            *packets = packets.saturating_sub(before.map_or(0, |(_, before)| *before));
        }
        now
    }

    /// The status as it is now.
    pub fn status(&self) -> Status {
        let (capture, stages) = self.capture();
        let mut hints = self.hints(&stages);
        hints.extend(self.interfaces().problems.iter().cloned());
        let warnings = warnings(&capture, hints);
        Status {
            state: self.state(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            capture: Some(capture),
            warnings,
            ..status::empty()
        }
    }

    fn capture(&self) -> (status::Capture, Stages) {
        let (samples, columns) = self.ledger();
        let stages = sum(&samples);
        let shard = &stages.shard;
        let rules: Vec<(String, Vec<RuleHits>)> = (self.rules().iter())
            .map(|rules| (rules.name.clone(), rules.matches()))
            .collect();
        let sinks: Vec<status::Sink> = (columns.iter())
            .map(|column| {
                let (rules, rule_hits) = rules.get(column.rule_set).cloned().unwrap_or_default();
                status::Sink {
                    name: column.sink.name.clone(),
                    rules,
                    rule_hits,
                    calls: column.calls.clone(),
                    output: output(&column.sink, &column.calls),
                }
            })
            .collect();
        let first = sinks.first().cloned().unwrap_or_default();
        let capture = status::Capture {
            interfaces: self.interfaces().captured.clone(),
            reads: self.reads.clone(),
            shards: self.published.len(),
            ring_bytes: self.ring_bytes,
            steering: self.steering.to_string(),
            flows_apart: shard.flows_other_shard,
            sentence: self.sentence.clone(),
            calls: first.calls,
            halves: unpaired(&stages),
            ports: ports(&samples),
            uploads: status::Uploads::of(&stages, &senders(&samples)),
            copies: copied(&samples),
            packets: Packets {
                received: shard.frames_read,
                bytes: shard.frames_read_bytes,
                ignored: stages.decap.skipped_self_traffic,
                dropped: shard.ring_dropped_full,
            },
            completeness: status::Completeness::of(&stages),
            output: first.output,
            sinks,
            overload: status::Overload::of(&stages),
            rules: first.rules,
            rule_hits: first.rule_hits,
            memory_bytes: Process::read().anonymous_bytes.unwrap_or(0),
            memory_limit_bytes: self.memory_limit_bytes,
            sandbox: self
                .confinement
                .get()
                .map(ToString::to_string)
                .unwrap_or_default(),
            metrics: self.metrics.clone().unwrap_or_default(),
            kept_packets_bytes: self.kept.as_ref().map_or(0, |kept| kept.bytes_max() as u64),
            stages: stages.by_name(),
        };
        (capture, stages)
    }

    /// The counters of each shard, and the column of the ledger of each sink. Shards and sinks count separately, so a bundle on
    /// its way may be seen twice or not at all for a moment.
    fn ledger(&self) -> (Vec<Sample>, Vec<Column>) {
        let mut tries = 0;
        loop {
            let sinks = self.sinks.iter();
            let sinks: Vec<_> = sinks.map(|(set, sink)| (*set, sink.snapshot())).collect();
            let samples = self.samples();
            let columns: Vec<Column> = (sinks.into_iter().enumerate())
                .map(|(number, (rule_set, sink))| Column::new(number, rule_set, sink, &samples))
                .collect();
            tries += 1;
            let is_balanced = columns.iter().all(|column| column.calls.unaccounted == 0);
            if is_balanced || tries >= LEDGER_TRIES {
                return (samples, columns);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The answer of the metrics port.
    pub fn page(&self, page: Page) -> Answer {
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
        let (samples, columns) = self.ledger();
        let reloads = [&self.reloads.succeeded, &self.reloads.failed];
        let [succeeded, failed] = reloads.map(|count| count.load(Ordering::Relaxed));
        // Before the rules are locked for the moment: the warnings need them as well.
        let warnings = self.warning_codes();
        let rules = self.rule_hits(&columns);
        Moment {
            started: Some(self.began),
            is_on: self.state() == State::Running && sum(&samples).shard.rings_open > 0,
            vnis: seen(&samples).vnis,
            networks: networks(&samples),
            durations: durations(&samples),
            ports: ports(&samples),
            shards: samples.iter().map(|sample| sample.stages).collect(),
            further: further(&samples, rules.len()),
            senders: senders(&samples),
            rules,
            calls: (columns.iter())
                .map(|column| (column.sink.name.clone(), column.calls.clone()))
                .collect(),
            sinks: columns.into_iter().map(|column| column.sink).collect(),
            reloads: (succeeded, failed),
            killed: self.killed,
            ring_bytes: self.ring_bytes,
            memory_limit_bytes: self.memory_limit_bytes,
            warnings,
            process: Process::read(),
        }
    }

    /// The matches of each rule set, under the name of the first of its sinks.
    fn rule_hits(&self, columns: &[Column]) -> Vec<(String, Vec<RuleHits>)> {
        let rules = self.rules();
        let sets = rules.iter().enumerate();
        sets.map(|(number, rules)| {
            let mut columns = columns.iter();
            let first = columns.find(|column| column.rule_set == number);
            let name = first.map_or_else(String::new, |column| column.sink.name.clone());
            (name, rules.matches())
        })
        .collect()
    }

    /// Codes of the warnings that hold, each once.
    fn warning_codes(&self) -> Vec<String> {
        let warnings = self.status().warnings;
        let codes: BTreeSet<String> = warnings.into_iter().map(|warning| warning.code).collect();
        codes.into_iter().collect()
    }

    /// Whether every shard publishes.
    fn is_alive(&self) -> bool {
        let beats = || -> Vec<u64> { self.published.iter().map(|shard| shard.beat()).collect() };
        let (before, since) = (beats(), Instant::now());
        loop {
            std::thread::sleep(LIVE_PAUSE);
            if beats().iter().zip(&before).all(|(now, then)| now != then) {
                return true;
            }
            if since.elapsed() > limits::SHARD_BEAT_MAX {
                return false;
            }
        }
    }

    /// Reasons why no calls can be captured or, where that matters, delivered.
    fn unready(&self) -> Vec<&'static str> {
        let captures_nothing =
            self.stages().shard.rings_open == 0 || self.interfaces().captured.is_empty();
        let is_down = self.needs_output
            && (self.sinks.iter())
                .any(|(_, sink)| sink.snapshot().down_for > limits::OUTPUT_DOWN_MAX);
        [
            (captures_nothing, "no interface is open"),
            (is_down, "the destination is down"),
        ]
        .into_iter()
        .filter_map(|(holds, reason)| holds.then_some(reason))
        .collect()
    }
}

/// What became of the calls for one sink.
struct Column {
    rule_set: usize,
    sink: Snapshot,
    calls: Calls,
}

impl Column {
    fn new(number: usize, rule_set: usize, sink: Snapshot, samples: &[Sample]) -> Self {
        let mut on_the_way = OutletCounters::default();
        for of_shard in samples.iter().filter_map(|sample| sample.sinks.get(number)) {
            on_the_way.add(of_shard);
        }
        let outcomes = rule_sets(samples);
        let outcomes = outcomes.get(rule_set).copied().unwrap_or_default();
        Self {
            rule_set,
            calls: calls(&outcomes, &on_the_way, &sink),
            sink,
        }
    }
}

/// The rule sets of all shards.
fn rule_sets(samples: &[Sample]) -> [RuleSetCounters; RULE_SETS_AT_ONCE_MAX] {
    let mut sum = [RuleSetCounters::default(); RULE_SETS_AT_ONCE_MAX];
    for sample in samples {
        for (sum, set) in sum.iter_mut().zip(&sample.rule_sets) {
            sum.add(set);
        }
    }
    sum
}

/// Of each shard: what became of lines under each of so many rule sets, without the first.
fn further(samples: &[Sample], rule_sets: usize) -> Vec<Vec<message::Counters>> {
    let of_shard = |sample: &Sample| {
        let sets = sample.rule_sets.iter().take(rule_sets).skip(1);
        sets.map(|set| set.message).collect()
    };
    samples.iter().map(of_shard).collect()
}

fn sum(samples: &[Sample]) -> Stages {
    samples.iter().map(|sample| &sample.stages).collect()
}

/// The server ports of all shards.
fn ports(samples: &[Sample]) -> Vec<Port> {
    let mut table = PortTable::default();
    for sample in samples {
        table.add(&sample.ports);
    }
    Port::all(&table)
}

/// The calls of the networks of all shards.
fn networks(samples: &[Sample]) -> NetworkTable {
    let mut table = NetworkTable::default();
    let rows = samples.iter().flat_map(|sample| sample.networks.rows());
    rows.for_each(|row| table.add(row));
    table
}

/// How long the calls of all shards took.
fn durations(samples: &[Sample]) -> Durations {
    let mut sum = Durations::default();
    for sample in samples {
        sum.add(&sample.durations);
    }
    sum
}

/// The skipped uploads of all shards.
fn senders(samples: &[Sample]) -> SenderTable {
    let mut table = SenderTable::default();
    for sample in samples {
        table.add(&sample.senders);
    }
    table
}

/// The pairs of networks with copies, of all shards.
fn copied(samples: &[Sample]) -> Vec<Copies> {
    let mut table = CopyTable::default();
    for sample in samples {
        table.extend(sample.copies.rows().iter().copied());
    }
    Copies::all(&table)
}

/// Ports and networks of all shards.
fn seen(samples: &[Sample]) -> Seen {
    let mut seen = Seen {
        ports: ports(samples),
        ..Seen::default()
    };
    for sample in samples {
        for &(port, flows) in sample.unwanted.rows() {
            seen.unwanted.add(port, flows);
        }
        let vnis = sample.vnis.iter();
        for vni in vnis.filter(|vni| vni.vni != SELF_TEST_VNI) {
            match seen.vnis.iter_mut().find(|known| known.vni == vni.vni) {
                Some(known) => known.frames += vni.frames,
                None => seen.vnis.push(*vni),
            }
        }
    }
    seen
}

fn output(sink: &Snapshot, calls: &Calls) -> Output {
    let detail = sink.detail.clone().unwrap_or_default();
    let tried = sink.last_success.is_some() || sink.down;
    Output {
        url: sink.place.clone(),
        up: tried.then_some(!sink.down),
        last_code: detail.last_code,
        last_success_millis: sink
            .last_success
            .and_then(|at| at.elapsed().ok())
            .and_then(|ago| u64::try_from(ago.as_millis()).ok()),
        last_error: Some(sink.last_error.clone()).filter(|error| !error.is_empty()),
        last_error_code: sink.last_error_code.map(|code| code.to_string()),
        posts: sink.counters.attempts,
        retries: sink.counters.retries,
        queue_calls: sink.calls_in_flight,
        queue_bytes: sink.counters.bytes_queued,
        transport: detail.transport,
        urls: detail.places.into_iter().map(url_state).collect(),
        spool: sink.spool.as_ref().map(|found| spool(found, calls)),
    }
}

fn url_state(state: UrlState) -> status::UrlState {
    status::UrlState {
        url: state.url,
        up: state.up,
        error: Some(state.error).filter(|error| !error.is_empty()),
    }
}

fn spool(spool: &spool::Snapshot, calls: &Calls) -> status::Spool {
    let totals = &spool.totals;
    status::Spool {
        folder: spool.folder.clone(),
        bytes: totals.bytes,
        segments: totals.segments,
        bundles: totals.bundles,
        calls: totals.calls,
        held_calls: totals.held_calls,
        held_segments: totals.held_segments,
        trouble: spool.trouble.clone(),
        written_bytes: spool.written_bytes,
        failed_writes: spool.failed_writes,
        syncs: spool.syncs,
        lifetime: spool.before.status(calls),
        damaged_calls: spool.damage.calls,
        unknown_calls: spool.damage.unknown,
        later_segments: spool.damage.later_segments,
    }
}

#[cfg(test)]
mod tests {
    use engine_core::decap::VniSeen;

    use super::*;

    #[test]
    fn the_network_of_the_self_test_is_not_reported() {
        let of = |vni, frames| VniSeen {
            vni,
            frames,
            wanted: true,
        };
        let sample = |vnis| Sample {
            vnis,
            ..Sample::default()
        };
        let samples = [
            sample(vec![of(7, 1), of(SELF_TEST_VNI, 64)]),
            sample(vec![of(SELF_TEST_VNI, 64), of(7, 2)]),
        ];
        assert_eq!(seen(&samples).vnis, [of(7, 3)]);
    }
}
