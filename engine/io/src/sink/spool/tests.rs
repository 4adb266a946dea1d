//! The spool: what comes back, whatever happened to its files.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use engine_core::bundle::{Bundler, CallEntry, Compression, Encoding};
use engine_core::message::{Notes, Output as _};
use flate2::write::ZlibEncoder;
use tempfile::TempDir;

use super::*;
use crate::sink::part::Part;
use crate::sink::shared::Pool;

const BOUNDS: Bounds = Bounds {
    bytes: 1 << 30,
    age: Duration::from_secs(1 << 40),
};

const RULES: u64 = 7;

/// A bundle with the lines `["N",0]`, `["N",1]` and so on.
fn content(number: u64, calls: usize, compression: Compression) -> Content {
    let mut bundler = Bundler::new(engine_core::bundle::Config {
        compression,
        id_seed: number,
        ..engine_core::bundle::Config::default()
    });
    for call in 0..calls {
        let notes = Notes {
            exchange_id: u128::from(number) << 32 | call as u128,
            status: 200,
            ..Notes::default()
        };
        bundler.line(line(number, call).as_bytes(), &notes);
    }
    bundler.close();
    let bundle = bundler.pop().unwrap();
    let mut leases = Pool::default().share(bundle, 1);
    Content::Bundle(leases.next().unwrap().hold())
}

fn line(number: u64, call: usize) -> String {
    format!("[\"{number}\",{call},\"{}\"]", "x".repeat(call * 7 % 50))
}

fn key(number: u64) -> u128 {
    u128::from(number) << 64
}

fn text(number: u64, calls: usize) -> String {
    (0..calls).map(|call| line(number, call) + "\n").collect()
}

/// That this is the bundle with this number, whole.
#[track_caller]
fn assert_is(part: &Part, number: u64, calls: usize) {
    let whole = part.as_whole();
    assert_eq!(whole.key, key(number));
    let lines = match whole.encoding {
        Encoding::Plain => whole.body.to_vec(),
        Encoding::Deflated => members::lines(whole.body, whole.line_bytes() as u32).unwrap(),
    };
    assert_eq!(
        String::from_utf8(lines.clone()).unwrap(),
        text(number, calls)
    );
    assert_eq!(whole.index.len(), calls);
    for (call, entry) in whole.index.iter().enumerate() {
        assert_eq!(entry.line(&lines), Some(line(number, call).as_bytes()));
    }
}

fn opened(folder: &Path, bounds: Bounds, rules: u64) -> (Segments, Damage) {
    Segments::open(folder, bounds, rules).unwrap()
}

/// A folder with these bundles of so many calls, none of them settled.
fn folder_of(calls: &[usize]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (mut segments, _) = opened(folder.path(), BOUNDS, RULES);
    for (number, &calls) in calls.iter().enumerate() {
        let content = content(number as u64, calls, Compression::Fast);
        segments
            .append(&content, Ticket::new(number as u64), 1)
            .unwrap();
    }
    folder
}

/// The keys of all bundles that come back, each checked to be whole.
fn read_all(segments: &mut Segments, calls: &[usize]) -> Vec<u64> {
    let mut found = Vec::new();
    let mut next = 0;
    while let Some(place) = segments.next_on_disk() {
        next += 1;
        match segments.load(place, Ticket::read_back(next)) {
            None => segments.give_up_damaged(place).unwrap(),
            Some(stored) => {
                let part = spooler::part_of(stored).unwrap();
                let number = (part.as_whole().key >> 64) as u64;
                assert_is(&part, number, calls[number as usize]);
                found.push(number);
            }
        }
    }
    found
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let stays = |name: &String| name == "lock" || name == "ledger";
    let mut names: Vec<String> = names.filter(|name| !stays(name)).collect();
    names.sort();
    names
}

