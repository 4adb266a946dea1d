//! Everything that goes wrong with destinations, a network, a disk, clocks and a process, in an order that a seed decides; at the
//! end each call is at each destination once, or a number that was shown explains why not.
//!
//! ```text
//! sniffer ─┬─ default ──▶ server of faults ──▶ store, killed and started again
//!          │         └──▶ nginx with TLS ─┘
//!          └─ near, with a rule more ──▶ collector that fails on command
//! ```
//!
//! `CHAOS_SECONDS` is how long faults follow each other, `CHAOS_SEED` which.

use std::collections::HashSet;
use std::env;
use std::net::TcpListener;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Behaviour, Collector};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::capture::Capture;
use tests::clock::SettableClock;
use tests::faults::{Fault, FaultServer};
use tests::http::request;
use tests::network::Namespace;
use tests::nginx::Nginx;
use tests::process::{PATIENCE, eventually, run};
use tests::store::{STORE_PORT, Store};

use world::{Certificate, Dice, SpoolDisk};

mod world;

const PLAIN_PORT: u16 = 7711;
const NEAR_PORT: u16 = 7712;
const TLS_PORT: u16 = 7743;

const RULES: &str = "include debug\nallow_http_url";
/// The sink near gets no call whose number ends with 7.
const NEAR_RULES: &str =
    "include debug\nallow_http_url\n/request_header:x-call-number/ stop_if /^[0-9]*7$/";

const NAMES: [&str; 2] = ["default", "near"];

/// Hours by which the times on disk are set, and the clock of a process that runs. After the largest, what waits in a spool is too
/// old for the next process.
const CLOCKS: [i64; 5] = [0, 5, -30, 30, -24 * 5];

/// The same for the clock of the store, within the time for which it remembers the keys of bundles.
const STORE_CLOCKS: [i64; 4] = [0, 5, -30, 30];

/// What happens to posts for the sink of the capture URL.
const FAULTS: [Fault; 8] = [
    Fault::Refuse(500),
    Fault::Refuse(503),
    Fault::Refuse(429),
    Fault::Stall,
    Fault::SlowReading,
    Fault::Reset,
    Fault::ResetInAnswer,
    Fault::Lie,
];

/// What happens to posts for the sink near.
const BEHAVIOURS: [Behaviour; 6] = [
    Behaviour::Refuse(500),
    Behaviour::Refuse(503),
    Behaviour::Refuse(429),
    Behaviour::Stall,
    Behaviour::Reset,
    Behaviour::Lie,
];

/// Calls of one bundle at most, by far: what a bit on the disk can bring back.
const BUNDLE_CALLS_MOST: u64 = 500;

/// Age of a call that a kill may cost on a busy machine: a bundle is closed after a second.
const KILL_COSTS_MOST: Duration = Duration::from_secs(10);

fn setting(name: &str, default: u64) -> u64 {
    let text = env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What a process reported of a sink when it was last asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    seen: u64,
    recovered: u64,
    sent: u64,
    stopped: u64,
    dropped: u64,
    /// On disk, whether in memory as well or not.
    on_disk: u64,
    /// Without a record: whether they were delivered is unknown.
    unknown: u64,
}

impl Account {
    /// Of both sinks.
    fn of(status: &Value) -> Result<[Self; 2]> {
        let [default, near] = [0, 1].map(|number| {
            let sink = &status["capture"]["sinks"][number];
            ensure!(sink["name"] == NAMES[number], "{status}");
            Self::of_sink(sink).with_context(|| format!("{status}"))
        });
        Ok([default?, near?])
    }

    fn of_sink(sink: &Value) -> Result<Self> {
        let (calls, spool) = (&sink["calls"], &sink["output"]["spool"]);
        ensure!(calls["unaccounted"] == 0, "calls");
        ensure!(spool["lifetime"]["unaccounted"] == 0, "lifetime");
        let number = |value: &Value| value.as_u64().context("no number");
        let dropped = calls["dropped"].as_object().context("an object")?;
        Ok(Self {
            seen: number(&calls["seen"])?,
            recovered: number(&calls["recovered"])?,
            sent: number(&calls["sent"])?,
            stopped: number(&calls["stopped"])?,
            dropped: dropped.values().filter_map(Value::as_u64).sum(),
            on_disk: number(&spool["calls"])?,
            unknown: number(&spool["unknown_calls"])?,
        })
    }

