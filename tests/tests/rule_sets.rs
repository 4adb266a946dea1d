//! Several rule sets at once: of each set the lines and counters are those that it has alone, whatever the others do.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use engine_core::message::{self, Notes, Output, ShedPolicy};
use engine_core::pipeline::{Config, Pipeline};
use engine_core::rules::RuleSet;
use engine_core::time::Timestamp;
use sniffer::capture_file::CaptureFile;
use tests::program::repository;

/// Rule sets of every kind: all, few, none, a part of the calls, and other texts.
const SETS: [&str; 6] = [
    "include debug",
    "include strict",
    "/.*/ stop",
    "sample 40",
    "/response_body|request_body/ replace /[a-z]+/, /#/",
    "/request_header:host/ stop_if /example/\n/request_url/ remove",
];

#[derive(Default)]
struct Lines(Vec<(Vec<u8>, Notes)>);

impl Output for Lines {
    fn line(&mut self, line: &[u8], notes: &Notes) {
        self.0.push((line.to_vec(), *notes));
    }
}

/// What became of the calls under one rule set.
#[derive(Debug, PartialEq)]
struct Outcome {
    lines: Vec<(Vec<u8>, Notes)>,
    message: message::Counters,
    matches: Vec<u64>,
    stream_parts: u64,
}

fn config(policy: ShedPolicy) -> (Config, ShedPolicy) {
    let config = Config {
        message: message::Config {
            annotate: true,
            half_calls: true,
            websocket: true,
            ..message::Config::default()
        },
        ..Config::default()
    };
    (config, policy)
}

fn rules(texts: &[&str]) -> Vec<Arc<RuleSet>> {
    let parsed = texts
        .iter()
        .map(|text| RuleSet::parse(text).expect("rules"));
    parsed.map(Arc::new).collect()
}

/// Reads a file under all of these sets at once.
fn together(path: &Path, texts: &[&str], policy: ShedPolicy) -> Result<Vec<Outcome>> {
    let (config, policy) = config(policy);
    let sets = rules(texts).into_iter();
    let sets = sets.map(|rules| (rules, Lines::default())).collect();
    let mut pipeline = Pipeline::several(&config, sets);
    pipeline.set_shed_policy(policy);
    let last = feed(path, |frame| pipeline.feed(frame))?;
    pipeline.finish(last);
    let ledger = pipeline.ledger();
    ensure!(ledger.unaccounted().is_nothing(), "{ledger:?}");
    let lines = pipeline
        .outputs()
        .map(|output| std::mem::take(&mut output.0));
    let lines: Vec<_> = lines.collect();
    let writers = pipeline.writers().iter().zip(lines);
    let mut outcomes = Vec::new();
    for (writer, lines) in writers {
        let counters = *writer.counters();
        ensure!(
            ledger.unaccounted_of(&counters).is_nothing(),
            "{counters:?}"
        );
        outcomes.push(Outcome {
            lines,
            message: counters,
            matches: writer.rule_matches().to_vec(),
            stream_parts: writer.stream_parts(),
        });
    }
    Ok(outcomes)
}

/// Reads it under one set alone.
fn alone(path: &Path, text: &str, policy: ShedPolicy) -> Result<Outcome> {
    let (config, policy) = config(policy);
    let rules = rules(&[text]).remove(0);
    let mut pipeline = Pipeline::new(&config, rules, Lines::default());
    pipeline.set_shed_policy(policy);
    let last = feed(path, |frame| pipeline.feed(frame))?;
    pipeline.finish(last);
    let ledger = pipeline.ledger();
    ensure!(ledger.unaccounted().is_nothing(), "{ledger:?}");
    let [writer] = pipeline.writers() else {
        panic!("one writer");
    };
    let matches = writer.rule_matches().to_vec();
    Ok(Outcome {
        message: ledger.message,
        matches,
        stream_parts: ledger.http.stream_parts,
        lines: std::mem::take(&mut pipeline.output().0),
    })
}

fn feed(path: &Path, mut to: impl FnMut(&engine_core::decap::Frame<'_>)) -> Result<Timestamp> {
    let mut file = CaptureFile::open(path.to_str().context("a plain name")?)?;
    let mut last = Timestamp::ZERO;
    while let Some(frame) = file.next()? {
        last = last.max(frame.time);
        to(&frame);
    }
    Ok(last)
}

fn captures() -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(repository().join("tests/golden"))? {
        for file in fs::read_dir(entry?.path())? {
            let path = file?.path();
            if path
                .extension()
                .is_some_and(|end| end == "pcap" || end == "pcapng")
            {
                paths.push(path);
            }
        }
    }
    ensure!(paths.len() > 10, "{paths:?}");
    Ok(paths)
}

#[test]
fn a_set_writes_the_same_whatever_others_there_are() -> Result<()> {
    let none = ShedPolicy::default();
    let some = ShedPolicy {
        shed: ShedPolicy::CALLS / 3,
        truncated: ShedPolicy::CALLS / 2,
        body_bytes_max: 10,
    };
    let mut lines = 0;
    for path in captures()? {
        for policy in [none, some] {
            let alone: Vec<Outcome> = SETS
                .iter()
                .map(|text| alone(&path, text, policy))
                .collect::<Result<_>>()?;
            lines += alone
                .iter()
                .map(|outcome| outcome.lines.len())
                .sum::<usize>();
            for places in [&[0, 1][..], &[2, 0, 4], &[3, 5, 1, 4], &[4]] {
                let texts: Vec<&str> = places.iter().map(|place| SETS[*place]).collect();
                let found = together(&path, &texts, policy)?;
                for (place, found) in places.iter().zip(found) {
                    let expected = &alone[*place];
                    ensure!(
                        found == *expected,
                        "{} {places:?}, set {place}: {found:?}, alone {expected:?}",
                        path.display()
                    );
                }
            }
        }
    }
    ensure!(lines > 100, "{lines} lines");
    Ok(())
}
