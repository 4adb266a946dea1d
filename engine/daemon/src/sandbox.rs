//! Confinement of a process that reads hostile bytes: few files, few ports, few system calls, no capability.
//!
//! A [`Plan`] lists what the process will still need. Two steps put it into force, each as far as this kernel supports it
//! and never fatal. The first, [`Plan::confine_files`], restricts files and TCP ports by landlock(7). It comes before
//! other threads are started, since landlock confines one thread and those that it starts later. The second,
//! [`Plan::confine_calls`], restricts the system calls of all threads by seccomp(2), once sockets, rings and threads
//! exist. The result is a [`Confinement`], which is logged once and shown by `status`.
//!
//! All threads of a process are confined alike: they share one memory, so an attacker who has taken over one of them can
//! act through the others. The supervisor is not confined, since it starts programs; it reads no packet and no call.

use std::fmt;
use std::path::{Path, PathBuf};

use caps::CapSet;

mod calls;
mod files;

pub use calls::Calls;
pub use files::Files;

/// Files that the C library reads to resolve names.
const FOR_NAMES: [&str; 10] = [
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/ld.so.cache",
    // The C library loads the modules of nsswitch.conf when it resolves the first name.
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
];

/// Files of the kernel that are read for a status, and when the settings are read again.
const OF_THE_MACHINE: [&str; 4] = [
    "/proc/self",
    "/proc/meminfo",
    "/proc/sys/kernel/hostname",
    "/sys/fs/cgroup",
];

/// Port of DNS, which uses TCP when an answer is too long for a datagram.
const DNS_PORT: u16 = 53;

/// Files that every process needs: the C library reads this one when it returns memory.
const OF_EVERY_ROLE: [&str; 1] = ["/proc/sys/vm/overcommit_memory"];

/// Files that a database needs: SQLite seeds its generator of random numbers from this one.
const OF_THE_DATABASE: [&str; 1] = ["/dev/urandom"];

/// Which process is confined: each has its own set of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `run`: rings, uploader, control socket.
    Capture,
    /// `store`: two listeners and a database.
    Store,
    /// `read`, `rules test`: files in, standard output out, no network at all.
    Reader,
}

/// What a process needs after its start; everything else is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which process.
    pub role: Role,
    /// Files that are read, and folders that are read with everything below them.
    pub read: Vec<PathBuf>,
    /// Folders in which files are created, written and removed.
    pub write: Vec<PathBuf>,
    /// Folders from which a file of this process is removed at the end.
    pub remove: Vec<PathBuf>,
    /// TCP ports to which connections are made, at any address.
    pub connect: Vec<u16>,
    /// An io_uring exists and may be used; a new one may not be made.
    pub uses_uring: bool,
}

impl Plan {
    /// The plan of `sniffer run` without its sinks. `rules` is the file that a reload reads, `control` the socket that is
    /// removed at the end.
    pub fn capture(rules: Option<&Path>, control: &Path) -> Self {
        let nothing = Self::nothing(Role::Capture);
        let mut read = nothing.read.clone();
        read.extend(OF_THE_MACHINE.map(PathBuf::from));
        read.extend(rules.into_iter().flat_map(with_folder));
        Self {
            read,
            remove: vec![folder_of(control)],
            ..nothing
        }
    }

    /// Adds connections to this TCP port, at any address.
    pub fn connect_to(&mut self, port: u16) {
        self.connect.push(port);
    }

    /// Adds look-ups of host names.
    pub fn look_up_names(&mut self) {
        self.connect_to(DNS_PORT);
        self.read.extend(FOR_NAMES.map(PathBuf::from));
        self.read.extend(resolver_files());
    }

    /// The plan of `sniffer store`, with its database in `data`. Its listeners were bound before.
    pub fn store(data: &Path) -> Self {
        let nothing = Self::nothing(Role::Store);
        let mut read = nothing.read.clone();
        read.extend(OF_THE_DATABASE.map(PathBuf::from));
        Self {
            read,
            write: vec![data.to_owned()],
            ..nothing
        }
    }

