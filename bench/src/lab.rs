//! The lab: two network namespaces with a cable (veth pair) between them, and processes in them.
//!
//! Names contain our process id and a count, so that runs do not collide. Namespaces and processes end when they are
//! dropped; those that a killed run has left end when the next run starts. No namespace has a route out, so all traffic
//! stays inside. Needs root and iproute2.

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

use crate::tx::{PacketSender, SenderKind};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A network namespace with loopback up.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new, empty namespace.
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

    /// A command that runs in the namespace, as the process that is started.
    pub fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(words);
        command
    }

    /// Runs `ip ARGUMENTS` in the namespace.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        run(Command::new("ip")
            .args(["-n", &self.name])
            .args(arguments.split_whitespace()))
    }

    /// Runs `work` on a thread in the namespace. Sockets that it opens stay in the namespace wherever they are used.
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
        // Nothing can be done about a namespace that cannot be deleted.
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.name])
            .output();
    }
}

/// The interface that frames are sent on, in [`Lab::source`].
pub const SOURCE: &str = "tx0";
/// The interface at which they arrive, in [`Lab::tap`].
pub const TAP: &str = "rx0";
/// Leaves room for the outer headers of a mirror around jumbo frames.
const MTU: u32 = 9100;

/// A cable whose two ends, the source and the tap, are in a namespace each.
#[derive(Debug)]
pub struct Lab {
    /// The namespace of [`SOURCE`].
    pub source: Namespace,
    /// The namespace of [`TAP`], the sniffer and the collector.
    pub tap: Namespace,
}

impl Lab {
    /// Two new namespaces. Neither end of the cable has an address, so the kernel sends no answers on it.
    pub fn new() -> Result<Self> {
        delete_orphans();
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
        run(Command::new("ip").args(add).args(peer))
            .context("cannot make a veth pair; does this kernel have veth?")?;
        for (namespace, name) in [(&lab.source, SOURCE), (&lab.tap, TAP)] {
            // IPv6 sends frames of its own.
            let disable_ipv6 = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
            namespace
                .inside(|| fs::write(disable_ipv6, "1"))
                .unwrap_or(());
            namespace.ip(&format!("link set {name} mtu {MTU} up"))?;
        }
        Ok(lab)
    }

    /// Opens a sender whose frames arrive at [`TAP`], and runs `work` with it on a thread in the namespace that it needs.
    pub fn sending<T: Send>(
        &self,
        kind: SenderKind,
        cpu: Option<usize>,
        work: impl FnOnce(PacketSender) -> Result<T> + Send,
    ) -> Result<T> {
        let (namespace, interface) = match kind {
            SenderKind::Messages | SenderKind::Ring => (&self.source, SOURCE),
            SenderKind::Live => (&self.tap, TAP),
        };
        namespace.inside(|| {
            if let Some(cpu) = cpu {
                pin(cpu)?;
            }
            let sender = PacketSender::open(interface, kind);
            work(sender.with_context(|| format!("cannot send by {} on {interface}", kind.name()))?)
        })
    }

    /// The receive counters of the tap.
    pub fn tap_counters(&self) -> Result<TapCounters> {
        let links = self.tap.ip(&format!("-json -statistics link show {TAP}"))?;
        let links: serde_json::Value = serde_json::from_str(&links)?;
        let count = |name: &str| links[0]["stats64"]["rx"][name].as_u64();
        Ok(TapCounters {
            frames: count("packets").context("the tap has no packet counter")?,
            dropped: count("dropped").unwrap_or(0),
        })
    }
}

/// What an interface has received.
#[derive(Clone, Copy, Debug)]
pub struct TapCounters {
    /// Frames that arrived over the cable.
    pub frames: u64,
    /// Frames that the kernel dropped there.
    pub dropped: u64,
}

/// Deletes the namespaces of killed runs, whose process does not exist any more.
fn delete_orphans() {
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

/// Runs a command to its end, and returns its output, or an error unless it succeeds.
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

/// Pins the calling thread, and the threads that it starts, to one CPU.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("cannot pin to CPU {cpu}"))
}

/// A running process, which is killed when this is dropped.
#[derive(Debug)]
pub struct RunningProcess {
    child: Child,
}

/// The resources that a process and its descendants have used so far.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// User and system time in seconds; precise to the nanosecond, except for children that have ended.
    pub cpu_seconds: f64,
    /// The user time in it in seconds, with the precision of the kernel's ticks.
    pub user_seconds: f64,
    /// Peak resident memory in bytes, including mapped rings, summed over the processes that run.
    pub resident_peak_bytes: u64,
    /// Names of the running threads, and the CPU seconds of each.
    pub threads: Vec<(String, f64)>,
}

