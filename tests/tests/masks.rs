//! Masks inside bodies against independent readers: Python's `json`, `urllib.parse` and `email`, and of Node `JSON.parse`,
//! `URLSearchParams`, `@fastify/busboy` and `fetch`.
//!
//! `tests/readers/hostile.py` makes bodies with a canary under a masked name. Whatever a reader finds under that name in what
//! the masks leave is a leak. Needs `python3`, `node` and `npm`; the package of npm is installed into the target folder.
//! `MASKS_CASES` and `MASKS_SEED` make longer or other runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use engine_core::rules::{RuleSet, Sampler, apply_all};
use serde_json::{Value, json};
use tests::program::repository;

const CANARY: &str = "CANARY";
const BUSBOY: &str = "@fastify/busboy@3.2.0";

/// What a mask does with the values under the name that the readers look for.
const MASKS: [&str; 2] = [
    "/request_body:$..password/ remove",
    "/request_body:$..password/ replace /(?s)^.+$/, /masked/",
];

fn readers() -> PathBuf {
    repository().join("tests/readers")
}

/// The value of a setting in the environment.
fn setting(name: &str, default: u32) -> u32 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The standard output of a command that succeeds.
fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("{command:?}: is it installed?"))?;
    ensure!(output.status.success(), "{command:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The folder of the packages of Node, installed unless they are there.
fn node_modules() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readers");
    let modules = folder.join("node_modules");
    if !modules.join("@fastify/busboy/package.json").exists() {
        fs::create_dir_all(&folder)?;
        let install = [
            "install",
            "--no-save",
            "--no-audit",
            "--no-fund",
            "--prefix",
        ];
        output(Command::new("npm").args(install).arg(&folder).arg(BUSBOY))?;
    }
    Ok(modules)
}

/// A text that readers are to read, with its number.
type Text = (u64, String);

/// Reader and number of each text in which a reader finds the canary under the masked name.
fn found(texts: &[Text], modules: &Path) -> Result<BTreeMap<String, BTreeSet<u64>>> {
    let folder = tempfile::tempdir()?;
    let input = folder.path().join("texts");
    let lines: String = texts
        .iter()
        .map(|(number, text)| format!("{}\n", json!({"number": number, "text": text})))
        .collect();
    fs::write(&input, lines)?;
    let mut python = Command::new("python3");
    python.arg(readers().join("read.py"));
    let mut node = Command::new("node");
    node.arg(readers().join("read.js"))
        .env("NODE_PATH", modules);
    let mut found = BTreeMap::<String, BTreeSet<u64>>::new();
    for reader in [&mut python, &mut node] {
        let lines = output(reader.stdin(File::open(&input)?))?;
        for line in lines.lines() {
            let (number, reader, _, value): (u64, String, String, String) =
                serde_json::from_str(line).with_context(|| line.to_owned())?;
            if value.contains(CANARY) {
                found.entry(reader).or_default().insert(number);
            }
        }
    }
    Ok(found)
}

/// What rules leave of a body.
fn left(rules: &RuleSet, body: &str) -> Option<String> {
    let details = [("request_body", body), ("now", "1")]
        .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
    let left = apply_all(rules, &details, &mut Sampler::new(0))?;
    let body = left.into_iter().find(|(key, _)| key == "request_body");
    body.map(|(_, value)| String::from_utf8_lossy(&value).into_owned())
}

#[test]
fn no_reader_finds_what_a_mask_hides() -> Result<()> {
    let (seed, cases) = (setting("MASKS_SEED", 1), setting("MASKS_CASES", 1500));
    let modules = node_modules()?;
    let mut make = Command::new("python3");
    make.arg(readers().join("hostile.py"));
    let made = output(make.args([seed.to_string(), cases.to_string()]))?;
    let texts: Vec<Text> = made
        .lines()
        .map(|line| {
            let case: Value = serde_json::from_str(line)?;
            let text = case["text"].as_str().context("a text")?;
            Ok((
                case["number"].as_u64().context("a number")?,
                text.to_owned(),
            ))
        })
        .collect::<Result<_>>()?;
    // Each reader is able to find the canary where nothing hides it.
    let before = found(&texts, &modules)?;
    for (reader, share) in [
        ("json", 20),
        ("urllib.parse", 4),
        ("email", 20),
        ("email.policy.HTTP", 20),
        ("JSON.parse", 50),
        ("URLSearchParams", 4),
        ("busboy", 50),
        ("fetch", 1000),
    ] {
        let seen = before.get(reader).map_or(0, BTreeSet::len);
        assert!(
            seen >= texts.len() / share,
            "{reader} found {seen} canaries"
        );
    }
    for mask in MASKS {
        let rules = RuleSet::parse(mask).map_err(|error| anyhow::anyhow!("{error}"))?;
        let left: Vec<Text> = texts
            .iter()
            .filter_map(|(number, text)| Some((*number, left(&rules, text)?)))
            .collect();
        // Masks that withheld everything would hide the canary, too.
        assert!(
            left.len() >= texts.len() / 8,
            "{} bodies are left",
            left.len()
        );
        for (reader, numbers) in found(&left, &modules)? {
            if let Some(number) = numbers.into_iter().next() {
                let text = |texts: &[Text]| {
                    let found = texts.iter().find(|(other, _)| *other == number);
                    found.map(|(_, text)| text.clone())
                };
                panic!(
                    "{mask}: {reader} finds the canary of body {number} of seed {seed}\n{:?}\nleft {:?}",
                    text(&texts),
                    text(&left)
                );
            }
        }
    }
    Ok(())
}