    /// Of so many calls, those that neither the destination nor the disk has: what a kill costs at most.
    fn at_stake(&self, made: u64) -> u64 {
        let found = self.sent + self.stopped + self.dropped + self.on_disk;
        (made + self.recovered).saturating_sub(found)
    }
}

/// What is known of a sink over all processes.
#[derive(Default)]
struct Sink {
    /// Calls that may be missing, with a number that was shown as the reason.
    explained: u64,
    /// Calls that may be in no total: a kill came before they were counted on disk.
    unseen: u64,
    /// Times that a file of its spool was damaged.
    damages: u64,
}

/// A process that has ended.
struct Life {
    /// The calls that were made meanwhile.
    calls: Range<u64>,
    ended: Instant,
    is_stopped: bool,
    was_full: bool,
    /// The calls on disk at its end, by sink.
    kept: [HashSet<u64>; 2],
}

/// The scene. A capture borrows only the namespace.
struct Chaos<'a> {
    namespace: &'a Namespace,
    certificate: Certificate,
    faults: FaultServer,
    store: Store<'a>,
    collector: Collector,
    disk: SpoolDisk,
    clock: SettableClock,
    dice: Dice,
    /// When each call that was made had its answer.
    made: Vec<Instant>,
    /// Calls before the present process.
    made_before: u64,
    sinks: [Sink; 2],
    lives: Vec<Life>,
    /// The clock of the present process can be set; it is not confined, since it reads a file for that.
    is_settable: bool,
    is_cut_off: bool,
    is_valid: bool,
    is_full: bool,
    /// The disk was full while the present process ran.
    was_full: bool,
    /// The present process may give up at its start what is too old.
    is_shifted: bool,
    story: Vec<String>,
}

impl<'a> Chaos<'a> {
    fn note(&mut self, what: String) {
        let calls = self.made.len();
        self.story.push(format!("{calls}: {what}"));
    }

    fn made_now(&self) -> u64 {
        self.made.len() as u64 - self.made_before
    }

