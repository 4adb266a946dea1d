//! The fuzz bodies on their saved corpus, and on that corpus with seeded damage. Here belongs no input of its own: what a
//! fuzzer found is saved as a file.

use std::path::PathBuf;
use std::{env, fs, panic};

use anyhow::{Context as _, Result, ensure};
use bench::seed::Seed;
use bench::traffic::{Accidents, Conversation, Shape, Side, Vxlan, Wire, frames};
use tests::program::repository;
use tests::targets::{TARGETS, input_of};

/// Damaged copies of each saved input.
const COPIES: u64 = 60;

fn corpus(target: &str) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = repository().join("tests/corpus").join(target);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder)
        .with_context(|| format!("{} (UPDATE_CORPUS=1 makes it)", folder.display()))?
    {
        let path = entry?.path();
        files.push((path.clone(), fs::read(path)?));
    }
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    files.sort();
    Ok(files)
}

/// What fuzzers do first: flipped, removed, doubled and overwritten bytes.
fn damage(input: &[u8], seed: &mut Seed) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..seed.within(1..=8) {
        if bytes.is_empty() {
            break;
        }
        let at = seed.within(0..=bytes.len() - 1);
        let end = (at + seed.within(1..=40)).min(bytes.len());
        match seed.within(0..=3) {
            0 => bytes[at] ^= 1 << seed.within(0..=7),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.extend_from_within(at..end),
            _ => bytes[at] = *seed.pick(&[0, 1, 0x7f, 0x80, 0xff]),
        }
    }
    bytes
}

#[test]
fn saved_inputs_and_damaged_copies() -> Result<()> {
    if env::var_os("UPDATE_CORPUS").is_some() {
        return update();
    }
    for (name, target) in TARGETS {
        for (path, input) in corpus(name)? {
            let mut seed = Seed::new(1);
            let copies = (0..COPIES).map(|_| damage(&input, &mut seed));
            for (number, bytes) in std::iter::once(input.clone()).chain(copies).enumerate() {
                let run = panic::catch_unwind(|| target(&bytes));
                ensure!(
                    run.is_ok(),
                    "{name}: {} with damage {number} (0: none)",
                    path.display()
                );
            }
        }
    }
    Ok(())
}

/// Rewrites the part of the corpus that the traffic maker makes.
fn update() -> Result<()> {
    let v6 = Vxlan {
        from: "fd00::1".parse()?,
        to: "fd00::2".parse()?,
        ..Vxlan::new(9)
    };
    let kinds = [
        ("plain", Wire::default(), Accidents::none()),
        ("rough", Wire::default(), Accidents::harmless()),
        (
            "lossy",
            Wire::default(),
            Accidents {
                lose_per_mille: 60,
                ..Accidents::none()
            },
        ),
        (
            "qinq",
            Wire {
                vlans: vec![100, 5],
                ..Wire::default()
            },
            Accidents::none(),
        ),
        (
            "vxlan",
            Wire {
                vxlan: Some(Vxlan::new(7)),
                ..Wire::default()
            },
            Accidents::none(),
        ),
        (
            "vxlan6-cut",
            Wire {
                vxlan: Some(v6),
                mirror_cut: Some(200),
                ..Wire::default()
            },
            Accidents::none(),
        ),
    ];
    for (number, (name, wire, accidents)) in kinds.into_iter().enumerate() {
        let mut seed = Seed::new(number as u64);
        let shape = Shape {
            exchanges_max: 3,
            body_bytes_max: 300,
            ipv6: number % 2 == 1,
            ..Shape::default()
        };
        let talk = Conversation::seeded(&mut seed, &shape);
        save("http1", name, &turns_of(&talk))?;
        let input = input_of(&frames(&[(talk, wire)], &accidents, &mut seed));
        save("decap", name, &input)?;
        save("pipeline", name, &input)?;
    }
    Ok(())
}

fn save(target: &str, name: &str, input: &[u8]) -> Result<()> {
    let folder = repository().join("tests/corpus").join(target);
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(name), input)?)
}

/// In the form that the target `http1` reads.
fn turns_of(talk: &Conversation) -> Vec<u8> {
    let mut input = Vec::new();
    for (side, said) in talk.turns() {
        for piece in said.chunks(0x7fff) {
            let server = if side == Side::Server { 0x8000 } else { 0 };
            input.extend_from_slice(&(piece.len() as u16 | server).to_be_bytes());
            input.extend_from_slice(piece);
        }
    }
    input
}
