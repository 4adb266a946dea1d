//! What `sniffer read` takes as input: many files, folders, pipes, files that grow. Here belongs what decides which packets
//! are read and in which order, and when the reading ends; the packets themselves are plain.

use std::fs::{self, File, OpenOptions};
use std::io::{PipeWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bench::seed::Seed;
use bench::traffic::{Conversation, Exchange, Frame, Shape, Side, Wire, write_pcap};
use flate2::Compression;
use flate2::write::GzEncoder;
use nix::sys::signal::Signal;
use store::filter::Filter;
use tests::process::{Ended, PATIENCE, Running, eventually, run};
use tests::program::{sniffer, sniffer_ends};
use tests::truth;

/// Settings of all readings.
const SETTINGS: [(&str, &str); 1] = [("USAGE_LOGGERS_RULES", "include debug")];

/// Ends of the packets of a connection by their sender, for a file.
type Sides = Option<Side>;

/// Conversations whose packets are mixed in time, and a folder for their files.
struct Traffic {
    folder: tempfile::TempDir,
    talks: Vec<Conversation>,
}

impl Traffic {
    fn new(seed: u64, talks: usize) -> Result<Self> {
        let mut seed = Seed::new(seed);
        let shape = Shape {
            body_bytes_max: 4000,
            ..Shape::default()
        };
        Ok(Self {
            folder: tempfile::tempdir()?,
            talks: (0..talks)
                .map(|_| Conversation::seeded(&mut seed, &shape))
                .collect(),
        })
    }

    /// All packets in the order of their times, or those of one side.
    fn frames(&self, side: Sides) -> Vec<Frame> {
        let mut frames: Vec<Frame> = Vec::new();
        for talk in &self.talks {
            let segments = talk.segments();
            let wanted = segments
                .iter()
                .filter(|segment| side.is_none_or(|side| segment.side == side));
            frames.extend(wanted.map(|segment| Wire::default().frame(talk, segment)));
        }
        frames.sort_by_key(|frame| frame.time);
        frames
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the packets as consecutive files of these names.
    fn rotated(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let frames = self.frames(None);
        let parts = frames.chunks(frames.len().div_ceil(names.len()));
        ensure!(parts.len() == names.len(), "too few packets");
        names
            .iter()
            .zip(parts)
            .map(|(name, frames)| {
                let path = self.path(name);
                fs::write(&path, capture(frames))?;
                Ok(path)
            })
            .collect()
    }

    #[track_caller]
    fn check(&self, ended: &Ended) {
        let exchanges = self.talks.iter().flat_map(|talk| &talk.exchanges);
        let rows = truth::rows(&ended.stdout);
        let result = rows.and_then(|rows| truth::check_all(exchanges, &rows));
        result.unwrap_or_else(|error| panic!("{error:#}\n{}", ended.stderr));
        assert_eq!(ended.code().unwrap(), 0, "{}", ended.stderr);
    }
}

fn capture(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_pcap(&mut bytes, frames, usize::MAX).expect("memory takes it");
    bytes
}

/// Packets without the header of the file.
fn records(frames: &[Frame]) -> Vec<u8> {
    capture(frames).split_off(24)
}

fn read(words: &[&str], inputs: &[&Path]) -> Result<Ended> {
    let inputs = inputs
        .iter()
        .map(|path| path.to_str().expect("plain names"));
    let words: Vec<&str> = ["read"]
        .into_iter()
        .chain(words.iter().copied())
        .chain(inputs)
        .collect();
    sniffer_ends(&words, &SETTINGS)
}

fn paths(paths: &[PathBuf]) -> Vec<&Path> {
    paths.iter().map(PathBuf::as_path).collect()
}

#[test]
fn files_are_read_in_the_order_of_their_packets() -> Result<()> {
    let traffic = Traffic::new(1, 30)?;
    let mut files = traffic.rotated(&["t1", "t2", "t3", "t4", "t5", "t10", "t11"])?;
    files.sort();
    traffic.check(&read(&[], &paths(&files))?);
    files.reverse();
    traffic.check(&read(&[], &paths(&files))?);
    let words: Vec<&str> = files[1..]
        .iter()
        .flat_map(|path| ["-r", path.to_str().expect("plain names")])
        .collect();
    traffic.check(&read(&words, &[&files[0]])?);
    Ok(())
}

#[test]
fn a_folder_is_one_capture_whatever_rotated_it() -> Result<()> {
    for names in [
        ["x.pcap", "x.pcap1", "x.pcap2", "x.pcap10"],
        ["x.pcap03", "x.pcap00", "x.pcap01", "x.pcap02"],
        [
            "x_00001_20260102030405.pcapng",
            "x_00002_20260102030405.pcapng",
            "x_00010_20260102030405.pcapng",
            "x_00100_20260102030405.pcapng",
        ],
        ["x.pcap.3", "x.pcap.2", "x.pcap.1", "x.pcap"],
    ] {
        let traffic = Traffic::new(2, 20)?;
        let files = traffic.rotated(&names)?;
        let plain = fs::read(&files[1])?;
        let name = format!("{}.gz", names[1]);
        let mut packed = GzEncoder::new(File::create(traffic.path(&name))?, Compression::fast());
        packed.write_all(&plain)?;
        packed.finish()?;
        fs::remove_file(&files[1])?;
        let ended = read(&[], &[traffic.folder.path()])?;
        traffic.check(&ended);
        ensure!(!ended.stderr.contains("W082"), "{}", ended.stderr);
    }
    Ok(())
}

#[test]
fn a_file_for_each_direction_gives_whole_calls() -> Result<()> {
    let traffic = Traffic::new(3, 20)?;
    let (up, down) = (traffic.path("up"), traffic.path("down"));
    fs::write(&up, capture(&traffic.frames(Some(Side::Client))))?;
    fs::write(&down, capture(&traffic.frames(Some(Side::Server))))?;
    traffic.check(&read(&[], &[&up, &down])?);
    traffic.check(&read(&[], &[&down, &up])?);
    // One after the other in one file, as `cat` or `mergecap -a` has it.
    let both = traffic.path("both");
    let mut bytes = fs::read(&up)?;
    bytes.extend(records(&traffic.frames(Some(Side::Server))));
    fs::write(&both, bytes)?;
    let ended = read(&[], &[&both])?;
    traffic.check(&ended);
    ensure!(
        ended.stderr.contains("W082") && ended.stderr.contains("2 parts"),
        "{}",
        ended.stderr
    );
    // Of more parts than are merged, the first place is named.
    let mut many = fs::read(&both)?;
    for _ in 0..16 {
        many.extend(records(&traffic.frames(Some(Side::Client))));
    }
    fs::write(&both, many)?;
    let ended = read(&[], &[&both])?;
    ensure!(
        ended.stderr.contains("W082") && ended.stderr.contains("earlier than"),
        "{}",
        ended.stderr
    );
    Ok(())
}

#[test]
fn one_direction_is_explained() -> Result<()> {
    let traffic = Traffic::new(5, 30)?;
    let up = traffic.path("up");
    fs::write(&up, capture(&traffic.frames(Some(Side::Client))))?;
    let ended = read(&[], &[&up])?;
    ensure!(
        ended.stderr.contains("W064") && ended.stderr.contains("both ports of a tap"),
        "{}",
        ended.stderr
    );
    let both = traffic.path("both");
    fs::write(&both, capture(&traffic.frames(None)))?;
    ensure!(!read(&[], &[&both])?.stderr.contains("W064"));
    Ok(())
}

/// A file for each packet, most of which start before others end: more than may be open.
#[test]
fn many_files_that_overlap_are_bounded() -> Result<()> {
    let traffic = Traffic::new(4, 40)?;
    let frames = traffic.frames(None);
    let count = 600.min(frames.len() / 2);
    let mut files = Vec::new();
    for number in 0..count {
        let part: Vec<Frame> = frames.iter().skip(number).step_by(count).cloned().collect();
        let path = traffic.path(&format!("{number}.pcap"));
        fs::write(&path, capture(&part))?;
        files.push(path);
    }
    let ended = read(&[], &[traffic.folder.path()])?;
    ensure!(
        ended.stderr.contains("W082") && ended.stderr.contains("more than 256 files"),
        "{}",
        ended.stderr
    );
    for file in &files[200..] {
        fs::remove_file(file)?;
    }
    let mut kept: Vec<Frame> = Vec::new();
    for number in 0..200 {
        kept.extend(frames.iter().skip(number).step_by(count).cloned());
    }
    kept.sort_by_key(|frame| frame.time);
    let merged = traffic.path("merged");
    fs::write(&merged, capture(&kept))?;
    let one = read(&[], &[&merged])?;
    let many = read(&[], &paths(&files[..200]))?;
    ensure!(one.stdout == many.stdout, "{}\n{}", one.stderr, many.stderr);
    Ok(())
}

#[test]
fn a_named_pipe_is_read() -> Result<()> {
    let traffic = Traffic::new(5, 5)?;
    let pipe = traffic.path("pipe");
    run(Command::new("mkfifo").arg(&pipe))?;
    let bytes = capture(&traffic.frames(None));
    let writer = pipe.clone();
    let writing = std::thread::spawn(move || fs::write(writer, bytes));
    let ended = read(&[], &[&pipe])?;
    writing.join().expect("the writer does not panic")?;
    traffic.check(&ended);
    Ok(())
}

/// A `sniffer read` that is fed while it runs.
fn start_reading(words: &[&str]) -> Result<(Running, PipeWriter)> {
    let (theirs, ours) = std::io::pipe()?;
    let reading = Running::start_fed(sniffer(words).envs(SETTINGS), theirs.into())?;
    Ok((reading, ours))
}

/// A connection with one call.
fn live(number: u64) -> Conversation {
    let mut talk = Conversation::new(vec![Exchange::get(number, "/live", "text")]);
    talk.client.set_port(40_000 + number as u16);
    talk
}

#[test]
fn each_call_of_a_running_capture_is_shown_at_once_and_a_signal_loses_none() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (reading, mut input) = start_reading(&["read", "-"])?;
        input.write_all(&capture(&[]))?;
        for number in 1..4 {
            let talk = live(number);
            let frames: Vec<Frame> = talk
                .segments()
                .iter()
                .map(|segment| Wire::default().frame(&talk, segment))
                .collect();
            input.write_all(&records(&frames))?;
            let shown = || {
                let lines = reading.stdout().lines().count();
                ensure!(lines == number as usize, "{lines} lines");
                Ok(())
            };
            eventually(PATIENCE, shown)?;
        }
        // A request whose response is still to come, then the signal: it is a half call, and counted.
        let talk = live(4);
        let frames: Vec<Frame> = talk
            .segments()
            .iter()
            .take_while(|segment| segment.side == Side::Client || segment.payload.is_empty())
            .map(|segment| Wire::default().frame(&talk, segment))
            .collect();
        input.write_all(&records(&frames))?;
        reading.signal(signal)?;
        let ended = reading.end(PATIENCE)?;
        ensure!(ended.code()? == 0, "{ended:?}");
        ensure!(
            ended.stderr.contains("3 calls, 1 half call"),
            "{}",
            ended.stderr
        );
        drop(input);
    }
    Ok(())
}

