//! The default memory limit: a quarter of what this process may use, up to a bound.
//!
//! What it may use is the smallest of the host's memory and the limits of its control group and of the groups around it
//! (`memory.max` of version 2, `memory.limit_in_bytes` of version 1; see cgroups(7)). A file that does not exist is no
//! limit.

use std::fs::read_to_string;
use std::path::Path;

use engine_core::limits::{MEMORY_BYTES_MAX, MEMORY_BYTES_MIN};

/// The default of `SNIFFER_MEMORY_LIMIT`, in bytes.
pub(super) fn share() -> usize {
    let groups = Path::new("/sys/fs/cgroup");
    let membership = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let version_1 = number(&groups.join("memory/memory.limit_in_bytes"));
    share_of(
        [host(), version_1, version_2(groups, &membership)]
            .into_iter()
            .flatten(),
    )
}

fn share_of(limits: impl IntoIterator<Item = usize>) -> usize {
    let least = limits.into_iter().min().unwrap_or(usize::MAX);
    (least / 4).clamp(MEMORY_BYTES_MIN, MEMORY_BYTES_MAX)
}

/// The smallest limit on the way from the root to the group of this process, which `membership` names as `0::/a/b`.
fn version_2(groups: &Path, membership: &str) -> Option<usize> {
    let group = membership
        .lines()
        .find_map(|line| line.strip_prefix("0::"))?;
    let group = groups.join(group.trim_start_matches('/'));
    let around = group
        .ancestors()
        .take_while(|path| path.starts_with(groups));
    around
        .filter_map(|path| number(&path.join("memory.max")))
        .min()
}

fn host() -> Option<usize> {
    let text = read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.trim().trim_end_matches(" kB").parse().ok()?;
    kib.checked_mul(1024)
}

/// The number in a file; `max` is none.
fn number(path: &Path) -> Option<usize> {
    read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(limits: &[usize], expected: usize) {
        assert_eq!(share_of(limits.iter().copied()), expected);
    }

    #[test]
    fn a_quarter_within_bounds() {
        check(&[], MEMORY_BYTES_MAX);
        check(&[64 << 30], MEMORY_BYTES_MAX);
        check(&[64 << 30, 1 << 30], 256 << 20);
        check(&[8 << 20], MEMORY_BYTES_MIN);
    }

    #[test]
    fn the_least_limit_around_us_counts() {
        let groups = tempfile::tempdir().unwrap();
        let group = groups.path().join("pod/container");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("memory.max"), "max\n").unwrap();
        std::fs::write(groups.path().join("pod/memory.max"), "400000\n").unwrap();
        let found = |membership| version_2(groups.path(), membership);
        assert_eq!(found("0::/pod/container\n"), Some(400_000));
        assert_eq!(found("0::/\n"), None);
        assert_eq!(found("4:memory:/pod\n"), None);
    }
}