#[test]
fn what_was_not_delivered_comes_back_in_order_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut segments, damage) = opened(folder.path(), BOUNDS, RULES);
    assert_eq!(damage, Damage::default());
    let kinds = [Compression::Fast, Compression::Off, Compression::Level(6)];
    let calls = [3, 1, 40, 2, 5, 1];
    let mut places = Vec::new();
    for (number, &calls) in calls.iter().enumerate() {
        let content = content(number as u64, calls, kinds[number % 3]);
        let (place, _) = segments
            .append(&content, Ticket::new(number as u64), 1)
            .unwrap();
        places.push(place);
    }
    assert!(
        segments.next_on_disk().is_none(),
        "all of them are in memory"
    );
    segments.settle(places[1], State::Delivered).unwrap();
    segments.settle(places[4], State::GivenUp).unwrap();
    segments.leave(places[3]);
    assert_eq!(read_all(&mut segments, &calls), [3]);
    drop(segments);

    let (mut segments, damage) = opened(folder.path(), BOUNDS, RULES);
    assert_eq!(damage, Damage::default());
    let totals = segments.totals();
    assert_eq!((totals.bundles, totals.calls), (4, 46));
    assert_eq!(read_all(&mut segments, &calls), [0, 2, 3, 5]);
    drop(segments);

    // One that was read back and not settled comes again.
    let (mut segments, _) = opened(folder.path(), BOUNDS, RULES);
    while let Some(place) = segments.next_on_disk() {
        segments.settle(place, State::Delivered).unwrap();
    }
    segments.close();
    assert_eq!(
        names(folder.path()),
        Vec::<String>::new(),
        "nothing is left"
    );
}

#[test]
fn plain_bundles_stay_plain_and_are_small_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (mut segments, _) = opened(folder.path(), BOUNDS, RULES);
    let content = content(1, 500, Compression::Off);
    let (place, bytes) = segments.append(&content, Ticket::new(1), 1).unwrap();
    let index = (500 * size_of::<CallEntry>()) as u64;
    assert!(bytes - index < text(1, 500).len() as u64 / 3);
    segments.leave(place);
    let part = spooler::part_of(segments.load(place, Ticket::read_back(1)).unwrap()).unwrap();
    assert_eq!(part.as_whole().encoding, Encoding::Plain);
    assert_is(&part, 1, 500);
}

#[test]
fn a_segment_is_a_concatenation_of_members() {
    let folder = folder_of(&[3, 40, 2]);
    let members = fs::read(folder.path().join("0000000001.zz")).unwrap();
    assert_eq!(members::count_lines(&members), 45, "read without the index");
    for name in ["0000000001.zz", "0000000001.index", "lock"] {
        let mode = fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
    }
}

/// A file that was cut anywhere costs the bundles that are not whole, and no other.
#[test]
fn a_cut_file_costs_what_was_cut() {
    let calls = [3, 1, 20, 2];
    let whole = folder_of(&calls);
    for name in ["0000000001.zz", "0000000001.index"] {
        let bytes = fs::read(whole.path().join(name)).unwrap();
        for length in (0..=bytes.len()).step_by(11).chain([bytes.len()]) {
            let folder = tempfile::tempdir().unwrap();
            for other in ["0000000001.zz", "0000000001.index"] {
                fs::copy(whole.path().join(other), folder.path().join(other)).unwrap();
            }
            fs::write(folder.path().join(name), &bytes[..length]).unwrap();
            // Without a header the rules are unknown.
            let rules = if length < 64 && name.ends_with("index") {
                0
            } else {
                RULES
            };
            let (segments, damage) = opened(folder.path(), BOUNDS, rules);
            drop(segments);
            let (mut segments, again) = opened(folder.path(), BOUNDS, rules);
            assert_eq!(again.calls, 0, "counted by the first process only");
            let found = read_all(&mut segments, &calls);
            assert!(
                found.iter().copied().eq(0..found.len() as u64),
                "the first ones"
            );
            let kept: u64 = found
                .iter()
                .map(|number| calls[*number as usize] as u64)
                .sum();
            let lost = damage.calls + damage.unknown;
            if name.ends_with("index") || length > 0 {
                assert_eq!(kept + lost, 26, "{name} {length}: {damage:?}");
            }
            // Entries that are cut are made from the lines.
            let is_enough = length == bytes.len() || found.len() == calls.len();
            assert_eq!(is_enough, lost == 0, "{name} {length}");
            drop(segments);
            let aside = names(folder.path());
            let has_aside = aside.iter().any(|name| name.starts_with("damaged-"));
            assert!(lost == 0 || !found.is_empty() || has_aside, "{aside:?}");
        }
    }
}

