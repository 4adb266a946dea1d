//! The fuzz bodies on their saved corpus, and on that corpus with seeded damage. Here belongs no input of its own: what a
//! fuzzer found is saved as a file.

use std::path::PathBuf;
use std::{env, fs, panic};

use anyhow::{Context as _, Result, bail, ensure};
use bench::seed::Seed;
use bench::traffic::{
    Accidents, Body, Coding, Conversation, Exchange, Frame as Made, Framing, Shape, Side, Vxlan,
    Wire, frames, write_pcap,
};
use tests::http2;
use tests::program::repository;
use tests::targets::{TARGETS, input_of};
use tests::websocket::Chat;

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
    for target in TARGETS {
        let name = target.name;
        let (mut held, mut allocated) = (0, 0);
        for (path, input) in corpus(name)? {
            let mut seed = Seed::new(1);
            let copies = (0..COPIES).map(|_| damage(&input, &mut seed));
            for (number, bytes) in std::iter::once(input.clone()).chain(copies).enumerate() {
                let run = panic::catch_unwind(|| target.run(&bytes));
                let Ok(cost) = run else {
                    bail!("{name}: {} with damage {number} (0: none)", path.display());
                };
                held = cost.held.max(held);
                allocated = cost.allocated.max(allocated);
            }
        }
        println!("{name}: {held} bytes held at most, {allocated} allocated");
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
        let made = frames(&[(talk, wire)], &accidents, &mut seed);
        let input = input_of(&made);
        save("decap", name, &input)?;
        save("pipeline", name, &input)?;
        save("assembler", name, &seed.bytes(800))?;
        let mut capture = Vec::new();
        write_pcap(&mut capture, &made, 400)?;
        save("capture", name, &capture)?;
        save("block", name, &block_of(&made[..made.len().min(4)]))?;
    }
    let everything = http2::everything().split_off(2);
    for (name, late) in [("whole", 0), ("late", 3)] {
        save("h2", name, &[vec![late], pieces_of(&everything)].concat())?;
    }
    for (number, name) in ["plain", "context", "contextless", "mixed", "stream"]
        .iter()
        .enumerate()
    {
        let kind = if number == 4 { 0x81 } else { number as u8 };
        let chat = (0..).map(|other| Chat::seeded(&mut Seed::new(other)));
        let mut fitting = chat.filter(|chat| {
            let length: usize = chat.turns.iter().map(|(_, bytes)| bytes.len()).sum();
            let kinds = ["", "deflate", "client_no", "server_no"];
            (100..8000).contains(&length) && chat.extensions.contains(kinds[number % 4])
        });
        let chat = fitting.next().context("one that fits")?;
        save(
            "websocket",
            name,
            &[vec![kind], pieces_of(&chat.turns)].concat(),
        )?;
    }
    let first = [
        http2::indexed(2),
        http2::inserted(":path", "/a"),
        http2::inserted("x", "y"),
    ];
    let second = [
        http2::integer(0x20, 5, 100),
        http2::indexed(62),
        http2::indexed(63),
    ];
    let blocks = [first.concat(), second.concat()];
    let blocks = blocks.map(|block| [vec![block.len() as u8], block].concat());
    save("hpack", "table", &blocks.concat())?;
    // Lines, and everything else that the operations can express: runs, overlaps, copies from as far as they reach.
    let line = b"\x1b[[\"a\",\"GET\"],[\"b\",\"/v1/7\"]]\n\x80\x16\x00\x1b\x0142\x80\x04\x00\x1c\x80\x90\x00\x3a";
    let lines = line.repeat(20);
    save("deflate", "lines", &lines)?;
    save(
        "deflate",
        "runs",
        b"\x00x\xff\xff\x00\x00\x01yz\xff\xff\x00\x01\xff\xff\x00\x02",
    )?;
    let far = [
        &[127][..],
        &Seed::new(7).bytes(128),
        b"\xff\xff\x00\x7f\x81\x02\x7f\xff\x81\x03\x80\x00\x80\x04\x70\x07",
    ];
    save("deflate", "far", &far.concat())?;
    for (number, coding) in Coding::ALL.into_iter().enumerate() {
        let body = Body {
            plain: b"{\"answer\":42,\"text\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}"
                .to_vec(),
            coding,
            framing: Framing::Close,
        };
        let exchange = Exchange {
            response_body: body,
            ..Exchange::get(1, "/", "")
        };
        let wire = exchange.response_wire();
        let head = wire.windows(4).position(|window| window == b"\r\n\r\n");
        let coded = &wire[head.context("it has a head")? + 4..];
        // The outer coding, framing, segment size as the target reads them.
        let input = [&[(number as u8) << 4, number as u8, 9][..], coded].concat();
        save("bodies", coding.token().unwrap_or("identity"), &input)?;
    }
    Ok(())
}

/// Frames as the kernel lays them into a block of a ring, from behind the block's status word: `tpacket3_hdr` of 48
/// octets before each.
fn block_of(made: &[Made]) -> Vec<u8> {
    const AFTER_STATUS: usize = 12;
    let mut frames = Vec::new();
    for frame in made {
        let step = (82 + frame.bytes.len()).next_multiple_of(8);
        let mut header = vec![0; step];
        let words = [
            (0, step),
            (4, 1_767_225_600),
            (12, frame.bytes.len()),
            (16, frame.bytes.len()),
        ];
        for (at, word) in words {
            header[at..at + 4].copy_from_slice(&(word as u32).to_ne_bytes());
        }
        header[24..26].copy_from_slice(&82_u16.to_ne_bytes());
        header[82..82 + frame.bytes.len()].copy_from_slice(&frame.bytes);
        frames.extend_from_slice(&header);
    }
    let mut block = vec![0; 48];
    let words = [(12, made.len()), (16, 48), (20, 48 + frames.len())];
    for (at, word) in words {
        block[at..at + 4].copy_from_slice(&(word as u32).to_ne_bytes());
    }
    block.extend_from_slice(&frames);
    block.split_off(AFTER_STATUS)
}

fn save(target: &str, name: &str, input: &[u8]) -> Result<()> {
    let folder = repository().join("tests/corpus").join(target);
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(name), input)?)
}

/// In the form that the target `http1` reads.
fn turns_of(talk: &Conversation) -> Vec<u8> {
    pieces_of(&talk.turns())
}

fn pieces_of(turns: &[(Side, Vec<u8>)]) -> Vec<u8> {
    let mut input = Vec::new();
    for (side, bytes) in turns {
        for piece in bytes.chunks(0x7fff) {
            let server = if *side == Side::Server { 0x8000 } else { 0 };
            input.extend_from_slice(&(piece.len() as u16 | server).to_be_bytes());
            input.extend_from_slice(piece);
        }
    }
    input
}