impl Usage {
    /// CPU seconds of the threads whose name starts with `prefix`.
    pub fn of_threads(&self, prefix: &str) -> f64 {
        let threads = self.threads.iter();
        threads
            .filter(|(thread, _)| thread.starts_with(prefix))
            .map(|(_, seconds)| seconds)
            .sum()
    }
}

/// Clock ticks of `/proc/PID/stat` in a second, a constant on all architectures that the bench supports.
const TICKS_PER_SECOND: f64 = 100.0;

impl RunningProcess {
    /// Starts `command`; its standard output and standard error go to `log`.
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

    /// The resources that it and its descendants have used. Children that have ended are included once their parent has
    /// waited for them.
    pub fn usage(&self) -> Result<Usage> {
        let root = self.child.id();
        let mut family = vec![root];
        let mut usage = Usage::default();
        // Breadth first: the children of every process of the family join it.
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
                ensure!(pid != root, "the process has ended");
                continue;
            };
            let [user, system, children_user, children_system] =
                cpu_ticks(&stat).context("/proc/PID/stat")?;
            let children = seconds(children_user + children_system);
            // The clock is more precise than ticks of 10 ms, and includes threads that have ended.
            let precise = process_cpu_seconds(pid).unwrap_or_else(|| seconds(user + system));
            usage.cpu_seconds += precise + children;
            usage.user_seconds += seconds(user + children_user);
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            usage.resident_peak_bytes += kilobytes(&status, "VmHWM:") * 1024;
            usage.threads.extend(threads(pid));
        }
        Ok(usage)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for RunningProcess {
    fn drop(&mut self) {
        // Nothing can be done about a child that cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Names of the threads of a process, and the CPU seconds of each.
fn threads(pid: u32) -> impl Iterator<Item = (String, f64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    tasks.into_iter().flatten().flatten().filter_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let seconds = schedstat_seconds(&task.path().join("schedstat"));
        Some((name.trim().to_owned(), seconds))
    })
}

/// The ids of all processes, each with the id of its parent.
fn processes() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, after_name(&stat).nth(1)?.parse().ok()?))
    })
    .collect()
}

/// The fields of `/proc/PID/stat` from the third on; the second is a name that may contain anything.
fn after_name(stat: &str) -> impl Iterator<Item = &str> {
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace()
}

/// `utime`, `stime`, `cutime` and `cstime` (fields 14 to 17 of proc_pid_stat(5)).
fn cpu_ticks(stat: &str) -> Option<[u64; 4]> {
    let mut fields = after_name(stat).skip(11).map(str::parse);
    let mut next = || fields.next()?.ok();
    Some([next()?, next()?, next()?, next()?])
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND
}

/// CPU seconds of all threads of a process, including those that have ended: clock_getcpuclockid(3).
fn process_cpu_seconds(pid: u32) -> Option<f64> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid as i32)).ok()?;
    Some(Duration::from(clock.now().ok()?).as_secs_f64())
}

/// A field of `/proc/PID/status` in kilobytes, 0 if it is missing.
pub fn kilobytes(status: &str, label: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(label));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// CPU seconds of the calling thread, precise to the nanosecond.
pub fn thread_cpu_seconds() -> f64 {
    let now = ClockId::CLOCK_THREAD_CPUTIME_ID.now();
    now.map_or(0.0, |time| Duration::from(time).as_secs_f64())
}

/// CPU seconds of another thread until its last tick, from its file in `/proc`; 0 if that is missing.
pub fn schedstat_seconds(path: &Path) -> f64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse::<u64>().ok());
    nanos.unwrap_or(0) as f64 / 1e9
}

/// Microseconds since 1970; 0 for times before that.
pub fn micros_since_epoch(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_after_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 5 1 1 1";
        assert_eq!(cpu_ticks(stat), Some([11, 22, 33, 44]));
        assert_eq!(after_name(stat).nth(1), Some("1"));
        assert_eq!(
            kilobytes("VmPeak:\t 9 kB\nVmHWM:\t 120 kB\n", "VmHWM:"),
            120
        );
    }

    #[test]
    fn the_clock_of_this_process_runs() {
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
    fn this_process_is_among_the_processes() {
        assert!(
            processes()
                .iter()
                .any(|(pid, _)| *pid == std::process::id())
        );
    }
}
