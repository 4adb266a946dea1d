//! `bench run`: every cell of a matrix, the highest lossless rate of each, repetitions there and beyond.
//!
//! Programs that are compared take turns within each repetition, so that what the machine does meanwhile hits both. With
//! `--limit` the bare ring is measured before the cells of its traffic, for the same reason.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{ArgAction, Args};

use crate::cell::{self, Cell, Method};
use crate::collect::Shelf;
use crate::lab::kilobytes;
use crate::limit::{self, Touch};
use crate::load::Shape;
use crate::report::Spread;
use crate::results::{Conditions, Purpose, Results, Trial};
use crate::search::{Verdict, highest_lossless};
use crate::subject::{Program, sniffer_beside};
use crate::trial;
use crate::tx::Way;

/// Rounds of repetitions, each at a lower rate, until one keeps its promise.
const ROUNDS_MAX: u32 = 5;
/// Blocks of 1 MiB in the ring of the bare receiver.
const LIMIT_BLOCKS: usize = 256;
/// Megabytes of POSTs that a collector keeps at most: bodies of 20 kB for four seconds at what a bare ring takes.
const KEEP_MB_MAX: usize = 6000;

/// What to measure, and how.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Wires: plain, vxlan
    #[arg(long, value_delimiter = ',', default_value = "plain,vxlan")]
    wire: Vec<String>,
    /// Bytes of response bodies
    #[arg(long, value_delimiter = ',', default_value = "200,2000,20000")]
    body: Vec<usize>,
    /// Bundles compressed: on, off
    #[arg(long, value_delimiter = ',', default_value = "on,off")]
    compression: Vec<String>,
    /// Rule sets: debug, standard, strict, headers (no bodies), realistic (fifty rules),
    /// bodiless (those of the fifty that are not on bodies), or files
    #[arg(long, value_delimiter = ',', default_value = "debug")]
    rules: Vec<String>,
    /// Connections: steady (few, 100 calls on each), flows (--flows at a time), churn (--flows-per-minute), both
    #[arg(long, value_delimiter = ',', default_value = "steady")]
    traffic: Vec<Traffic>,
    /// Connections at a time of `flows` and `both`
    #[arg(long, default_value_t = 100_000)]
    flows: usize,
    /// New connections a minute of `churn` and `both`
    #[arg(long, default_value_t = 1_000_000.0)]
    flows_per_minute: f64,
    /// How frames get onto the wire
    #[arg(long, default_value = "messages")]
    sender: Way,
    /// Also measures the bare ring, before the cells of the same traffic; a search ends there
    #[arg(long)]
    limit: bool,
    /// A search begins and ends at this share of what the bare ring took
    #[arg(long, requires = "limit")]
    share: Option<f64>,
    /// Calls a second, instead of a search; 0 is as fast as the sender can
    #[arg(long, value_delimiter = ',')]
    rate: Vec<f64>,
    /// Where a search begins, in calls a second with bodies of 200 bytes; larger ones begin lower
    #[arg(long, default_value_t = 20_000.0)]
    start: f64,
    /// A search ends when the last good and the first bad rate differ by this factor
    #[arg(long, default_value_t = 1.08)]
    precision: f64,
    /// Share of calls that other programs must deliver; of ours all are wanted, and nothing else given up
    #[arg(long, default_value_t = 0.999)]
    lossless: f64,
    /// After the search, also at these multiples of the rate found
    #[arg(long, value_delimiter = ',', default_value = "2,4")]
    overload: Vec<f64>,
    /// Repetitions at each rate
    #[arg(long, default_value_t = 3)]
    repetitions: u32,
    /// Repetitions at each multiple
    #[arg(long, default_value_t = 1)]
    overload_repetitions: u32,
    /// Seconds of measured traffic
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds of traffic of each probe of a search
    #[arg(long, default_value_t = 3.0)]
    probe_seconds: f64,
    /// Seconds of traffic before
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Connections at a time; 0: those that hold 20 ms of calls, 512 at most
    #[arg(long, default_value_t = 0)]
    connections: usize,
    /// CPU of the sender; it also pays for the kernel's way to the tap
    #[arg(long, default_value_t = 0)]
    sender_cpu: usize,
    /// CPUs of the sniffer, such as 1 or 0-1
    #[arg(long, default_value = "1")]
    engine_cpus: String,
    /// CPU of the collector
    #[arg(long, default_value_t = 1)]
    collector_cpu: usize,
    /// No pinning at all
    #[arg(long, action = ArgAction::SetTrue)]
    no_pin: bool,
    /// Priority of the sniffer, as nice(1) takes it
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    nice: i32,
    /// Ring of the sniffer, as its --ring-size
    #[arg(long, default_value = "64M")]
    ring: String,
    /// Megabytes of POSTs that the collector keeps and checks after the traffic; 0: it checks them as they come
    #[arg(long, default_value_t = keep_mb())]
    keep_mb: usize,
    /// The program; default the `sniffer` beside this one
    #[arg(long)]
    sniffer: Option<PathBuf>,
    /// Leaves our own program out
    #[arg(long, requires = "vs")]
    only_vs: bool,
    /// A shell command to compare with: captures on $INTERFACE (server port $PORT, wire $WIRE), posts to $URL by $RULES
    #[arg(long)]
    vs: Option<String>,
    /// Its name in the results
    #[arg(long, default_value = "other")]
    vs_name: String,
    /// Folder of the results
    #[arg(long, default_value = "bench/results/latest")]
    results: PathBuf,
    /// Further arguments of `sniffer run`
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Memory for POSTs by default: half of the memory that is free, [`KEEP_MB_MAX`] at most.
fn keep_mb() -> usize {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = kilobytes(&meminfo, "MemAvailable:") as usize / 1024;
    (free / 2).min(KEEP_MB_MAX)
}

