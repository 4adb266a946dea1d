//! `sniffer read` on captures whose truth is known. Here belongs what packets alone decide: encapsulations, segmentation,
//! accidents that lose nothing.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Row, value};
use bench::seed::Seed;
use bench::traffic::{Accidents, Conversation, Shape, Vxlan, Wire, frames, write_pcap};
use flate2::Compression;
use flate2::write::GzEncoder;
use tests::process::run;
use tests::program::{sniffer, sniffer_ends};
use tests::truth;

fn read(
    talks: &[(Conversation, Wire)],
    accidents: &Accidents,
    seed: &mut Seed,
) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("traffic.pcap");
    write_pcap(
        &mut BufWriter::new(File::create(&path)?),
        &frames(talks, accidents, seed),
        usize::MAX,
    )?;
    let path = path
        .to_str()
        .context("temporary folders have plain names")?;
    let ended = sniffer_ends(
        &["read", path, "--ports", "all", "--rules", "include debug"],
        &[],
    )?;
    ensure!(
        ended.code()? == 0,
        "exit {}: {}",
        ended.status,
        ended.stderr
    );
    truth::rows(&ended.stdout)
}

fn check_seeds(
    seeds: std::ops::Range<u64>,
    accidents: &Accidents,
    kind: impl Fn(u64) -> (Shape, Wire),
) {
    for number in seeds {
        let mut seed = Seed::new(number);
        let (shape, wire) = kind(number);
        let talks: Vec<_> = (0..5)
            .map(|_| (Conversation::seeded(&mut seed, &shape), wire.clone()))
            .collect();
        let exchanges = talks.iter().flat_map(|(talk, _)| &talk.exchanges);
        let result =
            read(&talks, accidents, &mut seed).and_then(|rows| truth::check_all(exchanges, &rows));
        result.unwrap_or_else(|error| panic!("seed {number}, {shape:?}, {wire:?}: {error:#}"));
    }
}

/// Families, tags and tunnels in all combinations.
fn any_wire(number: u64) -> (Shape, Wire) {
    let shape = Shape {
        ipv6: number % 2 == 1,
        near_wrap: number.is_multiple_of(5),
        ..Shape::default()
    };
    let vlans = [vec![], vec![5], vec![100, 5]][(number / 2 % 3) as usize].clone();
    let v6 = Vxlan {
        from: "fd00:9::1".parse().unwrap(),
        to: "fd00:9::2".parse().unwrap(),
        ..Vxlan::new(9)
    };
    let vxlan = [None, Some(Vxlan::new(7)), Some(v6)][(number / 6 % 3) as usize];
    (
        shape,
        Wire {
            vlans,
            mirror_cut: None,
            vxlan,
        },
    )
}

#[test]
fn a_perfect_capture_is_read_as_it_was_said() {
    check_seeds(0..72, &Accidents::none(), any_wire);
}

#[test]
fn reordering_duplicates_and_retransmissions_lose_nothing() {
    check_seeds(1000..1108, &Accidents::harmless(), any_wire);
}

#[test]
fn large_bodies_in_small_segments() {
    let shape = Shape {
        body_bytes_max: 300_000,
        exchanges_max: 3,
        ..Shape::default()
    };
    check_seeds(2000..2006, &Accidents::harmless(), |_| {
        (shape.clone(), Wire::default())
    });
}

#[test]
fn times_are_those_of_the_first_packets() -> Result<()> {
    let mut seed = Seed::new(4);
    let talk = Conversation {
        pipeline: 1,
        ..Conversation::seeded(&mut seed, &Shape::default())
    };
    let segments = talk.segments();
    let rows = read(
        &[(talk.clone(), Wire::default())],
        &Accidents::none(),
        &mut seed,
    )?;
    let rows = truth::by_number(&rows)?;
    for exchange in &talk.exchanges {
        let begins = |start: &[u8]| {
            segments
                .iter()
                .find(|segment| segment.payload.starts_with(start))
                .map(|s| s.time)
        };
        let head = exchange.request_head();
        let requested = begins(&head[..head.len().min(talk.mss).min(80)])
            .context("a request begins a segment")?;
        let status = format!("HTTP/1.1 {}", exchange.status);
        let mut after = segments
            .iter()
            .skip_while(|segment| segment.time <= requested);
        let answered = after.find(|segment| segment.payload.starts_with(status.as_bytes()));
        let Some(answered) = answered.map(|segment| segment.time) else {
            continue;
        };
        let row = rows.get(&exchange.number).context("reported")?;
        let now = (answered / 1_000_000).to_string();
        let interval = ((answered - requested) / 1_000_000).max(1).to_string();
        assert_eq!(value(row, "now"), Some(now.as_str()));
        assert_eq!(value(row, "interval"), Some(interval.as_str()));
    }
    Ok(())
}

#[test]
fn packed_files_and_standard_input_give_the_same_lines() -> Result<()> {
    let mut seed = Seed::new(21);
    let talk = Conversation::seeded(&mut seed, &Shape::default());
    let mut plain = Vec::new();
    write_pcap(
        &mut plain,
        &frames(
            &[(talk.clone(), Wire::default())],
            &Accidents::none(),
            &mut seed,
        ),
        usize::MAX,
    )?;
    let folder = tempfile::tempdir()?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&plain)?;
    let files = [
        ("t.pcap", plain.clone()),
        ("t.gz", gzip.finish()?),
        ("t.zst", zstd::bulk::compress(&plain, 1)?),
    ];
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::write(&path, bytes)?;
        let ended = sniffer_ends(
            &[
                "read",
                &path.display().to_string(),
                "--rules",
                "include debug",
            ],
            &[],
        )?;
        truth::check_all(&talk.exchanges, &truth::rows(&ended.stdout)?).context(name)?;
    }
    let mut command = sniffer(&["read", "-", "--rules", "include debug"]);
    command.stdin(File::open(folder.path().join("t.pcap"))?);
    let lines = run(&mut command)?;
    truth::check_all(&talk.exchanges, &truth::rows(&lines)?).context("standard input")
}

#[test]
fn equal_addresses_in_two_networks_never_mix() -> Result<()> {
    let mut seed = Seed::new(11);
    let one = Conversation::seeded(&mut seed, &Shape::default());
    let mut two = Conversation::seeded(&mut seed, &Shape::default());
    (two.client, two.server, two.isn, two.start) = (one.client, one.server, one.isn, one.start);
    let in_network = |vni| Wire {
        vxlan: Some(Vxlan::new(vni)),
        ..Wire::default()
    };
    let talks = [(one, in_network(1)), (two, in_network(2))];
    let rows = read(&talks, &Accidents::none(), &mut seed)?;
    truth::check_all(talks.iter().flat_map(|(talk, _)| &talk.exchanges), &rows)
}
