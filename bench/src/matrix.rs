//! `bench run`: a search for the highest lossless rate in each cell of a matrix, then repetitions at that rate and above.
//!
//! Programs that are compared alternate within each repetition, so that other load on the machine affects both. With
//! `--limit` the bare ring is measured right before the cells of its traffic, for the same reason.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{ArgAction, Args};

use crate::cell::{self, Cell, Method};
use crate::collect::PostBuffer;
use crate::lab::kilobytes;
use crate::limit::{self, Touch};
use crate::load::{Protocol, Shape};
use crate::program::{Program, sniffer_beside};
use crate::report::Spread;
use crate::results::{Conditions, Purpose, Results, Trial};
use crate::search::{Outcome, highest_lossless};
use crate::trial;
use crate::tx::SenderKind;

/// The most rounds of repetitions, each at a lower rate than the one before, until one is lossless.
const ROUNDS_MAX: u32 = 5;
/// Blocks of 1 MiB in the bare ring.
const LIMIT_BLOCKS: usize = 256;
/// The most megabytes of POSTs that a collector keeps: four seconds of bodies of 20 kB at the rate of a bare ring.
const KEEP_MB_MAX: usize = 6000;

/// Options of `bench run`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Encapsulations of the traffic: plain, vxlan
    #[arg(long, value_delimiter = ',', default_value = "plain,vxlan")]
    wire: Vec<String>,
    /// Response body sizes in bytes
    #[arg(long, value_delimiter = ',', default_value = "200,2000,20000")]
    body: Vec<usize>,
    /// How calls are sent: http1; h2c, or grpc for its bodies; h2c-10 for ten streams at once, h2c-literal without a header
    /// table
    #[arg(long, default_value = "http1")]
    protocol: Protocol,
    /// Compression of bundles: on, off
    #[arg(long, value_delimiter = ',', default_value = "on,off")]
    compression: Vec<String>,
    /// Rule sets: debug, standard, strict, headers (no bodies), realistic (fifty rules), bodiless (the rules of realistic
    /// that do not apply to bodies), or paths of files
    #[arg(long, value_delimiter = ',', default_value = "debug")]
    rules: Vec<String>,
    /// Connections: steady (few, with 100 calls each), flows (--flows open at a time), churn (--flows-per-minute new ones),
    /// both
    #[arg(long, value_delimiter = ',', default_value = "steady")]
    traffic: Vec<Traffic>,
    /// Connections open at a time with `flows` and `both`
    #[arg(long, default_value_t = 100_000)]
    flows: usize,
    /// New connections a minute with `churn` and `both`
    #[arg(long, default_value_t = 1_000_000.0)]
    flows_per_minute: f64,
    /// How frames are sent
    #[arg(long, default_value = "messages")]
    sender: SenderKind,
    /// Measures the bare ring, too, before the cells of the same traffic; its rate is the upper end of a search
    #[arg(long)]
    limit: bool,
    /// Starts and ends a search at this share of the rate of the bare ring
    #[arg(long, requires = "limit")]
    share: Option<f64>,
    /// Rates in calls a second, instead of a search; 0 is as fast as possible
    #[arg(long, value_delimiter = ',')]
    rate: Vec<f64>,
    /// Start of a search in calls a second, for bodies of 200 bytes; searches with larger bodies start lower
    #[arg(long, default_value_t = 20_000.0)]
    start: f64,
    /// Ends a search when the highest lossless and the lowest lossy rate differ by no more than this factor
    #[arg(long, default_value_t = 1.08)]
    precision: f64,
    /// Share of calls that other programs must deliver to be lossless; sniffer must deliver all and shed nothing
    #[arg(long, default_value_t = 0.999)]
    lossless: f64,
    /// Multiples of the found rate to measure after the search
    #[arg(long, value_delimiter = ',', default_value = "2,4")]
    overload: Vec<f64>,
    /// Repetitions at each rate
    #[arg(long, default_value_t = 3)]
    repetitions: u32,
    /// Repetitions at each multiple of the found rate
    #[arg(long, default_value_t = 1)]
    overload_repetitions: u32,
    /// Seconds of measured traffic
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds of traffic in each probe of a search
    #[arg(long, default_value_t = 3.0)]
    probe_seconds: f64,
    /// Seconds of warm-up traffic
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Connections open at a time; 0: as many as there are calls in 20 ms, 512 at most
    #[arg(long, default_value_t = 0)]
    connections: usize,
    /// CPU of the sender, which includes the kernel's path to the tap
    #[arg(long, default_value_t = 0)]
    sender_cpu: usize,
    /// CPUs of the sniffer, for example 1 or 0-1
    #[arg(long, default_value = "1")]
    engine_cpus: String,
    /// CPU of the collector
    #[arg(long, default_value_t = 1)]
    collector_cpu: usize,
    /// Pin nothing to CPUs
    #[arg(long, action = ArgAction::SetTrue)]
    no_pin: bool,
    /// Priority of the sniffer, as for nice(1)
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    nice: i32,
    /// Ring size of the sniffer, as for its --ring-size
    #[arg(long, default_value = "64M")]
    ring: String,
    /// Megabytes of POSTs that the collector keeps, to check them after the traffic; 0: check them as they arrive
    #[arg(long, default_value_t = keep_mb())]
    keep_mb: usize,
    /// Path of sniffer [default: in the folder of this program]
    #[arg(long)]
    sniffer: Option<PathBuf>,
    /// Measure only the program of --vs
    #[arg(long, requires = "vs")]
    only_vs: bool,
    /// Shell command of a program to compare with, which captures on $INTERFACE (server port $PORT, encapsulation $WIRE)
    /// and posts to $URL by the rules in $RULES
    #[arg(long)]
    vs: Option<String>,
    /// Name of that program in the results
    #[arg(long, default_value = "other")]
    vs_name: String,
    /// Folder of the results
    #[arg(long, default_value = "bench/results/latest")]
    results: PathBuf,
    /// Further arguments for `sniffer run`
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// The default memory for POSTs: half of the available memory, [`KEEP_MB_MAX`] at most.
fn keep_mb() -> usize {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = kilobytes(&meminfo, "MemAvailable:") as usize / 1024;
    (free / 2).min(KEEP_MB_MAX)
}