/// How many connections there are, and how long they live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Traffic {
    Steady,
    Flows,
    Churn,
    Both,
}

/// Measures all of it.
pub fn run(options: &Options) -> Result<()> {
    let programs = programs(options)?;
    let mut results = Results::create(&options.results, "run")?;
    eprintln!("rows go to {}", results.path().display());
    let mut limits = if options.limit {
        Some(Results::create(&options.results, "limit")?)
    } else {
        None
    };
    let shelf = (options.keep_mb > 0).then(|| Shelf::new(options.keep_mb << 20));
    for cells in cells(options)?.chunk_by(same_frames) {
        let end = match (&mut limits, cells.first()) {
            (Some(results), Some(cell)) => bare(options, cell, results)?,
            _ => f64::INFINITY,
        };
        for cell in cells {
            let mut bench = Bench {
                options,
                shelf: shelf.clone(),
                results: &mut results,
                end,
            };
            bench.cell(&programs, cell)?;
        }
    }
    Ok(())
}

fn same_frames(one: &Cell, other: &Cell) -> bool {
    (&one.wire, one.shape.body_bytes) == (&other.wire, other.shape.body_bytes)
}

/// Calls a second that a bare ring takes without loss, flat out: the median of the repetitions.
fn bare(options: &Options, cell: &Cell, results: &mut Results) -> Result<f64> {
    let shape = Shape {
        connections: Shape::default().connections,
        ..cell.shape.clone()
    };
    let mut rates = Vec::new();
    for repetition in 1..=options.repetitions {
        let method = limit::Method {
            seconds: options.probe_seconds,
            rate: 0.0,
            sender: options.sender,
            sender_cpu: (!options.no_pin).then_some(options.sender_cpu),
            receiver_cpu: (!options.no_pin).then_some(options.collector_cpu),
            ring_blocks: LIMIT_BLOCKS,
            touch: Touch::Headers,
        };
        let conditions = Conditions::now();
        let row = limit::measure(&shape, &cell.wire, &method, repetition)?;
        results.append(&conditions, &row)?;
        eprintln!("{}", limit::line(&row));
        rates.push(row.calls_per_second * row.received as f64 / row.frames.max(1) as f64);
    }
    Ok(Spread::of(rates).median)
}

fn programs(options: &Options) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    if !options.only_vs {
        let path = options.sniffer.clone();
        programs.push(Program::Sniffer(path.map_or_else(sniffer_beside, Ok)?));
    }
    programs.extend(options.vs.iter().map(|command| Program::Other {
        name: options.vs_name.clone(),
        command: command.clone(),
    }));
    Ok(programs)
}