    /// The plan of a command that reads capture files.
    pub fn reader(files: &[PathBuf]) -> Self {
        let mut plan = Self::nothing(Role::Reader);
        plan.read.extend_from_slice(files);
        plan
    }

    fn nothing(role: Role) -> Self {
        Self {
            role,
            read: OF_EVERY_ROLE.map(PathBuf::from).into(),
            write: Vec::new(),
            remove: Vec::new(),
            connect: Vec::new(),
            uses_uring: false,
        }
    }
}

/// A file, and its folder, in which an editor or a mount may replace it.
fn with_folder(file: &Path) -> [PathBuf; 2] {
    [file.to_owned(), folder_of(file)]
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// `/etc/resolv.conf`, and, where it is a link, the folder of its target, in which a resolver replaces the target. The
/// whole of `/etc` is not allowed: a process of root could read `shadow` there.
fn resolver_files() -> Vec<PathBuf> {
    let name = Path::new("/etc/resolv.conf");
    let mut files = vec![name.to_owned()];
    if let Ok(target) = name.canonicalize() {
        let folder = folder_of(&target);
        if folder != Path::new("/etc") {
            files.push(folder);
        }
    }
    files
}

/// How far a process is confined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// `--no-sandbox`.
    Unwanted,
    /// As far as the kernel supports it.
    Tried {
        /// Files and ports.
        files: Files,
        /// System calls.
        calls: Calls,
        /// Number of capabilities that are left; `None` if it could not be read.
        capabilities: Option<usize>,
    },
}

impl Confinement {
    /// Both steps at once, for a process that has no other thread yet.
    pub fn of(plan: &Plan) -> Self {
        Self::after(plan.confine_files(), plan)
    }

    /// The second step, after the first has given `files`.
    pub fn after(files: Files, plan: &Plan) -> Self {
        // Counted before, since the system call for it is refused afterwards.
        let capabilities = caps::read(None, CapSet::Permitted).map(|left| left.len());
        Self::Tried {
            files,
            calls: plan.confine_calls(),
            capabilities: capabilities.ok(),
        }
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwanted => f.write_str("off (--no-sandbox)"),
            Self::Tried {
                files,
                calls,
                capabilities,
            } => {
                write!(f, "{files}, {calls}, ")?;
                match capabilities {
                    None => f.write_str("capabilities unknown"),
                    Some(1) => f.write_str("1 capability"),
                    Some(count) => write!(f, "{count} capabilities"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_holds_what_is_needed_and_no_more() {
        let rules = Path::new("/etc/rules/mine.txt");
        let mut plan = Plan::capture(Some(rules), Path::new("/run/s/control"));
        plan.connect_to(7701);
        assert_eq!(plan.connect, [7701]);
        assert_eq!(plan.remove, [Path::new("/run/s")]);
        assert_eq!(plan.write, Vec::<PathBuf>::new(), "nothing is written");
        let reads = |plan: &Plan, path: &str| plan.read.iter().any(|read| read == Path::new(path));
        for path in ["/etc/rules/mine.txt", "/etc/rules"] {
            assert!(reads(&plan, path), "{path}");
        }
        for path in ["/etc/hosts", "/etc/ssl/certs", "/etc"] {
            assert!(!reads(&plan, path), "{path}");
        }
        plan.look_up_names();
        assert_eq!(plan.connect, [7701, 53]);
        for path in ["/etc/hosts", "/etc/resolv.conf"] {
            assert!(reads(&plan, path), "{path}");
        }
        for path in ["/etc/ssl/certs", "/etc"] {
            assert!(!reads(&plan, path), "{path}");
        }
    }

    #[test]
    fn it_is_shown_in_one_line() {
        assert_eq!(Confinement::Unwanted.to_string(), "off (--no-sandbox)");
        let tried = Confinement::Tried {
            files: Files::On {
                abi: 3,
                missing: Some("TCP ports, signals"),
            },
            calls: Calls::On,
            capabilities: Some(0),
        };
        assert_eq!(
            tried.to_string(),
            "landlock ABI 3 (not: TCP ports, signals), seccomp on, 0 capabilities"
        );
    }
}