/// A flipped bit costs one bundle at most, and never gives another line than was written.
#[test]
fn a_flipped_bit_costs_one_bundle() {
    let calls = [2, 1, 4];
    let whole = folder_of(&calls);
    for name in ["0000000001.zz", "0000000001.index"] {
        let bytes = fs::read(whole.path().join(name)).unwrap();
        // The header of the index is looked at elsewhere: without it nothing is delivered.
        let first = if name.ends_with("index") { 64 } else { 0 };
        for at in (first..bytes.len()).step_by(3) {
            let folder = tempfile::tempdir().unwrap();
            for other in ["0000000001.zz", "0000000001.index"] {
                fs::copy(whole.path().join(other), folder.path().join(other)).unwrap();
            }
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(folder.path().join(name), &flipped).unwrap();
            let (mut segments, _) = opened(folder.path(), BOUNDS, RULES);
            let found = read_all(&mut segments, &calls);
            assert!(found.len() >= 2, "{name} {at}: {found:?}");
            assert!(found.is_sorted(), "{found:?}");
        }
    }
}

#[test]
fn damaged_files_are_kept_aside_and_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..limits::SPOOL_DAMAGED_MAX + 3 {
        let (mut segments, _) = opened(folder.path(), BOUNDS, RULES);
        let number = segments.first_of_this_process();
        let content = content(round as u64, 2, Compression::Fast);
        segments.append(&content, Ticket::new(1), 1).unwrap();
        drop(segments);
        fs::write(folder.path().join(format!("{number:010}.zz")), b"no zlib").unwrap();
        let (_, damage) = opened(folder.path(), BOUNDS, RULES);
        assert_eq!(damage.calls, 2);
    }
    let aside = names(folder.path());
    let aside = aside.iter().filter(|name| name.starts_with("damaged-"));
    assert_eq!(aside.count(), 2 * limits::SPOOL_DAMAGED_MAX);
}

#[test]
fn a_second_process_is_refused_with_the_number_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let first = opened(folder.path(), BOUNDS, RULES);
    let refused = Segments::open(folder.path(), BOUNDS, RULES).err();
    assert_eq!(refused, Some(Unusable::InUse(std::process::id())));
    let message = refused.unwrap().diagnostic(folder.path());
    let pid = format!("pid {}", std::process::id());
    assert!(message.what.ends_with(&pid), "{message}");
    assert_eq!(message.exit() as u8, 2);
    drop(first);
    opened(folder.path(), BOUNDS, RULES);
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let refused = Segments::open(folder.path(), BOUNDS, RULES).err().unwrap();
    let message = refused.diagnostic(folder.path());
    assert!(message.what.contains("every user may write"), "{message}");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(Segments::open(&file, BOUNDS, RULES).is_err());
}

