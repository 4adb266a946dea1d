//! `bench run`: every cell of a matrix, the highest lossless rate of each, repetitions there and beyond.
//!
//! Programs that are compared take turns within each repetition, so that what the machine does meanwhile hits both.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{ArgAction, Args};

use crate::load::Shape;
use crate::report::Spread;
use crate::results::{Conditions, Purpose, Results, Trial};
use crate::search::{Verdict, highest_lossless};
use crate::trial::{self, Cell, Method, Program};

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
    /// Rule sets: debug, standard, strict, realistic (fifty rules), or files
    #[arg(long, value_delimiter = ',', default_value = "debug")]
    rules: Vec<String>,
    /// Calls a second, instead of a search; 0 is as fast as the sender can
    #[arg(long, value_delimiter = ',')]
    rate: Vec<f64>,
    /// Where a search begins, in calls a second with bodies of 200 bytes; larger ones begin lower
    #[arg(long, default_value_t = 20_000.0)]
    start: f64,
    /// A search ends when the last good and the first bad rate differ by this factor
    #[arg(long, default_value_t = 1.08)]
    precision: f64,
    /// Share of calls that must be delivered: 0.999 is what others were measured with
    #[arg(long, default_value_t = 0.999)]
    lossless: f64,
    /// After the search, also at these multiples of the rate found
    #[arg(long, value_delimiter = ',', default_value = "2,4")]
    overload: Vec<f64>,
    /// Repetitions at each rate
    #[arg(long, default_value_t = 3)]
    repetitions: u32,
    /// Seconds of measured traffic
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds of traffic of each probe of a search
    #[arg(long, default_value_t = 5.0)]
    probe_seconds: f64,
    /// Seconds of traffic before
    #[arg(long, default_value_t = 2.0)]
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
    /// Megabytes of POSTs that are checked only after the traffic
    #[arg(long, default_value_t = 2000)]
    postpone_mb: usize,
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
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
    /// Further arguments of `sniffer run`
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Measures all of it.
pub fn run(options: &Options) -> Result<()> {
    let programs = programs(options)?;
    let mut results = Results::create(&options.results, "run")?;
    eprintln!("rows go to {}", results.path().display());
    let mut bench = Bench {
        options,
        results: &mut results,
    };
    for cell in cells(options)? {
        bench.cell(&programs, &cell)?;
    }
    Ok(())
}

fn programs(options: &Options) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    if !options.only_vs {
        let path = options.sniffer.clone();
        programs.push(Program::Sniffer(
            path.map_or_else(trial::sniffer_beside, Ok)?,
        ));
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
                    ensure!(
                        ["on", "off"].contains(&compression.as_str()),
                        "compression is on or off"
                    );
                    let compression = compression == "on";
                    cells.push(Cell {
                        shape: Shape {
                            body_bytes,
                            connections: options.connections,
                            wire: trial::wire(wire)?,
                            ..Shape::default()
                        },
                        wire: wire.clone(),
                        compression,
                        rules: rules.clone(),
                        rules_text: trial::rules(rules, compression)?,
                    });
                }
            }
        }
    }
    Ok(cells)
}

struct Bench<'a> {
    options: &'a Options,
    results: &'a mut Results,
}

impl Bench<'_> {
    fn cell(&mut self, programs: &[Program], cell: &Cell) -> Result<()> {
        let mut plans: Vec<(&Program, Purpose, f64)> = Vec::new();
        for program in programs {
            if !self.options.rate.is_empty() {
                plans.extend(
                    self.options
                        .rate
                        .iter()
                        .map(|rate| (program, Purpose::Rate, *rate)),
                );
                continue;
            }
            let rate = self.search(program, cell)?;
            plans.push((program, Purpose::Rate, rate));
            let beyond = self.options.overload.iter();
            plans.extend(beyond.map(|factor| (program, Purpose::Overload, rate * factor)));
        }
        plans.retain(|(_, purpose, rate)| {
            *rate > 0.0 || (*purpose == Purpose::Rate && !self.options.rate.is_empty())
        });
        for repetition in 1..=self.options.repetitions {
            for &(program, purpose, rate) in &plans {
                self.trial(program, cell, rate, purpose, repetition)?;
            }
        }
        Ok(())
    }

    /// The highest rate at which one probe and then the median of the repetitions lose nothing.
    fn search(&mut self, program: &Program, cell: &Cell) -> Result<f64> {
        // A call costs about as much as some hundreds of bytes and its body.
        let start = self.options.start * 1500.0 / (1300.0 + cell.shape.body_bytes as f64);
        let (lossless, precision) = (self.options.lossless, self.options.precision);
        let found = highest_lossless(start, precision, |rate| {
            let trial = self.trial(program, cell, rate, Purpose::Probe, 0)?;
            Ok(verdict(&trial, lossless))
        })?;
        let mut rate = found.rate;
        // One lucky probe is no result.
        while rate >= 1.0 {
            let mut shares = Vec::new();
            for _ in 0..self.options.repetitions {
                shares.push(
                    self.trial(program, cell, rate, Purpose::Probe, 0)?
                        .delivered_share,
                );
            }
            if Spread::of(shares).median >= lossless {
                return Ok(rate);
            }
            rate /= precision;
        }
        Ok(0.0)
    }

    fn trial(
        &mut self,
        program: &Program,
        cell: &Cell,
        rate: f64,
        purpose: Purpose,
        repetition: u32,
    ) -> Result<Trial> {
        let options = self.options;
        let pinned = !options.no_pin;
        let method = Method {
            seconds: if purpose == Purpose::Probe {
                options.probe_seconds
            } else {
                options.seconds
            },
            warm_up: options.warm_up,
            sender_cpu: pinned.then_some(options.sender_cpu),
            engine_cpus: pinned.then(|| options.engine_cpus.clone()),
            collector_cpu: pinned.then_some(options.collector_cpu),
            nice: options.nice,
            ring: options.ring.clone(),
            arguments: options.arguments.clone(),
            postpone_bytes: options.postpone_mb << 20,
        };
        let conditions = Conditions::now();
        let trial = trial::measure(program, cell, &method, rate, purpose, repetition)?;
        self.results.append(&conditions, &trial)?;
        eprintln!("{}", line(&trial));
        Ok(trial)
    }
}

fn verdict(trial: &Trial, lossless: f64) -> Verdict {
    if trial.delivered_share < lossless {
        Verdict::Lossy
    } else if trial.calls_per_second < 0.95 * trial.rate_asked {
        Verdict::SenderLimited
    } else {
        Verdict::Lossless
    }
}

/// What a person who waits wants to see.
fn line(trial: &Trial) -> String {
    let wrong = trial.duplicates + trial.mismatched + trial.torn + trial.broken_posts;
    let mut line = format!(
        "{:<9} {:<5} {:>5} B {:<9} {:<3} {:<8} {:>8.0} calls/s {:>8.3} % delivered {:>8.2} µs/call {:>5.0} MB",
        trial.program,
        trial.wire,
        trial.body_bytes,
        trial.rules,
        trial.compression,
        format!("{:?}", trial.purpose).to_lowercase(),
        trial.calls_per_second,
        trial.delivered_share * 100.0,
        trial.cpu_micros_per_call,
        trial.resident_peak_bytes.saturating_sub(trial.ring_bytes) as f64 / 1e6,
    );
    if wrong > 0 {
        line.push_str(&format!(" {wrong} WRONG"));
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
