//! The bed of a measurement: two network namespaces with a cable between them, and processes inside them.
//!
//! Names carry our process id and a count, so that runs never meet; namespaces and processes go away when dropped, and
//! those of a run that was killed when the next one begins. Nothing has a route out: traffic stays inside. Needs root and
//! iproute2.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::time::ClockId;
use nix::unistd::{Pid, geteuid};

use crate::tx::{PacketSender, Way};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A network namespace with loopback up.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new, empty one.
    pub fn new(label: &str) -> Result<Self> {
        ensure!(geteuid().is_root(), "network namespaces need root");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self {
            name: format!("bench{}-{number}-{label}", std::process::id()),
        };
        run(Command::new("ip").args(["netns", "add", &namespace.name]))?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// A command that runs inside; it keeps the process id that it is started with.
    pub fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(words);
        command
    }

    /// `ip ARGUMENTS` inside.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        run(Command::new("ip")
            .args(["-n", &self.name])
            .args(arguments.split_whitespace()))
    }

    /// Runs `work` on a thread inside; sockets made there stay inside wherever they are used.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()
                    .expect("root may enter a namespace that we made");
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn enter(&self) -> Result<()> {
        let file = File::open(format!("/run/netns/{}", self.name))?;
        Ok(setns(file, CloneFlags::CLONE_NEWNET)?)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing is left to do about a namespace that cannot be deleted.
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.name])
            .output();
    }
}

/// Where frames are sent, on [`Lab::source`].
pub const SOURCE: &str = "tx0";
/// Where they arrive, on [`Lab::tap`].
pub const TAP: &str = "rx0";
/// Room for a mirror's outer headers around jumbo frames.
const MTU: u32 = 9100;

/// A cable with a sender's end and a tap, each in a namespace of its own.
#[derive(Debug)]
pub struct Lab {
    /// Holds [`SOURCE`].
    pub source: Namespace,
    /// Holds [`TAP`], the sniffer and the collector.
    pub tap: Namespace,
}

impl Lab {
    /// Two new namespaces. Neither end has an address, so the kernel answers nothing on the cable.
    pub fn new() -> Result<Self> {
        sweep();
        let lab = Self {
            source: Namespace::new("source")?,
            tap: Namespace::new("tap")?,
        };
        let peer = ["peer", "name", TAP, "netns", &lab.tap.name];
        let add = [
            "-n",
            &lab.source.name,
            "link",
            "add",
            SOURCE,
            "type",
            "veth",
        ];
        run(Command::new("ip").args(add).args(peer)).context("is veth in this kernel?")?;
        for (namespace, name) in [(&lab.source, SOURCE), (&lab.tap, TAP)] {
            // IPv6 would send frames of its own.
            let quiet = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
            namespace.inside(|| fs::write(quiet, "1")).unwrap_or(());
            namespace.ip(&format!("link set {name} mtu {MTU} up"))?;
        }
        Ok(lab)
    }

    /// Opens a sender whose frames come in at [`TAP`], and runs `work` with it on a thread of the right namespace.
    pub fn sending<T: Send>(
        &self,
        way: Way,
        cpu: Option<usize>,
        work: impl FnOnce(PacketSender) -> Result<T> + Send,
    ) -> Result<T> {
        let (namespace, interface) = match way {
            Way::Messages | Way::Ring => (&self.source, SOURCE),
            Way::Live => (&self.tap, TAP),
        };
        namespace.inside(|| {
            if let Some(cpu) = cpu {
                pin(cpu)?;
            }
            let sender = PacketSender::open(interface, way);
            work(sender.with_context(|| format!("cannot send by {} on {interface}", way.name()))?)
        })
    }

    /// Frames that have arrived at the tap over the cable, and those that the kernel dropped there.
    pub fn arrived(&self) -> Result<(u64, u64)> {
        let links = self.tap.ip(&format!("-json -statistics link show {TAP}"))?;
        let links: serde_json::Value = serde_json::from_str(&links)?;
        let count = |name: &str| links[0]["stats64"]["rx"][name].as_u64();
        Ok((
            count("packets").context("the tap counts packets")?,
            count("dropped").unwrap_or(0),
        ))
    }
}

/// Deletes namespaces of runs that were killed: their process is gone.
fn sweep() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix("bench")
            .and_then(|rest| rest.split_once('-'))
            .and_then(|(pid, _)| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            drop(Namespace { name });
        }
    }
}

/// Runs a command to its end; an error unless it succeeds.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?} (installed?)"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Keeps the calling thread, and threads it starts, on one CPU.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("cannot pin to CPU {cpu}"))
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

/// What a process and its descendants have used so far.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// User and system time in seconds, to the nanosecond for all but children that have ended.
    pub cpu_seconds: f64,
    /// User time of it in seconds, as the kernel's ticks divide it.
    pub user_seconds: f64,
    /// Peak resident memory in bytes, mapped rings included, summed over the processes that live.
    pub resident_peak_bytes: u64,
    /// Names of its threads that live, and what each has used in seconds.
    pub threads: Vec<(String, f64)>,
}

impl Usage {
    /// What threads whose name begins so have used in seconds.
    pub fn of_threads(&self, name: &str) -> f64 {
        let threads = self.threads.iter();
        threads
            .filter(|(thread, _)| thread.starts_with(name))
            .map(|(_, seconds)| seconds)
            .sum()
    }
}

