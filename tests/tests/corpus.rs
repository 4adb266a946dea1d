//! Captures that others recorded: graded by their own grader, compared with another reader, and with balanced ledgers.
//! Here belongs every test that reads captures from outside of the repository.

use std::fs;
use std::io::{Write as _, stderr};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use engine_core::decap::{self, Decap};
use engine_core::pipeline::Config;
use pcap_parser::traits::PcapNGPacketBlock as _;
use pcap_parser::{Block, LegacyPcapSlice, PcapBlockOwned, PcapNGSlice};
use sniffer::capture_file::CaptureFile;
use tests::captures;
use tests::engine::Reader;
use tests::program::sniffer_path;

/// The corpus has more frames than this, so that a test which reads fewer has missed some.
const FRAMES_MIN: u64 = 40_000;

#[test]
fn every_case_passes() -> Result<()> {
    grade("", "grade.py", &[])
}

/// HTTP/2 and what it carries.
#[test]
fn every_case_of_http2_passes() -> Result<()> {
    // Of one body 62 of 900 bytes are missing; the expected line leaves out all of it.
    grade("h2", "grade_h2.py", &["derived/loss/node-concurrent"])
}

/// All cases have to pass but those that are `decided` otherwise.
fn grade(folder: &str, grader: &str, decided: &[&str]) -> Result<()> {
    let Some(corpus) = captures::folder() else {
        return Ok(());
    };
    let folder = corpus.join(folder);
    let mut command = Command::new("python3");
    command
        .arg(folder.join(grader))
        .arg("--sniffer")
        .arg(sniffer_path());
    command
        .arg("--expected")
        .arg(folder.join("expected.json"))
        .arg("--pcaps")
        .arg(&folder);
    command.args(["--jobs", "2", "--timeout", "60"]);
    let graded = command.output().context("apt-get install python3")?;
    let report = String::from_utf8_lossy(&graded.stdout);
    let lines: Vec<_> = report.lines().collect();
    for line in &lines[lines.len().saturating_sub(3)..] {
        writeln!(stderr(), "corpus: {}", line.trim())?;
    }
    let failed = lines.iter().filter_map(|line| line.strip_prefix("FAIL "));
    let names = failed.filter_map(|failed| failed.split_whitespace().next());
    let failed: Vec<_> = names.filter(|name| !decided.contains(name)).collect();
    let is_graded = graded.status.success() || graded.status.code() == Some(1);
    if !is_graded || !failed.is_empty() || !report.contains("(0 crash or panic") {
        bail!("{}{report}", String::from_utf8_lossy(&graded.stderr));
    }
    Ok(())
}

/// The ledger balances at every level, at the end of each capture and on the way through it.
#[test]
fn every_ledger_balances() -> Result<()> {
    let Some(corpus) = captures::folder() else {
        return Ok(());
    };
    let mut read = 0;
    for path in captures::files(&corpus) {
        // Files that are no captures do not open.
        let Ok(mut file) = CaptureFile::open(&path.to_string_lossy()) else {
            continue;
        };
        let mut reader = Reader::new(&Config::default());
        while let Ok(Some(frame)) = file.next() {
            reader.feed(&frame);
        }
        reader.finish();
        read += 1;
    }
    ensure!(read > 1000, "only {read} captures");
    Ok(())
}

/// Decapsulation ends for every file, and each frame is in one bucket of its ledger.
#[test]
fn every_frame_is_accounted_for() -> Result<()> {
    let Some(corpus) = captures::folder() else {
        return Ok(());
    };
    let mut frames = 0;
    for path in captures::files(&corpus) {
        let Ok(mut file) = CaptureFile::open(&path.to_string_lossy()) else {
            continue;
        };
        let mut decap = Decap::new(decap::Config::default());
        while let Ok(Some(frame)) = file.next() {
            if let Ok(segment) = decap.frame(&frame) {
                ensure!(
                    segment.payload.len() <= segment.payload_wire_len as usize,
                    "{path:?}"
                );
            }
        }
        let counters = decap.counters();
        ensure!(
            (counters.frames, counters.unaccounted()) == (file.packets(), 0),
            "{path:?}: {counters:?}"
        );
        let ended =
            counters.fragments_joined + counters.fragments_expired + counters.fragments_evicted;
        ensure!(
            counters.fragments_stored == ended + decap.fragments_waiting(),
            "{path:?}: {counters:?}"
        );
        frames += counters.frames;
    }
    ensure!(frames > FRAMES_MIN, "only {frames} frames");
    Ok(())
}

/// Every file that `pcap-parser` reads to its end has the same packets for both.
#[test]
fn packets_agree_with_another_reader() -> Result<()> {
    let Some(corpus) = captures::folder() else {
        return Ok(());
    };
    let mut compared = 0;
    for path in captures::files(&corpus) {
        let Some(ours) = read(&path.to_string_lossy()) else {
            continue;
        };
        let Some(theirs) = read_with_pcap_parser(&fs::read(&path)?) else {
            continue;
        };
        let counts = (ours.len(), theirs.len());
        ensure!(ours == theirs, "{path:?}: {counts:?} packets");
        compared += theirs.len() as u64;
    }
    ensure!(compared > FRAMES_MIN, "only {compared} packets");
    Ok(())
}

/// Bytes and wire length of a packet.
type Packet = (Vec<u8>, u32);

/// All packets of a file, or nothing if it is no capture or ends with an error.
fn read(path: &str) -> Option<Vec<Packet>> {
    let mut file = CaptureFile::open(path).ok()?;
    let mut packets = Vec::new();
    while let Some(frame) = file.next().ok()? {
        packets.push((frame.bytes.to_vec(), frame.wire_len));
    }
    Some(packets)
}

/// The same by `pcap-parser`, or nothing where it gives up.
fn read_with_pcap_parser(bytes: &[u8]) -> Option<Vec<Packet>> {
    let mut packets = Vec::new();
    if let Ok(records) = LegacyPcapSlice::from_slice(bytes) {
        // Its slice reader supports little-endian records only.
        if records.header.is_bigendian() {
            return None;
        }
        for block in records {
            if let PcapBlockOwned::Legacy(packet) = block.ok()? {
                packets.push((packet.data.to_vec(), packet.origlen.max(packet.caplen)));
            }
        }
        return Some(packets);
    }
    for block in PcapNGSlice::from_slice(bytes).ok()? {
        match block.ok()? {
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                packets.push((
                    packet.packet_data().to_vec(),
                    packet.origlen.max(packet.caplen),
                ));
            }
            // Where it differs, with the reason: see the head of `capture_file.rs`.
            PcapBlockOwned::NG(Block::SimplePacket(_)) => return None,
            PcapBlockOwned::NG(Block::Unknown(unknown)) if unknown.block_type == 2 => return None,
            _ => {}
        }
    }
    Some(packets)
}
