//! Everything that goes wrong with a destination, a disk and a process, in an order that a seed decides; at the end each call is
//! delivered once, or a number that was shown explains why not.
//!
//! `CHAOS_SECONDS` is how long faults follow each other, `CHAOS_SEED` which.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Behaviour, Collector};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::capture::Capture;
use tests::disk::Disk;
use tests::http::request;
use tests::network::Namespace;
use tests::nginx::Nginx;
use tests::process::{PATIENCE, eventually, run};

const URL: &str = "http://127.0.0.1:7711/message";

/// Bytes of the disk: some bundles more than wait at a time.
const DISK: &str = "8m";

fn setting(name: &str, default: u64) -> u64 {
    let text = env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A small file system of memory for the spool.
struct SpoolDisk {
    // Unmounted before its folder is removed.
    _mount: Disk,
    folder: TempDir,
}

impl SpoolDisk {
    fn mount() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mount = Disk::mount(folder.path(), DISK)?;
        Ok(Self {
            _mount: mount,
            folder,
        })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all space, or gives it back.
    fn set_full(&self, is_full: bool) {
        let filler = self.path().join("filler");
        let _ = fs::remove_file(&filler);
        if is_full && let Ok(mut file) = fs::File::create(filler) {
            while file.write_all(&[0; 4096]).is_ok() {}
        }
    }

    /// Files of segments.
    fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path()).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("00"))
        });
        let mut paths: Vec<PathBuf> = paths.collect();
        paths.sort();
        paths
    }

    /// Flips a bit of a file, or cuts its end.
    fn damage(&self, dice: &mut Dice) -> Result<String> {
        let mut files = self.segments();
        files.retain(|path| path.metadata().is_ok_and(|file| file.len() > 0));
        if files.is_empty() {
            return Ok("nothing to damage".to_owned());
        }
        let path = &files[dice.below(files.len() as u64) as usize];
        let length = fs::metadata(path)?.len();
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let at = dice.below(length);
        let what = format!("{} at {at} of {length}", path.display());
        if dice.below(2) == 0 {
            file.set_len(at)?;
            return Ok(format!("cut {what}"));
        }
        let mut octet = [0];
        file.read_exact_at(&mut octet, at)?;
        octet[0] ^= 1 << dice.below(8);
        file.write_all_at(&octet, at)?;
        Ok(format!("flipped {what}"))
    }
}

/// What a process said of itself when it was last asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    seen: u64,
    recovered: u64,
    sent: u64,
    dropped: u64,
    /// On disk, whether in memory as well or not.
    on_disk: u64,
    /// Without a record: whether they were delivered is unknown.
    unknown: u64,
}

impl Account {
    fn of(status: &Value) -> Result<Self> {
        let capture = &status["capture"];
        let calls = &capture["calls"];
        ensure!(calls["unaccounted"] == 0, "{status}");
        let number = |value: &Value| value.as_u64().with_context(|| format!("{status}"));
        let dropped = calls["dropped"].as_object().context("an object")?;
        let spool = &capture["output"]["spool"];
        Ok(Self {
            seen: number(&calls["seen"])?,
            recovered: number(&calls["recovered"])?,
            sent: number(&calls["sent"])?,
            dropped: dropped.values().filter_map(Value::as_u64).sum(),
            on_disk: number(&spool["calls"])?,
            unknown: number(&spool["unknown_calls"])?,
        })
    }

    /// Calls that neither the collector nor the disk has: what a kill costs at most.
    fn at_stake(&self) -> u64 {
        (self.seen + self.recovered).saturating_sub(self.sent + self.dropped + self.on_disk)
    }
}

/// The scene. A capture borrows only the namespace.
struct Chaos<'a> {
    namespace: &'a Namespace,
    collector: Collector,
    disk: SpoolDisk,
    dice: Dice,
    /// Calls that were made.
    made: u64,
    /// Of these, calls while the present process captured.
    made_now: u64,
    /// Calls that may be missing, with a number that was shown as the reason.
    explained: u64,
    is_cut_off: bool,
    is_full: bool,
    story: Vec<String>,
}