#[test]
fn the_oldest_is_given_up_at_the_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let bounds = Bounds {
        bytes: 40_000,
        age: Duration::from_secs(10),
    };
    let (mut segments, _) = opened(folder.path(), bounds, RULES);
    let (mut in_memory, mut on_disk, mut written) = (0, 0, 0);
    for number in 0..400 {
        let content = content(number, 3, Compression::Fast);
        let more = content.memory_bytes() as u64;
        while let Some((given_up, is_old)) = segments.take_excess(more, 5_000) {
            assert!(!is_old && !given_up.is_empty());
            for bundle in given_up {
                match bundle.ticket {
                    Some(_) => in_memory += 1,
                    None => on_disk += 1,
                }
            }
        }
        let (place, _) = segments
            .append(&content, Ticket::new(number), 5_000)
            .unwrap();
        written += 1;
        if number % 2 == 0 {
            segments.leave(place);
        }
        assert!(
            segments.totals().bytes <= bounds.bytes,
            "{:?}",
            segments.totals()
        );
    }
    let left = segments.totals().bundles;
    assert!(in_memory > 10 && on_disk > 10 && left > 10);
    assert_eq!(in_memory + on_disk + left, written);

    assert!(segments.take_excess(0, 15_000).is_none(), "not old enough");
    let mut expired = 0;
    while let Some((given_up, is_old)) = segments.take_excess(0, 15_001) {
        assert!(is_old);
        expired += given_up.len() as u64;
    }
    assert_eq!((expired, segments.totals().bundles), (left, 0));
}

#[test]
fn what_was_made_under_other_rules_is_held_until_somebody_decides() {
    let calls = [2, 3];
    let folder = folder_of(&calls);
    let held = |segments: &Segments| {
        let totals = segments.totals();
        (totals.held_segments, totals.held_calls)
    };
    let (mut segments, _) = opened(folder.path(), BOUNDS, RULES + 1);
    assert_eq!(held(&segments), (1, 5));
    assert!(segments.next_on_disk().is_none());
    // The same while it runs: what came before the change is held after it.
    let newer = content(2, 1, Compression::Fast);
    let (place, _) = segments.append(&newer, Ticket::new(2), 1).unwrap();
    segments.leave(place);
    assert_eq!(read_all(&mut segments, &[2, 3, 1]), [2]);
    segments.set_rules(RULES);
    assert_eq!(
        held(&segments),
        (1, 1),
        "the older one has the rules in use"
    );
    drop(segments);

    let (mut segments, _) = opened(folder.path(), BOUNDS, RULES + 2);
    assert_eq!(held(&segments), (2, 6));
    segments.release().unwrap();
    assert_eq!(held(&segments), (0, 0));
    drop(segments);
    let (mut segments, _) = opened(folder.path(), BOUNDS, RULES + 2);
    assert_eq!(
        read_all(&mut segments, &[2, 3, 1]),
        [0, 1, 2],
        "released for good"
    );
    drop(segments);

    let folder = folder_of(&calls);
    let (mut segments, _) = opened(folder.path(), BOUNDS, RULES + 1);
    let newer = content(2, 1, Compression::Fast);
    segments.append(&newer, Ticket::new(2), 1).unwrap();
    let given_up: u64 = segments
        .discard(false)
        .iter()
        .map(|bundle| bundle.calls)
        .sum();
    assert_eq!((given_up, segments.totals().calls), (5, 1));
    assert_eq!(segments.discard(true).len(), 1);
    assert_eq!(segments.totals().calls, 0);
}

#[test]
fn delivered_bundles_take_no_space() {
    let folder = tempfile::tempdir().unwrap();
    let (mut segments, _) = opened(folder.path(), BOUNDS, RULES);
    for number in 0..100 {
        let content = content(number, 50, Compression::Fast);
        let (place, _) = segments.append(&content, Ticket::new(number), 1).unwrap();
        assert!(segments.is_dirty());
        segments.settle(place, State::Delivered).unwrap();
        assert!(!segments.is_dirty(), "nothing that waits is unsynced");
        segments.empty_last();
        assert_eq!(segments.totals().bytes, 64, "the header of the index");
    }
    assert_eq!(names(folder.path()), ["0000000001.index", "0000000001.zz"]);
}