    fn start(&mut self, is_last: bool) -> Result<Capture<'a>> {
        self.made_before = self.made.len() as u64;
        self.was_full = self.is_full;
        let plain = format!("http://127.0.0.1:{PLAIN_PORT}/message");
        let encrypted = format!("https://127.0.0.1:{TLS_PORT}/message");
        let both = format!("{encrypted} {plain}");
        let urls = [&plain, &encrypted, &encrypted, &both];
        let url = if is_last {
            &plain
        } else {
            self.dice.one_of(&urls)
        };
        self.is_settable = self.dice.one_in(2);
        let settable = if self.is_settable {
            ", its clock can be set"
        } else {
            ""
        };
        self.note(format!("started for {url}{settable}"));
        let spool = self.disk.path().display().to_string();
        let authority = self.certificate.authority();
        let near = format!("near=http://127.0.0.1:{NEAR_PORT}/message");
        let mut settings = vec![
            ("NET_DEVICE", "lo"),
            ("APP_PORTS", "80"),
            ("SNIFFER_CA", &authority),
            ("SNIFFER_SPOOL", &spool),
            ("SNIFFER_FLUSH_TIMEOUT", "300ms"),
            ("USAGE_LOGGERS_RULES", RULES),
            ("SNIFFER_SINKS", &near),
            ("SNIFFER_SINK_NEAR_RULES", NEAR_RULES),
        ];
        let environment = self.clock.environment()?;
        if self.is_settable {
            settings.push(("SNIFFER_NO_SANDBOX", "true"));
            settings.extend(
                environment
                    .iter()
                    .map(|(name, text)| (*name, text.as_str())),
            );
        }
        Capture::start(self.namespace, url, &settings)
    }

    /// Makes calls with a number each.
    fn call(&mut self, count: u64) -> Result<()> {
        let first = self.made.len() as u64;
        let answered = self.namespace.inside(|| {
            let calls = (first..first + count).map(|number| {
                let (number, target) = (number.to_string(), format!("/call/{number}"));
                let headers = [("X-Call-Number", number.as_str())];
                request("127.0.0.1:80", "GET", &target, &headers, b"")?;
                Ok(Instant::now())
            });
            calls.collect::<Result<Vec<_>>>()
        })?;
        self.made.extend(answered);
        Ok(())
    }

    /// The accounts of the process once it has seen what was made. Two in a row are equal, so none was taken while a bundle
    /// passed from one number to another.
    fn accounts(&self, capture: &Capture<'_>) -> Result<[Account; 2]> {
        let mut last = None;
        eventually(PATIENCE, || {
            let status = capture.status()?;
            let accounts = Account::of(&status)?;
            let is_still = last.replace(accounts) == Some(accounts);
            let made = self.made_now();
            let has_seen = accounts.iter().all(|account| account.seen == made);
            ensure!(is_still && has_seen, "{made} made, {status}");
            Ok(accounts)
        })
    }

    fn cut_off(&mut self, is_cut_off: bool) -> Result<()> {
        if self.is_cut_off != is_cut_off {
            let action = if is_cut_off { "-I" } else { "-D" };
            let ports = format!("{PLAIN_PORT},{NEAR_PORT},{TLS_PORT}");
            let rule = ["OUTPUT", "-p", "tcp", "-m", "multiport", "--dports"];
            let mut command = self.namespace.command("iptables");
            run(command
                .arg(action)
                .args(rule)
                .args([ports.as_str(), "-j", "DROP"]))?;
            self.is_cut_off = is_cut_off;
        }
        Ok(())
    }

    fn set_full(&mut self, is_full: bool) {
        self.disk.set_full(is_full);
        self.is_full = is_full;
        self.was_full |= is_full;
    }

    /// The end of some faults, and perhaps another one.
    fn fault(&mut self) -> Result<()> {
        if self.is_cut_off && self.dice.one_in(4) {
            self.cut_off(false)?;
            self.note("not cut off".to_owned());
        }
        if self.is_full && self.dice.one_in(3) {
            self.set_full(false);
            self.note("disk not full".to_owned());
        }
        if !self.is_valid && self.dice.one_in(4) {
            self.set_valid(true)?;
        }
        if !self.store.is_running() && self.dice.one_in(4) {
            let hours = self.dice.one_of(&STORE_CLOCKS);
            self.store.set_running(true, hours)?;
            self.note(format!("store runs, its clock {hours:+} h"));
        }
        match self.dice.below(20) {
            0 => {
                self.set_full(true);
                self.note("disk full".to_owned());
            }
            1 => {
                self.cut_off(true)?;
                self.note("cut off".to_owned());
            }
            2 | 3 => self.set_valid(false)?,
            4 => {
                self.store.set_running(false, 0)?;
                self.note("store killed".to_owned());
            }
            5..=9 => {
                let next = self.dice.one_of(&BEHAVIOURS);
                self.collector.set_behaviour(next);
                self.note(format!("near: {next:?}"));
            }
            10..=14 => {
                let next = self.dice.one_of(&FAULTS);
                self.faults.set(next);
                self.note(format!("default: {next:?}"));
            }
            15 | 16 => self.collector.set_behaviour(Behaviour::Accept),
            _ => self.faults.set(Fault::None),
        }
        Ok(())
    }

    fn set_valid(&mut self, is_valid: bool) -> Result<()> {
        self.certificate.set_valid(is_valid)?;
        self.is_valid = is_valid;
        self.note(format!("certificate is valid: {is_valid}"));
        Ok(())
    }

    /// Sets the clock of the process forward or back, and right again, while it delivers, spools and retries. No call is made
    /// meanwhile: the kernel stamps frames by the clock of the machine.
    fn set_clock(&mut self, capture: &Capture<'_>) -> Result<()> {
        self.accounts(capture)?;
        let hours = self.dice.one_of(&CLOCKS);
        self.note(format!("clock {hours:+} h"));
        self.clock.set(hours)?;
        thread::sleep(Duration::from_millis(100 + self.dice.below(600)));
        self.clock.set(0)
    }

    /// The end of every fault.
    fn mend(&mut self) -> Result<()> {
        self.cut_off(false)?;
        self.set_full(false);
        self.set_valid(true)?;
        self.faults.set(Fault::None);
        self.collector.set_behaviour(Behaviour::Accept);
        self.store.set_running(true, 0)
    }

    /// Ends a process, by a kill or by signals that it heeds, perhaps damages its files and sets the clock, and starts the next one.
    fn next_process(&mut self, capture: Capture<'a>, is_last: bool) -> Result<Capture<'a>> {
        let is_stopped = self.dice.one_in(3);
        let is_sudden = self.dice.one_in(2) && !is_stopped && !self.is_shifted;
        let is_unfinished = self.dice.one_in(3);
        let is_hurried = self.dice.one_in(2);
        let accounts = if is_sudden {
            // As of some time before: more is on disk or delivered by then, but for what was made meanwhile.
            Account::of(&capture.status()?)?
        } else if self.is_full || is_unfinished {
            self.accounts(&capture)?
        } else {
            // Once its bundles are closed, a process has nothing that a kill could cost.
            eventually(PATIENCE, || {
                let accounts = self.accounts(&capture)?;
                let is_safe = accounts.iter().all(|it| it.at_stake(it.seen) == 0);
                ensure!(is_safe, "{accounts:?}");
                Ok(accounts)
            })?
        };
        let made = self.made_now();
        for (sink, account) in self.sinks.iter_mut().zip(&accounts) {
            let at_stake = account.at_stake(made);
            sink.explained += account.dropped + account.unknown;
            // A stop leaves everything to the spool, if there is room on the disk.
            if !is_stopped || self.was_full {
                sink.explained += at_stake;
                sink.unseen += at_stake;
            }
        }
        let how = match (is_stopped, is_hurried, is_sudden) {
            (true, false, _) => "stopped",
            (true, true, _) => "stopped by two signals",
            (false, _, false) => "killed",
            (false, _, true) => "killed suddenly",
        };
        self.note(format!("{how}: {accounts:?}"));
        if is_stopped && is_hurried {
            capture.signal(Signal::SIGTERM)?;
        }
        let ended = Instant::now();
        if is_stopped {
            let end = capture.terminate()?;
            // Its last totals have all that it saw.
            ensure!(end.stderr.contains("stopped after"), "{end:?}");
        } else {
            capture.signal(Signal::SIGKILL)?;
            drop(capture);
        }
        self.lives.push(Life {
            calls: self.made_before..self.made.len() as u64,
            ended,
            is_stopped,
            was_full: self.was_full,
            kept: self.disk.waiting()?,
        });
        let dice = Dice(self.dice.next());
        if self.dice.one_in(3)
            && let Some((spool, what)) = self.disk.damage(dice)?
        {
            self.sinks[spool].damages += 1;
            self.note(what);
        }
        self.is_shifted = self.dice.one_in(3);
        let hours = self.dice.one_of(&CLOCKS);
        if self.is_shifted {
            self.disk.shift_times(hours)?;
            self.note(format!("times on disk {hours:+} h"));
        }
        self.start(is_last)
    }

    /// Ends every fault, and waits until everything is delivered.
    fn recover(&mut self, capture: &Capture<'a>) -> Result<[Account; 2]> {
        self.mend()?;
        // Where the head of an index is damaged, the rules are unknown.
        let url = format!("http://127.0.0.1:{PLAIN_PORT}/message");
        let order = capture.control(&["spool", "drain", "--url", &url, "--rules", RULES])?;
        ensure!(order.code()? == 0, "{order:?}");
        eventually(2 * PATIENCE, || {
            let accounts = self.accounts(capture)?;
            let mut all = accounts.iter();
            let is_done =
                all.all(|account| account.on_disk == 0 && account.at_stake(account.seen) == 0);
            ensure!(is_done, "{accounts:?}");
            Ok(accounts)
        })
    }

    /// Returns the totals of each sink over all processes.
    fn run(&mut self, length: Duration) -> Result<[Value; 2]> {
        let mut capture = self.start(false)?;
        let deadline = Instant::now() + length;
        while Instant::now() < deadline {
            let calls = 5 + self.dice.below(30);
            self.call(calls)?;
            self.fault()?;
            thread::sleep(Duration::from_millis(100 + self.dice.below(500)));
            if self.is_settable && self.dice.one_in(4) {
                self.set_clock(&capture)?;
            }
            if self.dice.one_in(40) {
                let accounts = self.recover(&capture)?;
                self.note(format!("recovered: {accounts:?}"));
            }
            if self.dice.one_in(6) {
                capture = self.next_process(capture, false)?;
            }
        }
        self.mend()?;
        // The next process waits for nothing that this one has met.
        capture = self.next_process(capture, true)?;
        let accounts = self.recover(&capture)?;
        self.note(format!("at the end: {accounts:?}"));
        for (sink, account) in self.sinks.iter_mut().zip(&accounts) {
            sink.explained += account.dropped + account.unknown;
        }
        let status = capture.status()?;
        capture.terminate()?;
        self.store.stop()?;
        Ok([0, 1].map(|number| {
            let sink = &status["capture"]["sinks"][number];
            sink["output"]["spool"]["lifetime"].clone()
        }))
    }

    /// The numbers of the calls that each destination has, as often as it has them.
    fn delivered(&self) -> Result<[Vec<u64>; 2]> {
        let urls = self.store.urls()?;
        let number = |url: &String| {
            let (_, number) = url.split_once("/call/").with_context(|| url.clone())?;
            Ok(number.parse::<u64>()?)
        };
        let stored = urls.iter().map(number).collect::<Result<_>>()?;
        let (counts, arrivals) = self.collector.take_counts();
        ensure!(counts.broken == 0, "{:?}", self.collector.errors());
        let arrived = arrivals.iter().map(|arrival| arrival.number).collect();
        Ok([stored, arrived])
    }

    /// What each destination has, against what each process reported and what the totals say.
    fn check(&self, lifetimes: &[Value; 2]) -> Result<()> {
        println!(
            "{} calls, {} processes",
            self.made.len(),
            self.lives.len() + 1
        );
        let delivered = self.delivered()?;
        for (number, name) in NAMES.iter().enumerate() {
            let is_wanted = |call: &u64| number == 0 || call % 10 != 7;
            self.check_sink(number, &delivered[number], is_wanted, &lifetimes[number])
                .with_context(|| format!("sink {name}"))?;
        }
        Ok(())
    }

    fn check_sink(
        &self,
        number: usize,
        delivered: &[u64],
        is_wanted: impl Fn(&u64) -> bool,
        lifetime: &Value,
    ) -> Result<()> {
        let (name, sink) = (NAMES[number], &self.sinks[number]);
        let made = self.made.len() as u64;
        let there: HashSet<u64> = delivered.iter().copied().collect();
        ensure!(!there.is_empty(), "nothing happened");
        ensure!(there.len() == delivered.len(), "calls are there twice");
        let is_right = |call: &u64| *call < made && is_wanted(call);
        ensure!(there.iter().all(is_right), "calls that it should not have");
        let missing: HashSet<u64> = (0..made)
            .filter(|call| is_wanted(call) && !there.contains(call))
            .collect();
        let by_kills = self.check_lives(number, &missing)?;

        let of = |key: &str| lifetime[key].as_u64().unwrap_or_default();
        let dropped = lifetime["dropped"].as_object().context("an object")?;
        let dropped: u64 = dropped.values().filter_map(Value::as_u64).sum();
        let came = of("seen") + of("recovered");
        let (unseen, again) = (made.saturating_sub(came), came.saturating_sub(made));
        let lost = missing.len() as u64;
        println!(
            "{name}: {lost} missing, {by_kills}; {} explained, {unseen} unseen of {} at most, {again} again; {lifetime}",
            sink.explained, sink.unseen
        );
        ensure!(lost <= sink.explained, "{lost} missing");
        for left in ["unaccounted", "spooled", "in_flight"] {
            ensure!(lifetime[left] == 0, "{left}");
        }
        ensure!(unseen <= sink.unseen, "{unseen} unseen");
        // A state that was damaged on disk brings a delivered bundle back.
        ensure!(again <= sink.damages * BUNDLE_CALLS_MOST, "{again} again");
        ensure!(lost <= dropped + of("killed") + unseen, "{lost} missing");
        ensure!(there.len() as u64 + again >= of("sent"), "more sent");
        let unwanted = (0..made).filter(|call| !is_wanted(call)).count() as u64;
        let stopped = of("stopped");
        ensure!(
            stopped <= unwanted && unwanted <= stopped + unseen,
            "{stopped} stopped of {unwanted}"
        );
        Ok(())
    }

    /// What of the missing calls was neither delivered nor on disk when its process ended: nothing after a stop, and after a kill the
    /// last ones, where the disk had room. In words.
    fn check_lives(&self, number: usize, missing: &HashSet<u64>) -> Result<String> {
        let (mut kills, mut lost, mut oldest) = (0, 0, Duration::ZERO);
        for life in self.lives.iter().filter(|life| !life.was_full) {
            let gone: Vec<u64> = life
                .calls
                .clone()
                .filter(|call| missing.contains(call) && !life.kept[number].contains(call))
                .collect();
            if life.is_stopped {
                ensure!(gone.is_empty(), "a stop at {:?} lost {gone:?}", life.calls);
                continue;
            }
            kills += 1;
            lost += gone.len();
            let ages = gone.iter().map(|call| {
                let made = self.made[*call as usize];
                life.ended.saturating_duration_since(made)
            });
            oldest = ages.fold(oldest, Duration::max);
        }
        ensure!(oldest < KILL_COSTS_MOST, "a kill lost one {oldest:?} old");
        Ok(format!(
            "{lost} of them by {kills} kills with room on the disk, at most {oldest:.1?} old"
        ))
    }
}