#[test]
fn a_capture_that_grows_and_is_rotated_is_followed() -> Result<()> {
    let traffic = Traffic::new(6, 12)?;
    let frames = traffic.frames(None);
    let parts: Vec<&[Frame]> = frames.chunks(frames.len().div_ceil(4)).collect();
    let first = traffic.path("x.pcap");
    fs::write(&first, capture(parts[0]))?;
    let path = first.to_str().context("plain")?;
    let mut command = sniffer(&["read", "--follow", path]);
    let reading = Running::start(command.envs(SETTINGS))?;
    let shown = |least: usize| {
        let lines = reading.stdout().lines().count();
        ensure!(lines >= least, "{lines} lines");
        Ok(lines)
    };
    let before = eventually(PATIENCE, || shown(1))?;
    // A part of a packet, then the rest of it.
    let mut file = OpenOptions::new().append(true).open(&first)?;
    let more = records(parts[1]);
    let (some, rest) = more.split_at(more.len() / 2);
    file.write_all(some)?;
    std::thread::sleep(Duration::from_millis(300));
    file.write_all(rest)?;
    let before = eventually(PATIENCE, || shown(before + 1))?;
    fs::write(traffic.path("x.pcap1"), capture(parts[2]))?;
    eventually(PATIENCE, || shown(before + 1))?;
    // The first name is used again, as by tcpdump -W.
    fs::write(&first, capture(parts[3]))?;
    let all = traffic.talks.iter().map(|talk| talk.exchanges.len()).sum();
    eventually(PATIENCE, || shown(all))?;
    reading.signal(Signal::SIGTERM)?;
    traffic.check(&reading.end(PATIENCE)?);
    Ok(())
}

