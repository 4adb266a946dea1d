//! Memory, threads and CPU time of this process, from `/proc/self` (proc(5)). What cannot be read is not shown.

use std::path::Path;
use std::time::Duration;

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Resident memory in bytes, rings included.
    pub resident_bytes: Option<u64>,
    /// Resident memory in bytes that belongs to no file and no ring.
    pub anonymous_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
    /// CPU time of user and system.
    pub cpu: Option<Duration>,
}

/// Of a clock tick in `/proc/self/stat`: USER_HZ is 100 wherever we run.
const TICK: Duration = Duration::from_millis(10);

impl Process {
    /// Reads the present values.
    pub fn read() -> Self {
        let text = |name| std::fs::read_to_string(name).unwrap_or_default();
        Self {
            descriptors: std::fs::read_dir("/proc/self/fd")
                .map(|entries| entries.count() as u64)
                .ok(),
            ..Self::parse(&text("/proc/self/status"), &text("/proc/self/stat"))
        }
    }

    fn parse(status: &str, stat: &str) -> Self {
        let number = |label: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(label))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let bytes = |label| Some(number(label)? * 1024);
        // The name of the program stands in brackets and may hold anything; utime and stime are 12 and 13 behind it.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let mut ticks = fields.split_whitespace().skip(11);
        let mut next = || ticks.next()?.parse::<u32>().ok();
        Self {
            resident_bytes: bytes("VmRSS:"),
            anonymous_bytes: bytes("RssAnon:"),
            threads: number("Threads:"),
            descriptors: None,
            cpu: next()
                .zip(next())
                .map(|(user, system)| TICK * (user + system)),
        }
    }
}

/// What runs the container that this process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// A node of Kubernetes.
    Kubernetes,
}

impl Container {
    /// How `command` is run in the container from outside of it.
    pub fn exec(self, command: &str) -> String {
        match self {
            Self::Docker => format!("docker exec NAME {command}"),
            Self::Podman => format!("podman exec NAME {command}"),
            Self::Kubernetes => format!("kubectl exec POD -- {command}"),
        }
    }
}

/// The container that this process runs in; none on a host, and where no known program runs it.
pub fn container() -> Option<Container> {
    let has = |file: &str| Path::new(file).exists();
    container_of(has, std::env::var_os("KUBERNETES_SERVICE_HOST").is_some())
}

/// The kind by the files that each leaves. Kubernetes has variables only, beside the files of what runs its containers.
fn container_of(has: impl Fn(&str) -> bool, has_cluster: bool) -> Option<Container> {
    if has_cluster {
        Some(Container::Kubernetes)
    } else if has("/.dockerenv") {
        Some(Container::Docker)
    } else if has("/run/.containerenv") {
        Some(Container::Podman)
    } else {
        None
    }
}

/// Whether this process runs in a container.
pub fn is_in_container() -> bool {
    container().is_some()
}

/// Whether the first process of this container is a sniffer with a control socket, which then is there or soon will be.
pub fn is_container_of_sniffer() -> bool {
    std::fs::read("/proc/1/cmdline").is_ok_and(|line| is_serving(&line))
}

/// Whether a command line, its words ended by zeros, is that of such a sniffer.
fn is_serving(line: &[u8]) -> bool {
    let mut words = line.split(|&byte| byte == 0);
    let program = words.next().unwrap_or_default();
    let is_sniffer = program == b"sniffer" || program.ends_with(b"/sniffer");
    is_sniffer && words.any(|word| matches!(word, b"all-in-one" | b"demo" | b"run"))
}

/// Whether this Linux is the virtual machine in which Docker Desktop runs containers on a Mac or on Windows.
pub fn is_docker_desktop() -> bool {
    let version = std::fs::read_to_string("/proc/version").unwrap_or_default();
    version.contains("linuxkit")
}

/// The value of a line of `/proc/self/status`.
pub fn status_value(label: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(label))
        .map_or("?".to_owned(), |value| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sniffer_that_serves_is_known_by_its_command_line() {
        for (line, is) in [
            ("sniffer\0all-in-one\0", true),
            ("/usr/local/bin/sniffer\0run\0--no-send\0", true),
            ("sniffer\0read\0run.pcap\0", false),
            ("/sbin/init\0", false),
            ("/bin/sh\0run\0", false),
            ("", false),
        ] {
            assert_eq!(is_serving(line.as_bytes()), is, "{line:?}");
        }
    }

    #[test]
    fn a_command_is_run_by_what_runs_the_container() {
        let exec = |file: &str, has_cluster| {
            let found = container_of(|name| name == file, has_cluster);
            found.map(|kind| kind.exec("sniffer on"))
        };
        let docker = "docker exec NAME sniffer on";
        assert_eq!(exec("/.dockerenv", false).as_deref(), Some(docker));
        let podman = "podman exec NAME sniffer on";
        assert_eq!(exec("/run/.containerenv", false).as_deref(), Some(podman));
        let kubernetes = "kubectl exec POD -- sniffer on";
        assert_eq!(exec("/.dockerenv", true).as_deref(), Some(kubernetes));
        assert_eq!(exec("/etc/hosts", false), None);
    }

    #[test]
    fn reads_the_files_of_proc() {
        let status = "Name:\tsniffer\nVmRSS:\t    2048 kB\nRssAnon:\t     512 kB\nThreads:\t7\n";
        let stat = "18 (a ) b) S 1 18 18 0 -1 4194304 900 0 0 0 250 50 0 0 20 0 7 0 100";
        assert_eq!(
            Process::parse(status, stat),
            Process {
                resident_bytes: Some(2 << 20),
                anonymous_bytes: Some(512 << 10),
                threads: Some(7),
                descriptors: None,
                cpu: Some(Duration::from_secs(3)),
            }
        );
        assert_eq!(Process::parse("", ""), Process::default());
        let now = Process::read();
        assert!(
            now.threads >= Some(1) && now.descriptors >= Some(3),
            "{now:?}"
        );
    }
}