impl<'a> Chaos<'a> {
    fn start(&mut self) -> Result<Capture<'a>> {
        self.made_now = 0;
        let spool = self.disk.path().display().to_string();
        let settings = [
            ("NET_DEVICE", "lo"),
            ("APP_PORTS", "80"),
            ("SNIFFER_SPOOL", spool.as_str()),
            ("SNIFFER_FLUSH_TIMEOUT", "300ms"),
            ("USAGE_LOGGERS_RULES", "include debug\nallow_http_url"),
        ];
        Capture::start(self.namespace, URL, &settings)
    }

    /// Makes calls with a number each.
    fn call(&mut self, count: u64) -> Result<()> {
        let first = self.made;
        self.namespace.inside(|| -> Result<()> {
            for number in first..first + count {
                let number = number.to_string();
                let headers = [("X-Call-Number", number.as_str())];
                request("127.0.0.1:80", "GET", "/hello", &headers, b"")?;
            }
            Ok(())
        })?;
        self.made += count;
        self.made_now += count;
        Ok(())
    }

    /// The account of the process once it has seen what was made. Two in a row are equal, so none was taken while a bundle
    /// passed from one number to another.
    fn account(&self, capture: &Capture<'_>) -> Result<Account> {
        let mut last = None;
        eventually(PATIENCE, || {
            let status = capture.status()?;
            let account = Account::of(&status)?;
            let is_still = last.replace(account) == Some(account);
            let made = self.made_now;
            ensure!(is_still && account.seen == made, "{made} made, {status}");
            Ok(account)
        })
    }

    fn cut_off(&mut self, is_cut_off: bool) -> Result<()> {
        if self.is_cut_off != is_cut_off {
            let action = if is_cut_off { "-I" } else { "-D" };
            let rule = ["OUTPUT", "-p", "tcp", "--dport", "7711", "-j", "DROP"];
            run(self.namespace.command("iptables").arg(action).args(rule))?;
            self.is_cut_off = is_cut_off;
        }
        Ok(())
    }

    fn set_full(&mut self, is_full: bool) {
        self.disk.set_full(is_full);
        self.is_full = is_full;
    }

    /// One fault, or the end of one.
    fn fault(&mut self) -> Result<()> {
        let behaviours = [
            Behaviour::Accept,
            Behaviour::Accept,
            Behaviour::Refuse(500),
            Behaviour::Refuse(503),
            Behaviour::Refuse(429),
            Behaviour::Stall,
            Behaviour::Reset,
            Behaviour::Lie,
        ];
        match self.dice.below(12) {
            0 | 1 => {
                let is_full = self.dice.below(4) == 0;
                self.set_full(is_full);
                self.story.push(format!("disk full: {is_full}"));
            }
            2 => {
                let is_cut_off = !self.is_cut_off;
                self.cut_off(is_cut_off)?;
                self.story.push(format!("cut off: {is_cut_off}"));
            }
            _ => {
                let next = behaviours[self.dice.below(behaviours.len() as u64) as usize];
                self.collector.set_behaviour(next);
                self.story.push(format!("{next:?}"));
            }
        }
        Ok(())
    }

    /// Ends a process, by a kill or by a signal that it heeds, perhaps damages its files, and starts the next one.
    fn next_process(&mut self, capture: Capture<'a>) -> Result<Capture<'a>> {
        let account = if self.is_full || self.dice.below(3) == 0 {
            self.account(&capture)?
        } else {
            // Once its bundles are closed, a process has nothing that a kill could cost.
            eventually(PATIENCE, || {
                let account = self.account(&capture)?;
                ensure!(account.at_stake() == 0, "{account:?}");
                Ok(account)
            })?
        };
        self.explained += account.dropped + account.unknown;
        let is_stopped = self.dice.below(3) == 0;
        // A stop leaves everything to the spool, if there is room on the disk.
        if !is_stopped || self.is_full {
            self.explained += account.at_stake();
        }
        if is_stopped {
            self.story.push(format!("stopped: {account:?}"));
            capture.terminate()?;
        } else {
            self.story.push(format!("killed: {account:?}"));
            capture.signal(Signal::SIGKILL)?;
            drop(capture);
        }
        if self.dice.below(3) == 0 {
            let what = self.disk.damage(&mut self.dice)?;
            self.story.push(what);
        }
        self.start()
    }

    fn run(&mut self, length: Duration) -> Result<()> {
        let mut capture = self.start()?;
        let deadline = Instant::now() + length;
        while Instant::now() < deadline {
            let calls = 5 + self.dice.below(30);
            self.call(calls)?;
            self.fault()?;
            thread::sleep(Duration::from_millis(100 + self.dice.below(500)));
            if self.dice.below(6) == 0 {
                capture = self.next_process(capture)?;
            }
        }
        self.cut_off(false)?;
        self.set_full(false);
        self.collector.set_behaviour(Behaviour::Accept);
        // The next process waits for nothing that this one has met.
        capture = self.next_process(capture)?;
        let rules = "include debug\nallow_http_url";
        // Where the head of an index is damaged, the rules are unknown.
        let order = capture.control(&["spool", "drain", "--url", URL, "--rules", rules])?;
        ensure!(order.code()? == 0, "{order:?}");
        eventually(PATIENCE, || {
            let status = capture.status()?;
            let calls = &status["capture"]["calls"];
            ensure!(calls["spooled"] == 0 && calls["in_flight"] == 0, "{status}");
            Ok(())
        })?;
        let account = self.account(&capture)?;
        self.story.push(format!("at the end: {account:?}"));
        self.explained += account.dropped + account.unknown;
        ensure!(account.at_stake() == 0, "{account:?}");
        capture.terminate()?;
        Ok(())
    }
}

#[test]
fn whatever_happens_each_call_is_delivered_once_or_accounted_for() -> Result<()> {
    let seed = setting("CHAOS_SEED", 14);
    let length = Duration::from_secs(setting("CHAOS_SECONDS", 30));
    let namespace = Namespace::new("chaos")?;
    let _nginx = Nginx::start(&namespace)?;
    let listener = namespace.inside(|| TcpListener::bind("127.0.0.1:7711"))?;
    let mut chaos = Chaos {
        namespace: &namespace,
        collector: Collector::serve(listener)?,
        disk: SpoolDisk::mount()?,
        dice: Dice(seed),
        made: 0,
        made_now: 0,
        explained: 0,
        is_cut_off: false,
        is_full: false,
        story: Vec::new(),
    };
    let ran = chaos.run(length);
    let story = || format!("seed {seed}\n{}", chaos.story.join("\n"));
    ran.with_context(story)?;
    let counts = chaos.collector.counts();
    let missing = chaos.made - counts.lines;
    println!(
        "{}\n{} calls, {missing} missing, {} explained, {} sent again",
        story(),
        chaos.made,
        chaos.explained,
        counts.repeated
    );
    ensure!(
        counts.duplicates == 0 && counts.broken == 0,
        "{counts:?}\n{}",
        story()
    );
    ensure!(chaos.made > 0 && counts.lines > 0, "nothing happened");
    ensure!(
        missing <= chaos.explained,
        "{missing} of {} missing, {} explained\n{}",
        chaos.made,
        chaos.explained,
        story()
    );
    Ok(())
}
