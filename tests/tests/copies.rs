//! Connections that are captured twice. Here belongs what the whole program makes of copies: lines, messages, counters; what
//! a copy is, the tests of `engine_core::flow` try one by one.

use std::fs;

use anyhow::{Result, ensure};
use bench::seed::Seed;
use bench::send::send;
use bench::traffic::{Conversation, Exchange, Frame, Shape, Vxlan, Wire, flags, write_pcap};
use serde_json::Value;
use tests::capture::find;
use tests::process::{Ended, eventually};
use tests::program::sniffer_ends;
use tests::scene::Scene;
use tests::truth;

/// Conversations that follow each other, the first of which shows how late copies are.
fn talks(seed: u64, count: usize) -> Vec<Conversation> {
    let mut seed = Seed::new(seed);
    let shape = Shape {
        body_bytes_max: 3000,
        ..Shape::default()
    };
    let mut start = 1_700_000_000_000_000_000;
    (0..count)
        .map(|number| {
            let mut talk = Conversation::seeded(&mut seed, &shape);
            talk.client.set_port(41_000 + number as u16);
            talk.start = start;
            // Room for the outer headers of a tunnel on a cable of 1500 bytes.
            talk.mss = talk.mss.min(1300);
            let last = talk.segments().last().map_or(start, |segment| segment.time);
            start = last + 700_000_000;
            talk
        })
        .collect()
}

fn in_vxlan(vni: u32) -> Wire {
    Wire {
        vxlan: Some(Vxlan::new(vni)),
        ..Wire::default()
    }
}

/// Each packet on both wires, on the second one later by `delay` nanoseconds. Of the conversations after the first some
/// packets are missing on one of the wires, but no handshake: a flow that starts without one is read as such.
fn twice(
    talks: &[Conversation],
    wires: &[Wire; 2],
    delay: u64,
    lose_per_mille: u32,
    seed: &mut Seed,
) -> Vec<Frame> {
    let mut frames = Vec::new();
    for (number, talk) in talks.iter().enumerate() {
        for segment in talk.segments() {
            let is_lossy = number > 0 && segment.flags & flags::SYN == 0;
            let is_lossy = is_lossy && seed.chance(lose_per_mille);
            let lost = is_lossy.then(|| seed.within(0..=1));
            for (copy, wire) in wires.iter().enumerate() {
                if lost != Some(copy) {
                    let mut frame = wire.frame(talk, &segment);
                    frame.time += delay * copy as u64;
                    frames.push(frame);
                }
            }
        }
    }
    frames.sort_by_key(|frame| frame.time);
    frames
}

fn read(frames: &[Frame], words: &[&str]) -> Result<(Ended, Value)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("x.pcap");
    let mut bytes = Vec::new();
    write_pcap(&mut bytes, frames, usize::MAX)?;
    fs::write(&path, bytes)?;
    let ledger = folder.path().join("ledger");
    let (path, ledger_path) = (path.display().to_string(), ledger.display().to_string());
    let words: Vec<&str> = ["read", &path, "--ledger", &ledger_path]
        .into_iter()
        .chain(words.iter().copied())
        .collect();
    let ended = sniffer_ends(&words, &[("USAGE_LOGGERS_RULES", "include debug")])?;
    ensure!(ended.code()? == 0, "{ended:?}");
    let ledger = serde_json::from_str(&fs::read_to_string(ledger)?)?;
    Ok((ended, ledger))
}

fn exchanges(talks: &[Conversation]) -> impl Iterator<Item = &Exchange> {
    talks.iter().flat_map(|talk| &talk.exchanges)
}

#[track_caller]
fn check_once(talks: &[Conversation], lines: &str, shown: &str) {
    let rows = truth::rows(lines);
    let result = rows.and_then(|rows| truth::check_all(exchanges(talks), &rows));
    result.unwrap_or_else(|error| panic!("{shown}: {error:#}"));
}