/// The number of connections, and how long each lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Traffic {
    Steady,
    Flows,
    Churn,
    Both,
}

/// Measures all cells.
pub fn run(options: &Options) -> Result<()> {
    let programs = programs(options)?;
    let mut results = Results::create(&options.results, "run")?;
    eprintln!("rows go to {}", results.path().display());
    let mut limits = if options.limit {
        Some(Results::create(&options.results, "limit")?)
    } else {
        None
    };
    let post_buffer = (options.keep_mb > 0).then(|| PostBuffer::new(options.keep_mb << 20));
    for cells in cells(options)?.chunk_by(same_frames) {
        let rate_max = match (&mut limits, cells.first()) {
            (Some(results), Some(cell)) => measure_bare_ring(options, cell, results)?,
            _ => f64::INFINITY,
        };
        for cell in cells {
            let mut bench = Bench {
                options,
                post_buffer: post_buffer.clone(),
                results: &mut results,
                rate_max,
            };
            bench.cell(&programs, cell)?;
        }
    }
    Ok(())
}

fn same_frames(one: &Cell, other: &Cell) -> bool {
    (&one.wire, one.shape.body_bytes) == (&other.wire, other.shape.body_bytes)
}

/// Calls a second that a bare ring receives when frames are sent as fast as possible; the median of the repetitions.
fn measure_bare_ring(options: &Options, cell: &Cell, results: &mut Results) -> Result<f64> {
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
                            protocol: options.protocol,
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
                        cells.push(with_traffic(cell, traffic, options));
                    }
                }
            }
        }
    }
    Ok(cells)
}

