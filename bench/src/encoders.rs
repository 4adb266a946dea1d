//! `bench encoders`: encoders of bundles, compared by CPU time and size.
//!
//! The lines are those that the engine makes of steady traffic, and those of given files, bundled as the engine bundles
//! them. Each encoder and kind of lines has one row. Encoders alternate within each round and are compared within it, so
//! that other load on the machine affects all of them. Each stream is inflated and compared once. All lines are in memory.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use engine_core::bundle::deflate::Encoder;
use engine_core::decap::{Frame, LinkType};
use engine_core::limits::BUNDLE_BYTES;
use engine_core::message::{Notes, Output};
use engine_core::pipeline::{Config, Pipeline};
use engine_core::rules::RuleSet;
use engine_core::time::Timestamp;
use flate2::{Compress, Compression, FlushCompress};
use libdeflater::{CompressionLvl, Compressor};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::load::{EPOCH, FIRST_NUMBER, Load, Shape};
use crate::results::{Conditions, Results};

/// The encoder that the others are compared with.
const BASE: &str = "libdeflate-1";

/// Options of `bench encoders`.
#[derive(Args)]
pub struct Options {
    /// Response body sizes in bytes
    #[arg(long, value_delimiter = ',', default_value = "200,2000,20000")]
    body: Vec<usize>,
    /// File whose lines are encoded, too; may be given more than once
    #[arg(long)]
    lines: Vec<PathBuf>,
    /// Megabytes of generated lines
    #[arg(long, default_value_t = 8)]
    megabytes: usize,
    /// Rounds; each runs every encoder once
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Encoders [default: all]
    #[arg(long, value_delimiter = ',')]
    encoder: Vec<String>,
    /// Folder of the results
    #[arg(long, default_value = "bench/results/latest")]
    results: PathBuf,
}

/// One encoder on one kind of lines.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each column is explained in bench/README.md")]
pub struct Row {
    pub encoder: String,
    pub lines: String,
    pub line_bytes: u64,
    pub bytes: u64,
    pub encoded_bytes: u64,
    pub ratio: f64,
    pub rounds: usize,
    pub megabytes_per_second: f64,
    pub megabytes_per_second_least: f64,
    pub megabytes_per_second_most: f64,
    pub times_libdeflate_1: Option<f64>,
}

/// Appends the zlib stream of the first argument to the second.
type Encode = Box<dyn FnMut(&[u8], &mut Vec<u8>) -> Result<()>>;

/// Measures, and prints and stores the rows.
pub fn run(options: &Options) -> Result<()> {
    let mut results = Results::create(&options.results, "encoders")?;
    let mut kinds = Vec::new();
    for body_bytes in &options.body {
        kinds.push((
            format!("similar-{body_bytes}"),
            similar(*body_bytes, options.megabytes << 20)?,
        ));
    }
    for path in &options.lines {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let lines = fs::read(path).with_context(|| path.display().to_string())?;
        kinds.push((name.into_owned(), lines));
    }
    println!(
        "{:<16} {:>10} {:<14} {:>6} {:>8} {:>17} {:>7}",
        "lines", "bytes/line", "encoder", "ratio", "MB/s", "least-most", "x base"
    );
    for (name, lines) in kinds {
        let conditions = Conditions::now();
        for row in measure(&name, &lines, options)? {
            println!(
                "{:<16} {:>10} {:<14} {:>6.2} {:>8.0} {:>17} {:>7.2}",
                row.lines,
                row.line_bytes,
                row.encoder,
                row.ratio,
                row.megabytes_per_second,
                format!(
                    "{:.0}-{:.0}",
                    row.megabytes_per_second_least, row.megabytes_per_second_most
                ),
                row.times_libdeflate_1.unwrap_or(f64::NAN),
            );
            results.append(&conditions, &row)?;
        }
    }
    Ok(())
}

fn measure(name: &str, lines: &[u8], options: &Options) -> Result<Vec<Row>> {
    let bundles = bundles(lines);
    let mut encoders = encoders(&options.encoder)?;
    let mut encoded_bytes = vec![0; encoders.len()];
    let mut seconds = vec![Vec::new(); encoders.len()];
    let mut stream = Vec::new();
    for round in 0..options.rounds.max(1) {
        for (at, (encoder, encode)) in encoders.iter_mut().enumerate() {
            let mut spent = 0.0;
            for bundle in &bundles {
                stream.clear();
                let before = thread_seconds()?;
                encode(bundle, &mut stream)?;
                spent += thread_seconds()? - before;
                if round == 0 {
                    encoded_bytes[at] += stream.len() as u64;
                    let mut inflated = Vec::new();
                    flate2::read::ZlibDecoder::new(&stream[..]).read_to_end(&mut inflated)?;
                    ensure!(
                        inflated == *bundle,
                        "{encoder} does not reproduce its input"
                    );
                }
            }
            seconds[at].push(spent);
        }
    }
    let base = encoders.iter().position(|(encoder, _)| *encoder == BASE);
    let bytes = bundles.iter().map(Vec::len).sum::<usize>() as u64;
    let line_count = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
    let rows = encoders.iter().enumerate().map(|(at, (encoder, _))| {
        let speed = |seconds: f64| bytes as f64 / seconds / 1e6;
        let speeds = sorted(seconds[at].iter().map(|seconds| speed(*seconds)));
        let times = base.map(|base| {
            let rounds = seconds[base].iter().zip(&seconds[at]);
            median(&sorted(rounds.map(|(base, own)| base / own)))
        });
        Row {
            encoder: (*encoder).to_owned(),
            lines: name.to_owned(),
            line_bytes: lines.len() as u64 / line_count.max(1),
            bytes,
            encoded_bytes: encoded_bytes[at],
            ratio: bytes as f64 / encoded_bytes[at].max(1) as f64,
            rounds: speeds.len(),
            megabytes_per_second: median(&speeds),
            megabytes_per_second_least: speeds[0],
            megabytes_per_second_most: speeds[speeds.len() - 1],
            times_libdeflate_1: times,
        }
    });
    Ok(rows.collect())
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// The encoders that this program is built with and that are in `wanted`, or all of them if that is empty.
fn encoders(wanted: &[String]) -> Result<Vec<(&'static str, Encode)>> {
    let mut own = Encoder::default();
    let mut all: Vec<(&'static str, Encode)> = vec![
        (
            "fast",
            Box::new(move |bundle, stream| {
                own.zlib(bundle, stream);
                Ok(())
            }),
        ),
        (BASE, libdeflate(1)?),
        ("libdeflate-6", libdeflate(6)?),
        ("zlib-rs-1", zlib_rs()),
        #[cfg(feature = "isal")]
        ("isa-l-1", isa_l()),
    ];
    for name in wanted {
        if !all.iter().any(|(known, _)| known == name) {
            let known: Vec<_> = all.iter().map(|(name, _)| *name).collect();
            bail!("{name} is not an encoder: {}", known.join(", "));
        }
    }
    all.retain(|(name, _)| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name));
    Ok(all)
}

