//! Files built here in every variant, cut at every byte and mutated. `tests/tests/corpus.rs` compares real captures with
//! another reader.

use std::io::Write;

use super::*;

/// A packet as a test compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Packet {
    nanos: u64,
    link: LinkType,
    bytes: Vec<u8>,
    wire_len: u32,
}

fn packet(nanos: u64, bytes: &[u8], wire_len: u32) -> Packet {
    Packet {
        nanos,
        link: LinkType::Ethernet,
        bytes: bytes.to_vec(),
        wire_len,
    }
}

/// All packets of a file, and the error that ended it.
fn read(bytes: &[u8]) -> (Vec<Packet>, Option<Error>) {
    match CaptureFile::from_reader("test.pcap", io::Cursor::new(bytes.to_vec())) {
        Ok(file) => read_all(file),
        Err(error) => (Vec::new(), Some(error)),
    }
}

fn read_all(mut file: CaptureFile) -> (Vec<Packet>, Option<Error>) {
    let mut packets = Vec::new();
    let error = loop {
        match file.next() {
            Ok(Some(Frame {
                time,
                link,
                bytes,
                wire_len,
                ..
            })) => {
                packets.push(Packet {
                    nanos: time.nanos(),
                    link,
                    bytes: bytes.to_vec(),
                    wire_len,
                });
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    assert_eq!(file.packets(), packets.len() as u64);
    assert!(
        matches!(file.next(), Ok(None)),
        "nothing comes after the end or an error"
    );
    (packets, error)
}

#[track_caller]
fn check(bytes: &[u8], expected: &[Packet]) {
    let (packets, error) = read(bytes);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(packets, expected);
}

#[track_caller]
fn check_error(bytes: &[u8], packets_before: usize, expected: &str) {
    let (packets, error) = read(bytes);
    let error = error.expect("an error");
    assert_eq!(
        (packets.len(), error.to_string().as_str()),
        (packets_before, expected)
    );
}

/// Writes numbers in one byte order.
#[derive(Clone, Copy)]
struct Writer {
    big_endian: bool,
}

const LITTLE: Writer = Writer { big_endian: false };
const BIG: Writer = Writer { big_endian: true };

impl Writer {
    fn u16(self, number: u16) -> Vec<u8> {
        if self.big_endian {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
        .to_vec()
    }

    fn u32(self, number: u32) -> Vec<u8> {
        if self.big_endian {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
        .to_vec()
    }

    fn u32s(self, numbers: &[u32]) -> Vec<u8> {
        numbers
            .iter()
            .flat_map(|number| self.u32(*number))
            .collect()
    }

    fn pcap(self, magic: u32, link: u32) -> Vec<u8> {
        [
            self.u32(magic),
            self.u16(2),
            self.u16(4),
            self.u32s(&[0, 0, 65535, link]),
        ]
        .concat()
    }

    fn record(self, seconds: u32, fraction: u32, bytes: &[u8], wire_len: u32) -> Vec<u8> {
        [
            self.u32s(&[seconds, fraction, bytes.len() as u32, wire_len]),
            bytes.to_vec(),
        ]
        .concat()
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        let total = self.u32((12 + body.len() + padding.len()) as u32);
        [self.u32(kind), total.clone(), body.to_vec(), padding, total].concat()
    }

    fn section(self) -> Vec<u8> {
        let body = [
            self.u32(0x1a2b_3c4d),
            self.u16(1),
            self.u16(0),
            vec![0xff; 8],
        ]
        .concat();
        self.block(0x0a0d_0d0a, &body)
    }

    fn interface(self, link: u16, snap_len: u32, options: &[u8]) -> Vec<u8> {
        self.block(
            1,
            &[
                self.u16(link),
                self.u16(0),
                self.u32(snap_len),
                options.to_vec(),
            ]
            .concat(),
        )
    }

    fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        let padding = vec![0; value.len().next_multiple_of(4) - value.len()];
        [
            self.u16(code),
            self.u16(value.len() as u16),
            value.to_vec(),
            padding,
        ]
        .concat()
    }

    fn enhanced(self, interface: u32, ticks: u64, bytes: &[u8], wire_len: u32) -> Vec<u8> {
        let fields = [
            interface,
            (ticks >> 32) as u32,
            ticks as u32,
            bytes.len() as u32,
            wire_len,
        ];
        self.block(6, &[self.u32s(&fields), bytes.to_vec()].concat())
    }
}

fn little_pcap() -> Vec<u8> {
    let w = LITTLE;
    [
        w.pcap(0xa1b2_c3d4, 1),
        w.record(1, 5, b"one", 3),
        w.record(2, 6, b"cut", 900),
        w.record(3, 7, b"", 0),
    ]
    .concat()
}

fn little_pcapng() -> Vec<u8> {
    let w = LITTLE;
    let blocks = [
        w.section(),
        w.interface(1, 0, &[]),
        w.enhanced(0, 5, b"one", 3),
        w.enhanced(0, 6, b"cut", 900),
    ];
    blocks.concat()
}

#[test]
fn pcap_in_all_variants() {
    for w in [LITTLE, BIG] {
        let micro = [w.pcap(0xa1b2_c3d4, 1), w.record(1, 5, b"abc", 9)].concat();
        check(&micro, &[packet(1_000_005_000, b"abc", 9)]);
        let nano = [w.pcap(0xa1b2_3c4d, 1), w.record(1, 5, b"abc", 3)].concat();
        check(&nano, &[packet(1_000_000_005, b"abc", 3)]);
        let fields = w.u32s(&[1, 5, 3, 3, 7, 7]);
        let modified = [w.pcap(0xa1b2_cd34, 1), fields, b"abc".to_vec()].concat();
        check(&modified, &[packet(1_000_005_000, b"abc", 3)]);
    }
    check(&LITTLE.pcap(0xa1b2_c3d4, 1), &[]);
    // A frame check sequence is noted in the upper bits of the link type.
    check(
        &[
            LITTLE.pcap(0xa1b2_c3d4, 0x3000_0001),
            LITTLE.record(1, 0, b"", 0),
        ]
        .concat(),
        &[packet(1_000_000_000, b"", 0)],
    );
}

#[test]
fn pcapng_with_several_sections_and_interfaces() {
    let mut file = Vec::new();
    for w in [BIG, LITTLE] {
        let offset = if w.big_endian {
            100_i64.to_be_bytes()
        } else {
            100_i64.to_le_bytes()
        };
        let nano = [
            w.option(2, b"eth0"),
            w.option(9, &[9]),
            w.option(14, &offset),
            w.option(0, &[]),
        ]
        .concat();
        file.extend(w.section());
        file.extend(w.interface(1, 0, &[]));
        file.extend(w.interface(113, 0, &nano));
        file.extend(w.block(5, b"statistics"));
        file.extend(w.enhanced(1, 7, b"cooked", 6));
        file.extend(w.enhanced(0, 7, b"ether", 60));
        let obsolete = [w.u16(1), w.u16(0), w.u32s(&[0, 8, 3, 3]), b"old".to_vec()].concat();
        file.extend(w.block(2, &obsolete));
    }
    let cooked = |nanos, bytes| Packet {
        link: LinkType::LinuxSll,
        ..packet(nanos, bytes, bytes.len() as u32)
    };
    let one = [
        cooked(100_000_000_007, b"cooked"),
        packet(7_000, b"ether", 60),
        cooked(100_000_000_008, b"old"),
    ];
    check(&file, &[&one[..], &one].concat());
}

#[test]
fn simple_packets_end_at_the_snap_length_and_have_no_time() {
    let w = LITTLE;
    let simple =
        |wire_len: u32, bytes: &[u8]| w.block(3, &[w.u32(wire_len), bytes.to_vec()].concat());
    let file = [
        w.section(),
        w.interface(1, 6, &[]),
        w.enhanced(0, 9, b"timed", 5),
        simple(5, b"12345"),
        simple(100, b"123456"),
        simple(100, b"1234"),
    ];
    let expected = [
        packet(9_000, b"timed", 5),
        packet(9_000, b"12345", 5),
        packet(9_000, b"123456", 100),
        packet(9_000, b"1234", 100),
    ];
    check(&file.concat(), &expected);
}

#[test]
fn compressed_files_read_like_plain_ones() {
    for plain in [little_pcap(), little_pcapng()] {
        let (expected, _) = read(&plain);
        assert!(!expected.is_empty());
        let gzip = |bytes: &[u8]| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        check(&gzip(&plain), &expected);
        check(
            &[gzip(&plain[..30]), gzip(&plain[30..])].concat(),
            &expected,
        );
        check(&zstd::encode_all(&plain[..], 1).unwrap(), &expected);
        for compressed in [gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap()] {
            for cut in 4..compressed.len() {
                let (packets, error) = read(&compressed[..cut]);
                assert!(
                    error.as_ref().is_some_and(Error::is_cut),
                    "cut at {cut} of {}: {error:?}",
                    compressed.len()
                );
                assert!(expected.starts_with(&packets));
            }
        }
    }
}

#[test]
fn a_cut_file_gives_what_was_before_the_cut() {
    for (whole, header) in [(little_pcap(), 24), (little_pcapng(), 28)] {
        let (expected, _) = read(&whole);
        for cut in header..whole.len() {
            let (packets, error) = read(&whole[..cut]);
            assert!(expected.starts_with(&packets));
            assert!(error.is_none_or(|error| error.is_cut()), "cut at {cut}");
        }
    }
    let whole = little_pcap();
    check_error(
        &whole[..whole.len() - 1],
        2,
        "test.pcap: cut after packet 2 (file still being written?)",
    );
    check_error(
        &whole[..30],
        0,
        "test.pcap: cut before the first packet (file still being written?)",
    );
    check_error(
        &whole[..10],
        0,
        "test.pcap: cut before the first packet (file still being written?)",
    );
}

#[test]
fn errors_say_what_and_where() {
    let w = LITTLE;
    check_error(b"", 0, "test.pcap: is empty, not a capture file");
    check_error(
        b"\x89PNG\r\n",
        0,
        "test.pcap: neither pcap nor pcapng (begins with 89 50 4e 47)",
    );
    check_error(
        &w.pcap(0xa1b2_c3d4, 147),
        0,
        "test.pcap: pcap with link type 147 (not supported)",
    );
    let mut version = little_pcap();
    version[4] = 7;
    check_error(
        &version,
        0,
        "test.pcap: pcap version 7.4 (only 2.x is known)",
    );
    let absurd = [little_pcap(), w.u32s(&[0, 0, u32::MAX, 0])].concat();
    let expected = "test.pcap: packet 4 at byte 78 claims 4294967295 bytes, more than any packet has (1048576); \
                    the file is damaged there";
    check_error(&absurd, 3, expected);
    let at = little_pcapng().len();
    let damaged = |what: &str| format!("test.pcap: damaged after packet 2, at byte {at}: {what}");
    let append = |block: Vec<u8>| [little_pcapng(), block].concat();
    let unknown = append(w.enhanced(3, 0, b"", 0));
    check_error(
        &unknown,
        2,
        &damaged("packet of an interface that was not described"),
    );
    let endless = append(w.u32s(&[5, 0, 0]));
    check_error(
        &endless,
        2,
        &damaged("block with a length that none can have"),
    );
    let ends = append(w.u32s(&[6, 16, 0, 20]));
    check_error(
        &ends,
        2,
        &damaged("block that ends with another length than it begins with"),
    );
    let longer = append(w.block(6, &w.u32s(&[0, 0, 0, 100, 100])));
    check_error(&longer, 2, &damaged("packet longer than its block"));
    let other = [
        w.section(),
        w.interface(147, 0, &[]),
        w.enhanced(0, 0, b"x", 1),
    ]
    .concat();
    check_error(
        &other,
        1,
        "test.pcap: pcapng interface with link type 147 (not supported)",
    );
    let missing = CaptureFile::open("/nonexistent/orders.pcap")
        .err()
        .map(|error| error.to_string())
        .unwrap();
    assert!(
        missing.starts_with("/nonexistent/orders.pcap: cannot be opened: "),
        "{missing}"
    );
}

#[test]
fn large_packets_are_read_and_larger_ones_are_not() {
    let w = LITTLE;
    let big = vec![7; 600_000];
    let file = [
        w.pcap(0xa1b2_c3d4, 1),
        w.record(1, 0, &big, 600_000),
        w.record(1, 0, b"x", 1),
    ]
    .concat();
    check(
        &file,
        &[
            packet(1_000_000_000, &big, 600_000),
            packet(1_000_000_000, b"x", 1),
        ],
    );
    let file = [
        w.section(),
        w.interface(1, 0, &[]),
        w.enhanced(0, 0, &big, 600_000),
    ]
    .concat();
    check(&file, &[packet(0, &big, 600_000)]);
}

/// Whatever the bytes are, reading ends.
#[test]
fn mutated_files_end() {
    let mut state = 0x5eed_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..20_000 {
        let mut bytes = if round % 2 == 0 {
            little_pcap()
        } else {
            little_pcapng()
        };
        for _ in 0..1 + random() % 3 {
            let at = random() as usize % bytes.len();
            bytes[at] = random() as u8;
        }
        let (packets, _) = read(&bytes);
        assert!(packets.len() <= 4);
    }
}