/// Clock ticks of `/proc/PID/stat` a second: a constant of Linux' interface on all architectures we run on.
const TICKS_PER_SECOND: f64 = 100.0;

impl Running {
    /// Starts it; what it says on standard error goes to `log`.
    pub fn start(command: &mut Command, log: File) -> Result<Self> {
        let out = log.try_clone()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child })
    }

    /// What it and its descendants have used. Children that have ended count once their parent has waited for them.
    pub fn usage(&self) -> Result<Usage> {
        let root = self.child.id();
        let mut family = vec![root];
        let mut usage = Usage::default();
        // Parents before children: process ids are looked up until no new one comes.
        let all = processes();
        let mut index = 0;
        while let Some(&parent) = family.get(index) {
            family.extend(
                all.iter()
                    .filter(|(_, of)| *of == parent)
                    .map(|(pid, _)| *pid),
            );
            index += 1;
        }
        for pid in family {
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
                ensure!(pid != root, "it has ended");
                continue;
            };
            let [user, system, gone_user, gone_system] =
                cpu_ticks(&stat).context("/proc/PID/stat")?;
            let gone = seconds(gone_user + gone_system);
            // Ticks are 10 ms; the clock also knows threads that have ended.
            let precise = process_cpu_seconds(pid).unwrap_or_else(|| seconds(user + system));
            usage.cpu_seconds += precise + gone;
            usage.user_seconds += seconds(user + gone_user);
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            usage.resident_peak_bytes += kilobytes(&status, "VmHWM:") * 1024;
            usage.threads.extend(threads(pid));
        }
        Ok(usage)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing is left to do about a child that cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Names of the threads of a process, and what each has used in seconds.
fn threads(pid: u32) -> impl Iterator<Item = (String, f64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    tasks.into_iter().flatten().flatten().filter_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let seconds = schedstat_seconds(&task.path().join("schedstat"));
        Some((name.trim().to_owned(), seconds))
    })
}

/// Process ids with the ids of their parents.
fn processes() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, after_name(&stat).nth(1)?.parse().ok()?))
    })
    .collect()
}

/// Fields of `/proc/PID/stat` from the third on; the second is a name that may hold anything.
fn after_name(stat: &str) -> impl Iterator<Item = &str> {
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace()
}

/// utime, stime, cutime and cstime (fields 14 to 17 of proc_pid_stat(5)).
fn cpu_ticks(stat: &str) -> Option<[u64; 4]> {
    let mut fields = after_name(stat).skip(11).map(str::parse);
    let mut next = || fields.next()?.ok();
    Some([next()?, next()?, next()?, next()?])
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND
}

/// What all threads of a process have used, those that have ended too: clock_getcpuclockid(3).
fn process_cpu_seconds(pid: u32) -> Option<f64> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid as i32)).ok()?;
    Some(Duration::from(clock.now().ok()?).as_secs_f64())
}

/// A field of `/proc/PID/status` in kilobytes, 0 if it is not there.
pub fn kilobytes(status: &str, label: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(label));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Seconds of CPU that the calling thread has used, to the nanosecond.
pub fn thread_cpu_seconds() -> f64 {
    let now = ClockId::CLOCK_THREAD_CPUTIME_ID.now();
    now.map_or(0.0, |time| Duration::from(time).as_secs_f64())
}

/// Seconds of CPU of another thread, from its file in `/proc`, up to its last tick; 0 if it is not there.
pub fn schedstat_seconds(path: &Path) -> f64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse::<u64>().ok());
    nanos.unwrap_or(0) as f64 / 1e9
}

/// Microseconds since 1970, 0 before.
pub fn micros_since_epoch(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 5 1 1 1";
        assert_eq!(cpu_ticks(stat), Some([11, 22, 33, 44]));
        assert_eq!(after_name(stat).nth(1), Some("1"));
        assert_eq!(
            kilobytes("VmPeak:\t 9 kB\nVmHWM:\t 120 kB\n", "VmHWM:"),
            120
        );
    }

    #[test]
    fn our_own_clock_runs() {
        let pid = std::process::id();
        let before = process_cpu_seconds(pid).unwrap();
        let sum: u64 = (0..200_000_u64).map(std::hint::black_box).sum();
        std::hint::black_box(sum);
        assert!(process_cpu_seconds(pid).unwrap() > before);
    }

    #[test]
    fn threads_are_found_by_name() {
        let worker = thread::Builder::new().name("worker-7".into());
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let worker = worker.spawn(move || stopped.recv().is_err()).unwrap();
        let usage = Usage {
            threads: vec![("worker-1".into(), 0.5), ("other".into(), 1.0)],
            ..Usage::default()
        };
        assert_eq!(usage.of_threads("worker-"), 0.5);
        while !threads(std::process::id()).any(|(name, _)| name == "worker-7") {
            thread::yield_now();
        }
        drop(stop);
        assert!(worker.join().unwrap());
    }

    #[test]
    fn our_own_process_is_among_the_processes() {
        assert!(
            processes()
                .iter()
                .any(|(pid, _)| *pid == std::process::id())
        );
    }
}
