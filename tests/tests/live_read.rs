//! Live and from a file: the same packets give the same lines. Here belongs what compares a capture with its recording,
//! which tcpdump makes beside it.
//!
//! Lines are compared byte by byte, with every annotation: ids, times, missing bytes. Their order is not: calls of two
//! shards come as the shards run. Not compared are the times of calls between peers on this machine: the kernel leaves the
//! sending time of its own TCP in frames that cross a virtual cable (`skb_clear_tstamp` keeps delivery times), so each
//! socket that listens reads the clock for itself. Made frames have one stamp for all.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Row, value};
use bench::seed::Seed;
use bench::traffic::{
    Accidents, Close, Conversation, Exchange, Frame, Framing, Shape, Vxlan, Wire, frames,
};
use serde_json::Value;
use tests::nginx::curl;
use tests::process::{PATIENCE, eventually};
use tests::program::sniffer_ends;
use tests::recorder::Recorder;
use tests::scene::Scene;
use tests::truth;

/// Settings of both; the pairs are environment variables.
pub(crate) const SETTINGS: [(&str, &str); 3] = [
    ("USAGE_LOGGERS_RULES", "include debug"),
    ("SNIFFER_ANNOTATE", "true"),
    ("SNIFFER_HALF_CALLS", "true"),
];

/// Conversations of every kind that there is on a rough network whose capture loses some, plain and in both tunnels:
/// keep-alive and pipelined, chunked and close-delimited, every coding, ended and left open.
fn made(seed: u64, lose_per_mille: u32) -> Vec<Frame> {
    let mut seed = Seed::new(seed);
    let tunnels = [None, Some(Vxlan::new(7)), Some(Vxlan::geneve(9))];
    let mut talks: Vec<_> = (0..45)
        .map(|number| {
            let shape = Shape {
                ipv6: number % 5 == 0,
                near_wrap: number % 7 == 0,
                body_bytes_max: 20_000,
                ..Shape::default()
            };
            let talk = Conversation {
                mss: 1300,
                http2: number % 4 == 3,
                ..Conversation::seeded(&mut seed, &shape)
            };
            let wire = Wire {
                vxlan: tunnels[number % 3],
                ..Wire::default()
            };
            (talk, wire)
        })
        .collect();
    talks.push((unfinished(&mut seed), Wire::default()));
    let accidents = Accidents {
        lose_per_mille,
        skew_per_mille: 20,
        ..Accidents::harmless()
    };
    frames(&talks, &accidents, &mut seed)
}

/// Two calls, the second answered with a body that nothing ends as long as there is a capture.
fn unfinished(seed: &mut Seed) -> Conversation {
    let mut last = Exchange::get(1, "/endless", &"and so on ".repeat(1000));
    last.response_body.framing = Framing::Close;
    Conversation {
        close: Close::Open,
        start: Conversation::seeded(seed, &Shape::default()).start,
        ..Conversation::new(vec![Exchange::get(2, "/", "first"), last])
    }
}

/// Lines of a reading of `packets` under `settings`, and its ledger.
pub(crate) fn read(packets: &Path, settings: &[(&str, &str)]) -> Result<(String, Value)> {
    let ledger = packets.with_extension("ledger");
    let words = ["read", "--json", "--ledger"].map(str::to_owned);
    let paths = [&ledger, packets].map(|path| path.display().to_string());
    let words: Vec<&str> = words.iter().chain(&paths).map(String::as_str).collect();
    let ended = sniffer_ends(&words, settings)?;
    ensure!(ended.code()? == 0, "{}", ended.stderr);
    Ok((
        ended.stdout,
        serde_json::from_str(&fs::read_to_string(&ledger)?)?,
    ))
}

const TIMES: [&str; 6] = [
    "now",
    "interval",
    "custom_field:request_started",
    "custom_field:request_ended",
    "custom_field:response_started",
    "custom_field:response_ended",
];

/// In an order of their own, without what is not compared.
fn comparable(mut rows: Vec<Row>) -> Vec<Row> {
    for row in &mut rows {
        let server = value(row, "custom_field:server_address");
        if matches!(server, Some("10.77.0.1" | "fd77::1")) {
            row.retain(|(name, _)| !TIMES.contains(&name.as_str()));
        }
    }
    rows.sort();
    rows
}

