//! `bench read`: capture files of steady calls, read by `sniffer read` and by other programs, one after the other.
//!
//! `sniffer` keeps headers and no bodies, but reassembles and pairs; httpry reads the first line and the headers of each
//! packet that starts with HTTP; tshark dissects everything. A program that is not installed is left out, with a message.
//! Files and outputs are in memory if there is a `/dev/shm`, so that no disk is measured. CPU time is that of the whole
//! process, including its start.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use crate::cell;
use crate::lab::kilobytes;
use crate::load::{EPOCH, FIRST_NUMBER, Load, Protocol, Shape};
use crate::program::sniffer_beside;
use crate::results::{Conditions, Reading, Results};
use crate::traffic::{Frame, write_pcap};

/// Interval at which the peak of memory is read.
const SAMPLE: Duration = Duration::from_millis(5);
/// A program that takes longer is measured only once.
const REPEATED_MAX: Duration = Duration::from_secs(4);

/// Options of `bench read`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Response body sizes in bytes
    #[arg(long, value_delimiter = ',', default_value = "200,2000")]
    body: Vec<usize>,
    /// How calls are sent: http1; h2c, h2c-10 (streams at once), h2c-literal (no header table), grpc
    #[arg(long, default_value = "http1")]
    protocol: Protocol,
    /// Calls in a file with bodies of 200 bytes; fewer with larger bodies
    #[arg(long, default_value_t = 200_000)]
    calls: u64,
    /// Repetitions for each program; only one if it takes more than a few seconds
    #[arg(long, default_value_t = 3)]
    repetitions: u32,
    /// Path of sniffer [default: in the folder of this program]
    #[arg(long)]
    sniffer: Option<PathBuf>,
    /// Folder of the results
    #[arg(long, default_value = "bench/results/latest")]
    results: PathBuf,
}

/// A program that reads capture files.
struct Reader {
    name: &'static str,
    /// The command line up to the file name.
    before: Vec<String>,
    /// The arguments after the file name.
    after: Vec<String>,
    version: String,
    /// How many calls a line of the output has.
    calls: fn(&str) -> u64,
}

/// Measures all programs.
pub fn run(options: &Options) -> Result<()> {
    let folder = folder()?;
    let done = measure_all(options, &folder);
    fs::remove_dir_all(&folder)?;
    done
}