fn cells(options: &Options) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for wire in &options.wire {
        for &body_bytes in &options.body {
            for rules in &options.rules {
                for compression in &options.compression {
                    for &traffic in &options.traffic {
                        ensure!(
                            ["on", "off"].contains(&compression.as_str()),
                            "compression is on or off"
                        );
                        let shape = Shape {
                            body_bytes,
                            connections: options.connections,
                            wire: cell::wire(wire)?,
                            ..Shape::default()
                        };
                        let compression = compression == "on";
                        let cell = Cell {
                            traffic: String::new(),
                            shape,
                            flows_per_minute: None,
                            wire: wire.clone(),
                            compression,
                            rules: rules.clone(),
                            rules_text: cell::rules(rules, compression)?,
                        };
                        cells.push(with(cell, traffic, options));
                    }
                }
            }
        }
    }
    Ok(cells)
}

fn with(mut cell: Cell, traffic: Traffic, options: &Options) -> Cell {
    if matches!(traffic, Traffic::Flows | Traffic::Both) {
        cell.shape.connections = options.flows;
    }
    if matches!(traffic, Traffic::Churn | Traffic::Both) {
        cell.flows_per_minute = Some(options.flows_per_minute);
    }
    cell.traffic = format!("{traffic:?}").to_lowercase();
    cell
}

struct Bench<'a> {
    options: &'a Options,
    /// One for all trials: taking its memory takes a second.
    shelf: Option<Shelf>,
    results: &'a mut Results,
    /// What the bare ring took, in calls a second.
    end: f64,
}

