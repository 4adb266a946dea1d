//! Memory, threads and CPU time of this process, from `/proc/self` (proc(5)). What cannot be read is not shown.

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

/// Whether this process runs in a container of Docker or Podman.
pub fn is_in_container() -> bool {
    ["/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|file| std::path::Path::new(file).exists())
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