#[test]
fn whatever_happens_each_call_is_delivered_once_or_accounted_for() -> Result<()> {
    let seed = setting("CHAOS_SEED", 7);
    let length = Duration::from_secs(setting("CHAOS_SECONDS", 120));
    let namespace = Namespace::new("chaos")?;
    let certificate = Certificate::new()?;
    let _nginx = Nginx::serving(&namespace, &certificate.server(TLS_PORT, PLAIN_PORT))?;
    let near = namespace.inside(|| TcpListener::bind(("127.0.0.1", NEAR_PORT)))?;
    let mut chaos = Chaos {
        namespace: &namespace,
        certificate,
        faults: FaultServer::start(&namespace, PLAIN_PORT, STORE_PORT)?,
        store: Store::start(&namespace)?,
        collector: Collector::count_only(near)?,
        disk: SpoolDisk::mount()?,
        clock: SettableClock::new()?,
        dice: Dice(seed),
        made: Vec::new(),
        made_before: 0,
        sinks: Default::default(),
        lives: Vec::new(),
        is_settable: false,
        is_cut_off: false,
        is_valid: true,
        is_full: false,
        was_full: false,
        is_shifted: false,
        story: Vec::new(),
    };
    let ran = chaos.run(length);
    let checked = ran.and_then(|lifetimes| chaos.check(&lifetimes));
    let story = format!("seed {seed}\n{}", chaos.story.join("\n"));
    println!("{story}");
    checked.context(story)
}