#[test]
fn a_count_ends_the_reading() -> Result<()> {
    let traffic = Traffic::new(7, 5)?;
    let file = traffic.rotated(&["t"])?.remove(0);
    let ended = read(&["-n", "3"], &[&file])?;
    ensure!(
        ended.code()? == 0 && ended.stdout.lines().count() == 3,
        "{ended:?}"
    );
    let ended = read(&["-n", "3", "--ledger", "-", "--strict"], &[&file])?;
    ensure!(ended.stdout.contains("\"sent\":3"), "{ended:?}");
    Ok(())
}

#[test]
fn a_filter_chooses_calls() -> Result<()> {
    let traffic = Traffic::new(11, 12)?;
    let files = traffic.rotated(&["a.pcap"])?;
    let lines = |words: &[&str]| -> Result<Vec<String>> {
        let ended = read(words, &paths(&files))?;
        ensure!(ended.code()? == 0, "{}", ended.stderr);
        Ok(ended.stdout.lines().map(str::to_owned).collect())
    };
    let all = lines(&["--annotate"])?;
    let matching = |filter: &str| -> Result<Vec<String>> {
        let filter = Filter::parse(filter).map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut found = all.clone();
        found.retain(|line| filter.matches(line));
        ensure!(!found.is_empty() && found.len() < all.len(), "it chooses");
        Ok(found)
    };
    for filter in [
        "method==GET",
        "status>=300 or client_port>1 and method!=GET",
    ] {
        let expected = matching(filter)?;
        let found = lines(&["--annotate", "--where", filter])?;
        ensure!(found == expected, "{filter}: {} calls", found.len());
    }
    // What is compared is in the lines without a word about it.
    let port = "client_port>0 method==GET";
    ensure!(lines(&["--where", port])? == matching("method==GET")?);

    let refused = read(&["--where", "statsu>=500"], &paths(&files))?;
    ensure!(refused.code()? == 2, "{refused:?}");
    for part in ["error[E130]", "\n         ^^^^^^\n", "fix: status>=500"] {
        ensure!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    Ok(())
}

/// What the message of a reading without calls has to name.
#[track_caller]
fn check_diagnosis(bytes: &[u8], words: &[&str], code: i32, expected: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pcap");
    fs::write(&path, bytes).unwrap();
    let ended = read(words, &[&path]).unwrap();
    assert_eq!(ended.code().unwrap(), code, "{}", ended.stderr);
    for part in expected {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
}

#[test]
fn a_reading_without_calls_is_explained() -> Result<()> {
    let talk = Conversation::new(vec![Exchange::get(1, "/a/long/enough/path", "text")]);
    let frames: Vec<Frame> = talk
        .segments()
        .iter()
        .map(|segment| Wire::default().frame(&talk, segment))
        .collect();
    let port = talk.server.port() + 1;
    let ports = ["--ports", &port.to_string()];
    check_diagnosis(
        &capture(&frames),
        &ports,
        0,
        &[
            "W061",
            &format!("1 connection on other ports: 1 on {}", talk.server.port()),
            &format!("--ports {}    or --ports all", talk.server.port()),
        ],
    );
    let mut cut = Vec::new();
    write_pcap(&mut cut, &frames, 80)?;
    check_diagnosis(&cut, &[], 0, &["W081", "cut", "tcpdump -s 0"]);
    check_diagnosis(&cut, &["--strict"], 8, &["E120"]);
    check_diagnosis(&capture(&[]), &[], 0, &["W060", "no packets"]);
    let arp = Frame {
        time: 0,
        bytes: [&[0xff; 12][..], &[8, 6], &[0; 28]].concat(),
    };
    check_diagnosis(&capture(&[arp]), &[], 0, &["W067", "no TCP in 1 packet"]);
    Ok(())
}

#[test]
fn what_cannot_be_read_is_not_summed_up() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let missing = folder.path().join("missing.pcap");
    let ended = read(&[], &[&missing])?;
    ensure!(
        ended.code()? == 6 && ended.stderr.contains("E080"),
        "{ended:?}"
    );
    ensure!(!ended.stderr.contains("calls"), "{}", ended.stderr);
    // With a file that can be read there is something to sum up.
    let traffic = Traffic::new(8, 3)?;
    let file = traffic.rotated(&["t"])?.remove(0);
    let ended = read(&[], &[&missing, &file])?;
    ensure!(
        ended.code()? == 6 && ended.stderr.contains("calls"),
        "{ended:?}"
    );
    Ok(())
}

#[test]
fn habits_of_other_readers_are_answered() {
    for (words, expected) in [
        (&["read", "-f", "port 80", "x"][..], "sniffer read -"),
        (&["read", "--url", "http://x/", "x"], "sniffer run --url"),
        (&["read", "-c", "3", "x"], "-n COUNT"),
        (&["run", "-r", "x"], "sniffer read FILE"),
    ] {
        let ended = sniffer_ends(words, &[]).unwrap();
        assert_eq!(ended.code().unwrap(), 2, "{words:?}");
        assert!(
            ended.stderr.contains("E001") && ended.stderr.contains(expected),
            "{words:?}: {}",
            ended.stderr
        );
    }
}
