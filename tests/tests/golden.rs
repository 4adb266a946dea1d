//! Captures with the lines that belong to them, kept as files. Here belongs what a reader of the repository wants to see,
//! and what must not change by chance: one small capture for each way to frame and wrap calls.
//!
//! A case is a folder `tests/golden/NAME`: `rules.txt` by hand, `traffic.pcap` by the traffic maker, and
//! `expected.ndjson`, the lines with annotations and half calls. `UPDATE_GOLDEN=1` writes the last two anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs};

use anyhow::{Context as _, Result, bail, ensure};
use bench::seed::Seed;
use bench::traffic::{
    Accidents, Body, Coding, Conversation, Exchange, Frame as Made, Framing, Shape, Vxlan, Wire,
    frames, write_pcap,
};
use engine_core::message::{self, Notes, Output};
use engine_core::pipeline::{Config, Pipeline};
use engine_core::rules::RuleSet;
use engine_core::time::Timestamp;
use sniffer::capture_file::CaptureFile;
use tests::http2;
use tests::program::repository;

use crate::wrappings;

/// A folder's name, and how its capture is made.
type Case = (&'static str, fn() -> Vec<Made>);

const CASES: [Case; 16] = [
    ("http2", || of_turns(&http2::everything())),
    ("http2-late", || {
        of_turns(&http2::everything()).split_off(10)
    }),
    ("keep-alive", || captured(&talk(), &Wire::default())),
    ("ipv6", || captured(&over_ipv6(talk()), &Wire::default())),
    ("chunked", || captured(&chunked(), &Wire::default())),
    ("codings", || captured(&coded(), &Wire::default())),
    ("pipelined", || {
        let talk = Conversation {
            pipeline: 3,
            ..talk()
        };
        captured(&talk, &Wire::default())
    }),
    ("no-body", || captured(&without_bodies(), &Wire::default())),
    ("until-close", || captured(&until_close(), &Wire::default())),
    ("masked", || captured(&talk(), &Wire::default())),
    ("vlan", || {
        let wire = Wire {
            vlans: vec![100, 5],
            ..Wire::default()
        };
        captured(&talk(), &wire)
    }),
    ("vxlan", || captured(&talk(), &tunnelled(Vxlan::new(7)))),
    ("geneve", || {
        captured(&over_ipv6(talk()), &tunnelled(Vxlan::geneve(8)))
    }),
    ("gre", || {
        let mut frames = captured(&talk(), &Wire::default());
        for frame in &mut frames {
            frame.bytes = wrappings::gre_with_key(&frame.bytes, 4242);
        }
        frames
    }),
    ("mirror-cut", || {
        let wire = Wire {
            mirror_cut: Some(600),
            ..tunnelled(Vxlan::new(7))
        };
        captured(&chunked(), &wire)
    }),
    ("losses", || {
        let mut seed = Seed::new(5);
        let shape = Shape {
            body_bytes_max: 2_000,
            ..Shape::default()
        };
        let accidents = Accidents {
            lose_per_mille: 100,
            ..Accidents::harmless()
        };
        let talk = Conversation::seeded(&mut seed, &shape);
        frames(&[(talk, Wire::default())], &accidents, &mut seed)
    }),
];

fn of_turns(turns: &http2::Turns) -> Vec<Made> {
    let talk = Conversation::new(Vec::new());
    let segments = talk.segments_of(turns);
    let wire = Wire::default();
    segments
        .iter()
        .map(|segment| wire.frame(&talk, segment))
        .collect()
}

#[test]
fn captures_and_lines_are_as_they_were() -> Result<()> {
    let mut wrong = Vec::new();
    for (name, make) in CASES {
        let folder = folder().join(name);
        let mut capture = Vec::new();
        write_pcap(&mut capture, &make(), usize::MAX)?;
        wrong.extend(differs(&folder.join("traffic.pcap"), &capture)?);
        let rules = fs::read_to_string(folder.join("rules.txt")).context(name)?;
        let lines = lines(&folder.join("traffic.pcap"), &rules).context(name)?;
        wrong.extend(differs(&folder.join("expected.ndjson"), &lines)?);
    }
    ensure!(wrong.is_empty(), "not as before:\n{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_folder_is_a_case() -> Result<()> {
    let names: BTreeSet<_> = CASES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut folders = BTreeSet::new();
    for entry in fs::read_dir(folder())? {
        folders.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    ensure!(
        names == folders,
        "{names:?}, but the folders are {folders:?}"
    );
    Ok(())
}

fn folder() -> PathBuf {
    repository().join("tests/golden")
}

/// The name of the file if it is not `bytes`, or has to be written so.
fn differs(path: &Path, bytes: &[u8]) -> Result<Option<String>> {
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, bytes)?;
        return Ok(None);
    }
    let was = fs::read(path).with_context(|| path.display().to_string())?;
    Ok((was != bytes).then(|| {
        let (was, is) = (
            String::from_utf8_lossy(&was),
            String::from_utf8_lossy(bytes),
        );
        let changed = was.lines().zip(is.lines()).find(|(was, is)| was != is);
        match changed.filter(|_| path.extension().is_some_and(|end| end == "ndjson")) {
            Some((was, is)) => format!("{}\n  was {was}\n  is  {is}", path.display()),
            None => path.display().to_string(),
        }
    }))
}

/// The lines of a capture file, each with its end.
fn lines(path: &Path, rules: &str) -> Result<Vec<u8>> {
    #[derive(Default)]
    struct Lines(Vec<u8>);
    impl Output for Lines {
        fn line(&mut self, line: &[u8], _: &Notes) {
            self.0.extend_from_slice(line);
            self.0.push(b'\n');
        }
    }
    let config = Config {
        message: message::Config {
            host: "golden".to_owned(),
            annotate: true,
            half_calls: true,
            ..message::Config::default()
        },
        ..Config::default()
    };
    let rules = match RuleSet::parse(rules) {
        Ok(rules) => Arc::new(rules),
        Err(error) => bail!("{error}"),
    };
    let mut pipeline = Pipeline::new(&config, rules, Lines::default());
    let mut file = CaptureFile::open(path.to_str().context("a plain name")?)?;
    let mut last = Timestamp::ZERO;
    while let Some(frame) = file.next()? {
        last = last.max(frame.time);
        pipeline.feed(&frame);
    }
    pipeline.finish(last);
    Ok(std::mem::take(&mut pipeline.output().0))
}

fn captured(talk: &Conversation, wire: &Wire) -> Vec<Made> {
    let talks = [(talk.clone(), wire.clone())];
    frames(&talks, &Accidents::none(), &mut Seed::new(0))
}

fn tunnelled(vxlan: Vxlan) -> Wire {
    Wire {
        vxlan: Some(vxlan),
        ..Wire::default()
    }
}

fn over_ipv6(talk: Conversation) -> Conversation {
    Conversation {
        client: "[fd00::2]:40000".parse().expect("an address"),
        server: "[fd00::1]:80".parse().expect("an address"),
        ..talk
    }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn body(text: &str, coding: Coding, framing: Framing) -> Body {
    Body {
        plain: text.as_bytes().to_vec(),
        coding,
        framing,
    }
}

/// Three calls on one connection: a search with parameters and a cookie, an order in JSON, an error.
fn talk() -> Conversation {
    let search = Exchange {
        query: vec![pair("q", "tea & cake"), pair("page", "2")],
        request_headers: vec![
            pair("User-Agent", "golden/1"),
            pair("Cookie", "session=abc123; theme=dark"),
        ],
        ..Exchange::get(1, "/search/h%C3%A9", "two results")
    };
    let order = Exchange {
        method: "POST".into(),
        request_headers: vec![
            pair("Content-Type", "application/json"),
            pair("Authorization", "Bearer secret"),
        ],
        request_body: body(
            r#"{"item":7,"card":{"number":"4111111111111111"},"mail":"kim@shop.example"}"#,
            Coding::Identity,
            Framing::Length,
        ),
        status: 201,
        response_headers: vec![pair("Content-Type", "application/json")],
        response_body: body(r#"{"order":4711}"#, Coding::Identity, Framing::Length),
        ..Exchange::get(2, "/orders", "")
    };
    let missing = Exchange {
        status: 404,
        ..Exchange::get(3, "/orders/0", "no such order\n")
    };
    Conversation::new(vec![search, order, missing])
}

/// Chunks that segments cut anywhere, in both directions.
fn chunked() -> Conversation {
    let text = "one line of many, all alike but for nothing\n".repeat(40);
    let exchange = Exchange {
        method: "PUT".into(),
        request_body: body(
            "é".repeat(100).as_str(),
            Coding::Identity,
            Framing::Chunked(33),
        ),
        response_body: body(&text, Coding::Identity, Framing::Chunked(700)),
        ..Exchange::get(1, "/chunks", "")
    };
    Conversation {
        mss: 1000,
        ..Conversation::new(vec![exchange])
    }
}

/// One call for each content coding.
fn coded() -> Conversation {
    let exchanges = Coding::ALL
        .iter()
        .zip(1..)
        .map(|(coding, number)| Exchange {
            response_body: body(&"coded text, ".repeat(30), *coding, Framing::Length),
            ..Exchange::get(number, "/coded", "")
        });
    Conversation::new(exchanges.collect())
}

/// HEAD, 204, 304, and a request that waits for 100 Continue.
fn without_bodies() -> Conversation {
    let head = Exchange {
        method: "HEAD".into(),
        ..Exchange::get(1, "/head", "never sent")
    };
    let deleted = Exchange {
        method: "DELETE".into(),
        status: 204,
        response_body: Body::default(),
        ..Exchange::get(2, "/gone", "")
    };
    let same = Exchange {
        status: 304,
        ..Exchange::get(3, "/same", "as it was")
    };
    let expected = Exchange {
        method: "POST".into(),
        request_body: body(
            "after the interim response",
            Coding::Identity,
            Framing::Length,
        ),
        interim: vec![100],
        ..Exchange::get(4, "/expected", "done")
    };
    Conversation::new(vec![head, deleted, same, expected])
}

/// A body that ends with the connection.
fn until_close() -> Conversation {
    let exchange = Exchange {
        response_body: body(
            "to the end of the connection",
            Coding::Identity,
            Framing::Close,
        ),
        ..Exchange::get(1, "/stream", "")
    };
    Conversation::new(vec![exchange])
}