fn folder() -> Result<PathBuf> {
    let memory = Path::new("/dev/shm");
    let above = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let folder = above.join(format!("bench-read-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

fn measure_all(options: &Options, folder: &Path) -> Result<()> {
    let mut results = Results::create(&options.results, "read")?;
    eprintln!("rows go to {}", results.path().display());
    let readers = readers(options, folder)?;
    for &body_bytes in &options.body {
        let calls = (options.calls as f64 * 1500.0 / (1300.0 + body_bytes as f64)) as u64;
        let file = folder.join("traffic.pcap");
        // Whole groups of as many streams as there are at once.
        let calls = calls.next_multiple_of(100);
        make(&file, calls, body_bytes, options.protocol)?;
        let file_bytes = fs::metadata(&file)?.len();
        for reader in &readers {
            for repetition in 1..=options.repetitions {
                let conditions = Conditions::now();
                let row = Reading {
                    repetition,
                    body_bytes,
                    calls,
                    file_bytes,
                    ..measure(reader, &file, folder, calls)?
                };
                results.append(&conditions, &row)?;
                eprintln!("{}", line(&row));
                if row.wall_seconds > REPEATED_MAX.as_secs_f64() {
                    break;
                }
            }
        }
    }
    Ok(())
}

fn readers(options: &Options, folder: &Path) -> Result<Vec<Reader>> {
    let words = |words: &str| words.split_whitespace().map(str::to_owned).collect();
    let rules = folder.join("rules.txt");
    fs::write(&rules, cell::rules("headers", true)?)?;
    let path = options.sniffer.clone();
    let sniffer = path.map_or_else(sniffer_beside, Ok)?;
    let ours = format!(
        "{} read --quiet --output ndjson --rules file://{}",
        sniffer.display(),
        rules.display()
    );
    let fields = match options.protocol {
        Protocol::Http1 | Protocol::Http1Grpc => {
            "-Y http -T fields -e http.request.method -e http.host -e http.request.uri -e http.response.code"
        }
        Protocol::Http2(_) => {
            "-Y http2.headers -T fields -e http2.headers.method -e http2.headers.authority -e http2.headers.path -e http2.headers.status"
        }
    };
    let readers = [
        Reader {
            name: "sniffer",
            before: words(&ours),
            after: Vec::new(),
            version: version(Command::new(&sniffer).arg("--version")),
            calls: |line| line.starts_with("[[").into(),
        },
        Reader {
            name: "httpry",
            before: words("httpry -q -r"),
            after: words("-o /dev/stdout"),
            version: version(Command::new("httpry").arg("-h")),
            calls: |line| line.contains("\t>\t").into(),
        },
        Reader {
            name: "tshark",
            before: words("tshark -r"),
            after: words(fields),
            version: version(Command::new("tshark").arg("--version")),
            // A line is a packet, with the methods of all its requests.
            calls: |line| {
                let methods = line.split('\t').next().unwrap_or_default();
                let methods = methods.split(',').filter(|method| !method.is_empty());
                methods.count() as u64
            },
        },
    ];
    let (installed, missing): (Vec<_>, Vec<_>) = readers
        .into_iter()
        .partition(|reader| !reader.version.is_empty());
    for reader in missing {
        eprintln!("{} is not installed, so it is left out", reader.name);
    }
    Ok(installed)
}

/// The first line with a number that a program prints; empty if it cannot be started.
fn version(command: &mut Command) -> String {
    let Ok(output) = command.output() else {
        return String::new();
    };
    let output = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&output);
    let mut lines = text.lines().filter(|line| line.contains(char::is_numeric));
    lines.next().unwrap_or("?").trim().to_owned()
}

/// Writes a file of calls at 20 000 a second, on 64 connections at a time.
fn make(path: &Path, calls: u64, body_bytes: usize, protocol: Protocol) -> Result<()> {
    const NANOS_PER_FRAME: u64 = 1_000_000_000 / 40_000;
    let shape = Shape {
        body_bytes,
        connections: 64,
        protocol,
        ..Shape::default()
    };
    let mut load = Load::new(shape, FIRST_NUMBER, calls);
    let (mut frames, mut bytes) = (Vec::new(), Vec::new());
    while load.next_frame(&mut bytes) {
        frames.push(Frame {
            time: EPOCH + frames.len() as u64 * NANOS_PER_FRAME,
            bytes: std::mem::take(&mut bytes),
        });
    }
    let file = File::create(path).with_context(|| path.display().to_string())?;
    Ok(write_pcap(&mut BufWriter::new(file), &frames, 65_535)?)
}

fn measure(reader: &Reader, file: &Path, folder: &Path, calls: u64) -> Result<Reading> {
    let output = folder.join("output");
    let (program, words) = reader.before.split_first().context("a program")?;
    let mut command = Command::new(program);
    command.args(words).arg(file).args(&reader.after);
    command.stdin(Stdio::null()).stdout(File::create(&output)?);
    command.stderr(File::create(folder.join("errors"))?);
    let before = children_seconds()?;
    let start = Instant::now();
    let child = command
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let resident_peak_bytes = wait(child, reader.name, folder)?;
    let wall_seconds = start.elapsed().as_secs_f64();
    let cpu_seconds = children_seconds()? - before;
    let mut found = 0;
    for line in BufReader::new(File::open(&output)?).lines() {
        found += (reader.calls)(&line?);
    }
    Ok(Reading {
        program: reader.name.into(),
        version: reader.version.clone(),
        repetition: 0,
        body_bytes: 0,
        calls,
        file_bytes: 0,
        found,
        cpu_seconds,
        wall_seconds,
        cpu_micros_per_call: cpu_seconds * 1e6 / calls.max(1) as f64,
        resident_peak_bytes,
    })
}

/// Waits for the end of the process, and returns its peak of resident memory.
fn wait(mut child: Child, name: &str, folder: &Path) -> Result<u64> {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let status = fs::read_to_string(&path).unwrap_or_default();
        peak = peak.max(kilobytes(&status, "VmHWM:") * 1024);
        if let Some(status) = child.try_wait()? {
            let errors = || fs::read_to_string(folder.join("errors")).unwrap_or_default();
            ensure!(status.success(), "{name}: {status}: {}", errors());
            return Ok(peak);
        }
        thread::sleep(SAMPLE);
    }
}

/// User and system time of all children that have ended.
fn children_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(micros as f64 / 1e6)
}

fn line(row: &Reading) -> String {
    format!(
        "{:<8} {:>5} B {:>7.2} µs/call ({:.3} s of CPU, {:.3} s), {} of {} calls found, {:.0} MB",
        row.program,
        row.body_bytes,
        row.cpu_micros_per_call,
        row.cpu_seconds,
        row.wall_seconds,
        row.found,
        row.calls,
        row.resident_peak_bytes as f64 / 1e6
    )
}