/// The two files of a segment as the document describes them, written without the code that is tested.
fn write_by_hand(folder: &Path, version: u8, key: u128, text: &str) {
    let mut stream = ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    stream.write_all(text.as_bytes()).unwrap();
    let stream = stream.finish().unwrap();
    let checksum = |octets: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(octets);
        crc.sum().to_le_bytes()
    };
    let mut header = [b"SNSPOOL", &[version][..], &1_u64.to_le_bytes()].concat();
    header.extend(RULES.to_le_bytes());
    header.extend(1_700_000_000_000_u64.to_le_bytes());
    header.extend([0; 24]);
    header.extend(checksum(&header));
    header.extend([0; 4]);
    // No entry of the call index: it is made from the lines.
    let mut record = [&b"SNBUNDLE"[..], &key.to_le_bytes()].concat();
    record.extend(1_700_000_000_001_u64.to_le_bytes());
    record.extend(0_u64.to_le_bytes());
    record.extend((stream.len() as u32).to_le_bytes());
    record.extend((text.len() as u32).to_le_bytes());
    record.extend((text.lines().count() as u32).to_le_bytes());
    record.extend((text.lines().count() as u32).to_le_bytes());
    record.extend([0; 4]);
    record.extend(checksum(&stream));
    record.extend([0; 8]);
    record.extend(checksum(&record));
    record.extend([0; 4]);
    fs::write(folder.join("0000000001.index"), [header, record].concat()).unwrap();
    fs::write(folder.join("0000000001.zz"), stream).unwrap();
}

#[test]
fn what_the_document_describes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    write_by_hand(folder.path(), b'1', key(2), &text(2, 3));
    let (mut segments, damage) = opened(folder.path(), BOUNDS, RULES);
    assert_eq!(damage, Damage::default());
    assert_eq!(read_all(&mut segments, &[0, 0, 3]), [2]);
}

/// After a step back to an earlier version, what the later one left stays for it.
#[test]
fn a_segment_of_a_later_version_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    write_by_hand(folder.path(), b'2', 7, "[1]\n");
    let before = fs::read(folder.path().join("0000000001.index")).unwrap();
    for _ in 0..2 {
        let (mut segments, damage) = opened(folder.path(), BOUNDS, RULES);
        let expected = Damage {
            later_segments: 1,
            ..Damage::default()
        };
        assert_eq!((damage, segments.totals().calls), (expected, 0));
        let content = content(0, 2, Compression::Fast);
        segments.append(&content, Ticket::new(1), 1).unwrap();
        assert_eq!(segments.discard(true).len(), 1);
        segments.close();
        assert_eq!(overview(folder.path()).unwrap().0, []);
        assert_eq!(each_line(folder.path(), |_, _| true).unwrap(), 0);
    }
    assert_eq!(names(folder.path()), ["0000000001.index", "0000000001.zz"]);
    let after = fs::read(folder.path().join("0000000001.index")).unwrap();
    assert_eq!(before, after);
}

/// A spool with its thread.
struct Bed {
    spool: Spool,
    _folder: Option<TempDir>,
}

impl Bed {
    fn new(folder: &Path, bytes: u64, bytes_per_second: u64) -> Self {
        let config = Config {
            folder: folder.to_owned(),
            bounds: Bounds { bytes, ..BOUNDS },
            bytes_per_second,
            rules: RULES,
        };
        let parker = Arc::new(Parker::new().unwrap());
        Self {
            spool: open(config).unwrap().start(parker).unwrap(),
            _folder: None,
        }
    }