fn with_traffic(mut cell: Cell, traffic: Traffic, options: &Options) -> Cell {
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
    /// Shared by all trials, since allocating its memory takes a second.
    post_buffer: Option<PostBuffer>,
    results: &'a mut Results,
    /// The rate of the bare ring in calls a second, where a search ends.
    rate_max: f64,
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
        self.repeat(&mut found, cell)?;
        // For many connections, or a share of the bare ring, the rates suffice.
        let has_overload = cell.traffic == "steady" && self.options.share.is_none();
        let repetitions = if has_overload {
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

    /// Repeats the trial at the rates that were found. One lossless probe is not a result: a program that loses something
    /// in half of the repetitions is measured again at a lower rate, and these repetitions count as probes.
    fn repeat(&mut self, found: &mut [(&Program, f64)], cell: &Cell) -> Result<()> {
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
                let lossless = (rows[index].iter())
                    .filter(|(_, trial)| trial.is_lossless(self.options.lossless))
                    .count();
                let is_confirmed = 2 * lossless > rows[index].len();
                for (conditions, trial) in &mut rows[index] {
                    // The last round stays a result even if it is lossy; the report shows that.
                    if !is_confirmed && round < ROUNDS_MAX {
                        trial.purpose = Purpose::Probe;
                    }
                    self.results.append(conditions, trial)?;
                }
                if !is_confirmed {
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
        let end = self.rate_max * self.options.share.unwrap_or(1.0);
        let mut start = end;
        if self.options.share.is_none() {
            // The cost of a call is about that of its body and some hundreds of bytes more.
            let low = self.options.start * 1500.0 / (1300.0 + cell.shape.body_bytes as f64);
            let trial = self.probe(program, cell, low.min(end))?;
            start = self.first_rate(&trial).min(end);
        }
        let found = highest_lossless(start, end, precision, |rate| {
            let trial = self.probe(program, cell, rate)?;
            Ok(outcome(&trial, lossless))
        })?;
        Ok(found.rate)
    }

    /// The first rate of a search, from the CPU time of a call in a trial at a low rate. A call costs less at higher
    /// rates, so this is a lower bound of what one core can do.
    fn first_rate(&self, low: &Trial) -> f64 {
        let shared = self.options.engine_cpus == self.options.collector_cpu.to_string();
        let collector = if shared {
            low.collector_cpu_seconds
        } else {
            0.0
        };
        let per_call = (low.cpu_seconds + collector) / low.calls_delivered.max(1) as f64;
        if per_call > 0.0 && low.is_lossless(self.options.lossless) {
            (0.9 / per_call).max(low.rate_asked)
        } else {
            low.rate_asked
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
            post_buffer: self.post_buffer.clone(),
        };
        let conditions = Conditions::now();
        let trial = trial::measure(program, cell, &method, rate, purpose, repetition)?;
        eprintln!("{}", line(&trial));
        Ok((conditions, trial))
    }
}

fn outcome(trial: &Trial, lossless: f64) -> Outcome {
    if !trial.is_lossless(lossless) {
        Outcome::Lossy
    } else if trial.calls_per_second < 0.95 * trial.rate_asked {
        Outcome::SenderLimited
    } else {
        Outcome::Lossless
    }
}

/// The progress line of a trial. `busy` has the CPU of sniffer, collector and sender.
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
        trial.memory_without_ring() as f64 / 1e6,
        busy(trial.cpu_seconds),
        busy(trial.collector_cpu_seconds),
        busy(trial.sender_cpu_seconds),
    );
    if wrong > 0 {
        line.push_str(&format!(" {wrong} WRONG"));
    }
    for (count, what) in [
        (trial.bodies_truncated, "bodies truncated"),
        (trial.bundles_plain, "bundles uncompressed"),
    ] {
        if let Some(count) = count.filter(|count| *count > 0) {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    if let Some(ring) = trial.ring_dropped.filter(|ring| *ring > 0) {
        line.push_str(&format!(", {ring} frames dropped in the ring"));
    }
    if !trial.dropped_reasons.is_empty() {
        line.push_str(&format!(", calls dropped: {}", trial.dropped_reasons));
    }
    if trial.unaccounted.is_some_and(|count| count != 0) {
        line.push_str(" LEDGER NOT BALANCED");
    }
    line
}