/// The first details in which a call differs, found by its id.
fn differences(live: &[Row], read: &[Row]) -> String {
    let id = |row: &Row| value(row, "custom_field:exchange_id").map(str::to_owned);
    let only = |ours: &[Row], theirs: &[Row]| -> Vec<Row> {
        let only = ours.iter().filter(|row| !theirs.contains(row));
        only.cloned().collect()
    };
    let (live, read) = (only(live, read), only(read, live));
    let mut text = format!("{} lines only live, {} only read", live.len(), read.len());
    for row in live.iter().take(5) {
        let twin = read.iter().find(|other| id(other) == id(row));
        let differs = |detail: &&(String, String)| twin.is_none_or(|twin| !twin.contains(detail));
        let details: Vec<_> = row.iter().filter(differs).take(8).collect();
        let theirs: Vec<_> = twin
            .into_iter()
            .flatten()
            .filter(|detail| !row.contains(detail))
            .take(8)
            .collect();
        text.push_str(&format!(
            "\n{:?}: {details:.300?}, read {theirs:.300?}",
            id(row)
        ));
    }
    text
}

#[track_caller]
fn check(shards: &str, lose_per_mille: u32) -> Result<()> {
    let scene = Scene::new()?;
    let folder = tempfile::tempdir()?;
    let packets = folder.path().join("x.pcap");
    let mut settings = SETTINGS.to_vec();
    settings.extend([("NET_DEVICE", "s0"), ("SNIFFER_SHARDS", shards)]);
    let capture = scene.capture(&settings)?;
    let recorder = Recorder::start(&scene.lab.server, "s0", &packets)?;
    // Real peers on a kept connection, with offload in both directions.
    let host = "http://10.77.0.1";
    let pages = [
        "/hello?a=1",
        "/page.html",
        "/large.bin",
        "/moved",
        "/nowhere",
    ];
    let urls = pages.map(|page| format!("{host}{page}"));
    let words: Vec<&str> = urls.iter().map(String::as_str).collect();
    curl(&scene.lab.client, &words)?;
    curl(
        &scene.lab.client,
        &["--compressed", "http://[fd77::1]/page.html"],
    )?;
    curl(
        &scene.lab.client,
        &["--json", "{\"posted\":1}", &format!("{host}/created")],
    )?;
    // TLS to a port without it: the server refuses it in HTTP, which is a half call.
    let refused = curl(&scene.lab.client, &["-k", "https://10.77.0.1:80/"]);
    ensure!(refused.is_err(), "nginx answers plain");
    let made = made(
        shards.len() as u64 + u64::from(lose_per_mille),
        lose_per_mille,
    );
    scene.send(&made, 4_000)?;
    recorder.stop(made.last().context("frames were made")?)?;
    let (lines, ledger) = read(&packets, &SETTINGS)?;
    let segments = |status: &Value| status["capture"]["stages"]["decap"]["segments"].as_u64();
    let status = eventually(PATIENCE, || {
        let status = capture.status()?;
        let (live, read) = (segments(&status), segments(&ledger));
        ensure!(live == read, "{live:?} segments live, {read:?} read");
        Ok(status)
    })?;
    let ports = |status: &Value| status["capture"]["ports"].clone();
    ensure!(ports(&status) == ports(&ledger), "{status}");
    ensure!(
        ports(&status)[0]["tls"] == 0 && ports(&status)[0]["port"] == 80,
        "{status}"
    );
    capture.stop()?;
    let (live, read) = (
        comparable(scene.collector.rows()),
        comparable(truth::rows(&lines)?),
    );
    ensure!(live == read, "{}", differences(&live, &read));
    let has = |name: &str| read.iter().filter(|row| value(row, name).is_some()).count();
    let (halves, tunnelled) = (has("custom_field:half"), has("custom_field:vni"));
    println!(
        "{shards} shards: {} lines the same, {halves} halves, {tunnelled} from tunnels, {} with missing bytes",
        read.len(),
        has("custom_field:missing_bytes"),
    );
    ensure!(read.len() > 100 && tunnelled > 50 && has("custom_field:exchange_id") == read.len());
    let is_refusal = |row: &&Row| {
        value(row, "custom_field:server_address") == Some("10.77.0.1")
            && value(row, "custom_field:half").is_some()
            && value(row, "response_code") == Some("400")
    };
    let refusals = read.iter().filter(is_refusal).count();
    ensure!(refusals == 1, "{refusals} refusals of TLS");
    ensure!((halves > 1) == (lose_per_mille > 0), "{halves} half calls");
    Ok(())
}

#[test]
fn a_capture_and_its_recording_give_the_same_lines() -> Result<()> {
    check("1", 0).context("nothing lost")?;
    check("1", 20).context("a capture with losses")
}

/// Calls of one connection are of one shard, so several give what one gives.
#[test]
fn several_shards_and_the_recording_give_the_same_lines() -> Result<()> {
    check("2", 10)
}