    #[track_caller]
    fn report(&mut self) -> Report {
        let start = Instant::now();
        loop {
            if let Some(report) = self.spool.take_report(Instant::now()) {
                return report;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "no report");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[track_caller]
    fn wait(&self, enough: impl Fn(&Snapshot) -> bool) {
        let start = Instant::now();
        while !enough(&self.spool.view().snapshot()) {
            let snapshot = self.spool.view().snapshot();
            assert!(start.elapsed() < Duration::from_secs(60), "{snapshot:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn what_memory_is_released_of_comes_back_under_a_new_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut bed = Bed::new(folder.path(), 1 << 30, 1 << 30);
    let write = |bed: &mut Bed, number| {
        let content = content(number, 3, Compression::Fast);
        bed.spool.write(content, Instant::now()).unwrap()
    };
    let tickets: Vec<Ticket> = (0..3).map(|number| write(&mut bed, number)).collect();
    bed.spool.load_up_to(2, 0);
    bed.spool.settle(tickets[1], State::Delivered);
    for number in [0, 2] {
        bed.spool.leave(tickets[number], 3);
        let Report::Loaded {
            ticket,
            part,
            calls,
            is_old,
        } = bed.report()
        else {
            panic!("loaded")
        };
        assert_eq!((calls, is_old), (3, false));
        assert_is(&part, number as u64, 3);
        bed.spool.settle(ticket, State::Delivered);
    }
    bed.wait(|snapshot| snapshot.totals.calls == 0);
    // A name that the spool has no bundle for any longer: its memory was the only copy.
    bed.spool.leave(tickets[1], 3);
    let report = bed.report();
    assert!(
        matches!(
            report,
            Report::Lost {
                calls: 3,
                by: LostBy::Unwritten
            }
        ),
        "{report:?}"
    );
    bed.spool.end();
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn what_is_left_at_the_end_is_there_for_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut bed = Bed::new(folder.path(), 1 << 30, 1 << 30);
    for number in 0..200 {
        bed.spool.write_now(content(number, 3, Compression::Fast));
    }
    bed.spool.end();
    let syncs = bed.spool.view().snapshot().syncs;
    drop(bed);
    let mut bed = Bed::new(folder.path(), 1 << 30, 1 << 30);
    assert_eq!(
        (bed.spool.found_calls(), bed.spool.damage()),
        (600, Damage::default())
    );
    for number in 0..200 {
        bed.spool.load_up_to(1, 0);
        let Report::Loaded { part, is_old, .. } = bed.report() else {
            panic!("loaded")
        };
        assert_is(&part, number, 3);
        assert!(is_old);
    }
    assert!(syncs < 200, "not each bundle by itself: {syncs}");
}

#[test]
fn a_folder_that_cannot_be_written_costs_no_bundle_that_is_in_memory() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("spool");
    let mut bed = Bed::new(&folder, 1 << 20, 1 << 30);
    let large = || content(1, 4000, Compression::Level(0));
    // The open files still take bundles; the next segment finds no folder.
    fs::remove_dir_all(&folder).unwrap();
    let mut written = 0;
    let (ticket, again) = loop {
        let ticket = bed.spool.write_now(large());
        bed.wait(|snapshot| snapshot.failed_writes > 0 || snapshot.written_bytes > written);
        written = bed.spool.view().snapshot().written_bytes;
        if let Some(Report::Missing { ticket, again }) = bed.spool.take_report(Instant::now()) {
            break (ticket, again);
        }
        let _ = ticket;
    };
    let _ = ticket;
    assert!(again, "it may be written later");
    assert!(!bed.spool.view().snapshot().trouble.is_empty());
    let now = Instant::now();
    assert!(bed.spool.write(large(), now).is_none(), "not tried at once");
    let later = now + 2 * limits::SPOOL_RETRY_AFTER;
    fs::create_dir(&folder).unwrap();
    let start = Instant::now();
    while !bed.spool.view().snapshot().trouble.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60));
        bed.spool.write(large(), later);
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn bundles_come_back_no_faster_than_they_may() {
    let folder = folder_of(&[3; 10]);
    let bundle = fs::metadata(folder.path().join("0000000001.zz"))
        .unwrap()
        .len()
        / 10;
    // One in an hour.
    let mut bed = Bed::new(folder.path(), 1 << 30, (bundle / 3600).max(1));
    bed.spool.load_up_to(10, 0);
    assert!(
        matches!(bed.report(), Report::Loaded { .. }),
        "the first at once"
    );
    thread::sleep(Duration::from_millis(50));
    assert!(bed.spool.take_report(Instant::now()).is_none());
}