impl Bench<'_> {
    fn cell(&mut self, programs: &[Program], cell: &Cell) -> Result<()> {
        if !self.options.rate.is_empty() {
            return self.at_given_rates(programs, cell);
        }
        let mut found = Vec::new();
        for program in programs {
            let rate = self.search(program, cell)?;
            if rate >= 1.0 {
                found.push((program, rate));
            }
        }
        self.keep_promises(&mut found, cell)?;
        // The cost of many connections, or of a share of the bare ring, shows in their rates.
        let is_plain = cell.traffic == "steady" && self.options.share.is_none();
        let repetitions = if is_plain {
            self.options.overload_repetitions
        } else {
            0
        };
        for _ in 0..repetitions {
            for &factor in &self.options.overload {
                for &(program, rate) in &found {
                    let (conditions, trial) =
                        self.trial(program, cell, rate * factor, Purpose::Overload, 1)?;
                    self.results.append(&conditions, &trial)?;
                }
            }
        }
        Ok(())
    }

    fn at_given_rates(&mut self, programs: &[Program], cell: &Cell) -> Result<()> {
        for repetition in 1..=self.options.repetitions {
            for program in programs {
                for &rate in &self.options.rate {
                    let (conditions, trial) =
                        self.trial(program, cell, rate, Purpose::Given, repetition)?;
                    self.results.append(&conditions, &trial)?;
                }
            }
        }
        Ok(())
    }

    /// Repetitions at the rates found. One lucky probe is no result: a program that loses something in half of them
    /// gets a lower rate, and its repetitions count as probes.
    fn keep_promises(&mut self, found: &mut [(&Program, f64)], cell: &Cell) -> Result<()> {
        let mut open: Vec<usize> = (0..found.len()).collect();
        for round in 1..=ROUNDS_MAX {
            let mut rows: Vec<Vec<(Conditions, Trial)>> = vec![Vec::new(); found.len()];
            for repetition in 1..=self.options.repetitions {
                for &index in &open {
                    let (program, rate) = found[index];
                    rows[index].push(self.trial(program, cell, rate, Purpose::Rate, repetition)?);
                }
            }
            let mut failed = Vec::new();
            for index in open {
                let kept = (rows[index].iter())
                    .filter(|(_, trial)| trial.is_lossless(self.options.lossless))
                    .count();
                let is_kept = 2 * kept > rows[index].len();
                for (conditions, trial) in &mut rows[index] {
                    // The last round stands, whatever it shows: the page says that it lost something.
                    if !is_kept && round < ROUNDS_MAX {
                        trial.purpose = Purpose::Probe;
                    }
                    self.results.append(conditions, trial)?;
                }
                if !is_kept {
                    found[index].1 /= self.options.precision;
                    failed.push(index);
                }
            }
            open = failed;
            if open.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// The highest rate at which a probe loses nothing.
    fn search(&mut self, program: &Program, cell: &Cell) -> Result<f64> {
        let (lossless, precision) = (self.options.lossless, self.options.precision);
        let end = self.end * self.options.share.unwrap_or(1.0);
        let mut start = end;
        if self.options.share.is_none() {
            // A call costs about as much as some hundreds of bytes and its body.
            let scout = self.options.start * 1500.0 / (1300.0 + cell.shape.body_bytes as f64);
            let trial = self.probe(program, cell, scout.min(end))?;
            start = self.guess(&trial).min(end);
        }
        let found = highest_lossless(start, end, precision, |rate| {
            let trial = self.probe(program, cell, rate)?;
            Ok(verdict(&trial, lossless))
        })?;
        Ok(found.rate)
    }

    /// Where to begin, from what a call costs at a low rate: it is less at higher ones, so this is a lower bound.
    fn guess(&self, scout: &Trial) -> f64 {
        let shared = self.options.engine_cpus == self.options.collector_cpu.to_string();
        let collector = if shared {
            scout.collector_cpu_seconds
        } else {
            0.0
        };
        let per_call = (scout.cpu_seconds + collector) / scout.calls_delivered.max(1) as f64;
        if per_call > 0.0 && scout.is_lossless(self.options.lossless) {
            (0.9 / per_call).max(scout.rate_asked)
        } else {
            scout.rate_asked
        }
    }

    fn probe(&mut self, program: &Program, cell: &Cell, rate: f64) -> Result<Trial> {
        let (conditions, trial) = self.trial(program, cell, rate, Purpose::Probe, 0)?;
        self.results.append(&conditions, &trial)?;
        Ok(trial)
    }

    fn trial(
        &self,
        program: &Program,
        cell: &Cell,
        rate: f64,
        purpose: Purpose,
        repetition: u32,
    ) -> Result<(Conditions, Trial)> {
        let options = self.options;
        let pinned = !options.no_pin;
        let method = Method {
            seconds: if purpose == Purpose::Probe {
                options.probe_seconds
            } else {
                options.seconds
            },
            warm_up: options.warm_up,
            sender: options.sender,
            sender_cpu: pinned.then_some(options.sender_cpu),
            engine_cpus: pinned.then(|| options.engine_cpus.clone()),
            collector_cpu: pinned.then_some(options.collector_cpu),
            nice: options.nice,
            ring: options.ring.clone(),
            arguments: options.arguments.clone(),
            shelf: self.shelf.clone(),
        };
        let conditions = Conditions::now();
        let trial = trial::measure(program, cell, &method, rate, purpose, repetition)?;
        eprintln!("{}", line(&trial));
        Ok((conditions, trial))
    }
}

fn verdict(trial: &Trial, lossless: f64) -> Verdict {
    if !trial.is_lossless(lossless) {
        Verdict::Lossy
    } else if trial.calls_per_second < 0.95 * trial.rate_asked {
        Verdict::SenderLimited
    } else {
        Verdict::Lossless
    }
}

/// What a person who waits wants to see; busy are sniffer, collector and sender.
fn line(trial: &Trial) -> String {
    let wrong = trial.wrong();
    let busy = |seconds: f64| seconds / trial.seconds * 100.0;
    let mut line = format!(
        "{:<9} {:<5} {:>5} B {:<8} {:<3} {:<6} {:<8} {:>8.0} calls/s {:>8.3} % delivered {:>7.2} µs/call {:>4.0} MB, busy {:.0}/{:.0}/{:.0} %",
        trial.program,
        trial.wire,
        trial.body_bytes,
        trial.rules,
        trial.compression,
        trial.traffic,
        format!("{:?}", trial.purpose).to_lowercase(),
        trial.calls_per_second,
        trial.delivered_share * 100.0,
        trial.cpu_micros_per_call,
        trial.memory_beside_ring() as f64 / 1e6,
        busy(trial.cpu_seconds),
        busy(trial.collector_cpu_seconds),
        busy(trial.sender_cpu_seconds),
    );
    if wrong > 0 {
        line.push_str(&format!(" {wrong} WRONG"));
    }
    for (count, what) in [
        (trial.bodies_thinned, "bodies thinned"),
        (trial.bundles_plain, "bundles plain"),
    ] {
        if let Some(count) = count.filter(|count| *count > 0) {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    if let Some(ring) = trial.ring_dropped.filter(|ring| *ring > 0) {
        line.push_str(&format!(" ring dropped {ring} frames"));
    }
    if !trial.dropped_reasons.is_empty() {
        line.push_str(&format!(" dropped {}", trial.dropped_reasons));
    }
    if trial.unaccounted.is_some_and(|count| count != 0) {
        line.push_str(" LEDGER NOT BALANCED");
    }
    line
}