#[test]
fn late_copies_in_files_are_removed_or_folded_and_fill_holes() -> Result<()> {
    let same = [Wire::default(), Wire::default()];
    let other = [Wire::default(), in_vxlan(7)];
    let tunnels = [in_vxlan(7), in_vxlan(9)];
    for number in 0..12 {
        let mut seed = Seed::new(number);
        let talks = talks(number, 5);
        let delay = seed.within(0..=499) as u64 * 1_000_000;
        for (wires, words) in [
            (&same, &[][..]),
            (&other, &["--fold-copies"]),
            (&tunnels, &["--fold-copies"]),
        ] {
            for lose_per_mille in [0, 80] {
                let frames = twice(&talks, wires, delay, lose_per_mille, &mut seed);
                let (ended, _) = read(&frames, words)?;
                let shown = format!("seed {number}, {delay} ns, {words:?}\n{}", ended.stderr);
                check_once(&talks, &ended.stdout, &shown);
                ensure!(!ended.stderr.contains("W072"), "{shown}");
            }
        }
    }
    Ok(())
}

#[test]
fn copies_in_other_networks_are_named_in_files() -> Result<()> {
    let talks = talks(30, 4);
    let calls = exchanges(&talks).count();
    let mut seed = Seed::new(30);
    let wires = [in_vxlan(7), in_vxlan(9)];
    let frames = twice(&talks, &wires, 300_000_000, 0, &mut seed);
    let (ended, ledger) = read(&frames, &[])?;
    ensure!(
        ended.stdout.lines().count() == 2 * calls,
        "{}",
        ended.stderr
    );
    for part in [
        "W072",
        "4 connections captured in two networks",
        "vxlan 7 and vxlan 9",
        "--fold-copies",
    ] {
        ensure!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    ensure!(find(&ledger, "flow_copies_kept") == Some(4), "{ledger}");
    let (ended, ledger) = read(&frames, &["--fold-copies"])?;
    ensure!(ended.stdout.lines().count() == calls, "{}", ended.stderr);
    ensure!(
        ended.stderr.contains("4 copies of connections folded"),
        "{}",
        ended.stderr
    );
    ensure!(find(&ledger, "flow_copies_folded") == Some(4), "{ledger}");
    Ok(())
}

/// The same packets on two virtual cables, on the second one after the end of all connections.
#[test]
fn copies_on_another_interface_are_removed_live() -> Result<()> {
    let scene = Scene::without_nginx()?;
    let talks = talks(40, 3);
    let calls = exchanges(&talks).count() as u64;
    let frames: Vec<Frame> = twice(
        &talks,
        &[Wire::default(), Wire::default()],
        0,
        0,
        &mut Seed::new(1),
    )
    .into_iter()
    .step_by(2)
    .collect();
    let capture = scene.capture(&[("NET_DEVICE", "s0,m0"), ("SNIFFER_METRICS", "off")])?;
    scene.send(&frames, 2000)?;
    scene.wait_for_lines(calls)?;
    scene.lab.appliance.inside(|| send("a0", &frames, 2000))?;
    eventually(tests::process::PATIENCE, || {
        let status = capture.status()?;
        ensure!(find(&status, "flow_copies") == Some(3), "{status}");
        Ok(())
    })?;
    capture.stop()?;
    ensure!(
        scene.collector.counts().lines == calls,
        "{:?}",
        scene.collector.counts()
    );
    Ok(())
}

#[test]
fn copies_in_another_network_are_named_or_folded_live() -> Result<()> {
    let talks = talks(50, 3);
    let calls = exchanges(&talks).count() as u64;
    let wires = [in_vxlan(7), in_vxlan(9)];
    let frames = twice(&talks, &wires, 400_000_000, 0, &mut Seed::new(2));
    for fold in [false, true] {
        let scene = Scene::without_nginx()?;
        let fold_copies = if fold { "true" } else { "false" };
        let mut capture = scene.capture(&[
            ("NET_DEVICE", "s0"),
            ("SNIFFER_FOLD_COPIES", fold_copies),
            ("SNIFFER_METRICS", "off"),
        ])?;
        scene.send(&frames, 2000)?;
        let expected = if fold { calls } else { 2 * calls };
        scene.wait_for_lines(expected)?;
        let name = if fold {
            "flow_copies_folded"
        } else {
            "flow_copies_kept"
        };
        let status = eventually(tests::process::PATIENCE, || {
            let status = capture.status()?;
            ensure!(find(&status, name) == Some(3), "{status}");
            Ok(status)
        })?;
        if !fold {
            ensure!(status.to_string().contains("W072"), "{status}");
            capture.wait_for_log("W072")?;
        }
        ensure!(status.to_string().contains("vxlan 9"), "{status}");
        capture.stop()?;
        let counts = scene.collector.counts();
        ensure!(counts.lines == expected, "{counts:?}");
    }
    Ok(())
}