fn libdeflate(level: i32) -> Result<Encode> {
    let level = CompressionLvl::new(level).ok().context("no such level")?;
    let mut compressor = Compressor::new(level);
    let mut buffer = Vec::new();
    Ok(Box::new(move |bundle, stream| {
        buffer.resize(
            compressor
                .zlib_compress_bound(bundle.len())
                .max(buffer.len()),
            0,
        );
        let length = compressor.zlib_compress(bundle, &mut buffer)?;
        stream.extend_from_slice(&buffer[..length]);
        Ok(())
    }))
}

fn zlib_rs() -> Encode {
    let mut compress = Compress::new(Compression::new(1), true);
    Box::new(move |bundle, stream| {
        compress.reset();
        stream.reserve(bundle.len() + 1024);
        compress.compress_vec(bundle, stream, FlushCompress::Finish)?;
        Ok(())
    })
}

/// Level 1. Level 0 returns truncated streams without an error, so it is not offered.
#[cfg(feature = "isal")]
fn isa_l() -> Encode {
    let mut buffer = Vec::new();
    Box::new(move |bundle, stream| {
        buffer.resize((2 * bundle.len() + 1024).max(buffer.len()), 0);
        let length = isal::compress_into(
            bundle,
            &mut buffer,
            isal::CompressionLevel::One,
            isal::Codec::Zlib,
        )?;
        stream.extend_from_slice(&buffer[..length]);
        Ok(())
    })
}

/// The lines in bundles of the size at which the engine closes them; a last one that is much smaller is left out.
fn bundles(lines: &[u8]) -> Vec<Vec<u8>> {
    let mut bundles = vec![Vec::new()];
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        if bundles
            .last()
            .is_some_and(|last| last.len() >= BUNDLE_BYTES)
        {
            bundles.push(Vec::new());
        }
        if let Some(last) = bundles.last_mut() {
            last.extend_from_slice(line);
        }
    }
    if bundles.len() > 1
        && bundles
            .last()
            .is_some_and(|last| last.len() < BUNDLE_BYTES / 2)
    {
        bundles.pop();
    }
    bundles
}

/// Collects finished lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Output for Lines {
    fn line(&mut self, line: &[u8], _notes: &Notes) {
        self.0.extend_from_slice(line);
        self.0.push(b'\n');
    }
}

/// At least `bytes` bytes of lines of steady traffic, with all details.
fn similar(body_bytes: usize, bytes: usize) -> Result<Vec<u8>> {
    let shape = Shape {
        body_bytes,
        connections: 64,
        ..Shape::default()
    };
    let calls = (bytes / (body_bytes + 500) + 1) as u64;
    let mut load = Load::new(shape, FIRST_NUMBER, calls);
    let rules = RuleSet::parse("include debug")?;
    let mut pipeline = Pipeline::new(&Config::default(), rules.into(), Lines::default());
    let mut frame = Vec::new();
    let mut index = 0;
    while pipeline.output().0.len() < bytes && load.next_frame(&mut frame) {
        pipeline.feed(&Frame {
            time: Timestamp::from_nanos(EPOCH + index * 1000),
            link: LinkType::Ethernet,
            bytes: &frame,
            wire_len: frame.len() as u32,
            vlan: None,
        });
        frame.clear();
        index += 1;
    }
    Ok(std::mem::take(&mut pipeline.output().0))
}

fn thread_seconds() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_inflates_to_its_input() {
        let lines = similar(2000, 1 << 20).unwrap();
        assert!(lines.len() >= 1 << 20);
        let options = Options {
            body: Vec::new(),
            lines: Vec::new(),
            megabytes: 0,
            rounds: 1,
            encoder: Vec::new(),
            results: PathBuf::new(),
        };
        let rows = measure("similar", &lines, &options).unwrap();
        assert!(rows.len() >= 4);
        // Sizes do not depend on the machine; ours is no more than 5 % larger than that of libdeflate.
        let of = |name| rows.iter().find(|row| row.encoder == name).unwrap().ratio;
        assert!(of("fast") > 4.0 && of("fast") > 0.95 * of(BASE), "{rows:?}");
        assert!(encoders(&["isa-l-0".into()]).is_err());
    }
}
