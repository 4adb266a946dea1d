//! What this process can still do once it reads hostile bytes: few files, few ports, few system calls, no capability.
//!
//! In: a [`Plan`] of what is needed later. Two steps, each as far as this kernel goes and never fatal: files and TCP
//! ports by landlock(7) ([`Plan::confine_files`]), before other threads are started, since a thread is confined alone and
//! those that it starts inherit it; then system calls by seccomp(2) ([`Plan::confine_calls`]), for all threads, once
//! sockets, rings and threads are there. What came of it is a [`Confinement`], told once and shown by `status`.
//!
//! It gives no thread a tighter fence than its neighbours: they share one memory, so a thread that is taken over speaks
//! through the others. The supervisor is not confined, since it starts programs; it reads no packet and no call.

use std::fmt;
use std::path::{Path, PathBuf};

use caps::CapSet;

mod calls;
mod files;

pub use calls::Calls;
pub use files::Files;

/// Where the C library looks up names, and what of the machine is asked when the settings are read again.
const FOR_NAMES: [&str; 10] = [
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/ld.so.cache",
    // Modules of nsswitch.conf are loaded with the first name.
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
];

/// What of the machine is asked for a status, and when the settings are read again.
const OF_THE_MACHINE: [&str; 4] = [
    "/proc/self",
    "/proc/meminfo",
    "/proc/sys/kernel/hostname",
    "/sys/fs/cgroup",
];

/// DNS goes over TCP when an answer is too long for a datagram.
const DNS_PORT: u16 = 53;

/// What the C library asks for when it gives memory back, and randomness.
const OF_EVERYBODY: [&str; 2] = ["/dev/urandom", "/proc/sys/vm/overcommit_memory"];

/// Which process this is: each has system calls of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `run`: rings, uploader, control socket.
    Capture,
    /// `store`: two listeners and a database.
    Store,
    /// `read`, `rules test`: files in, standard output out, no network at all.
    Reader,
}

/// What is needed from now on; the rest is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which process.
    pub role: Role,
    /// Files, and folders with all below them, that are read.
    pub read: Vec<PathBuf>,
    /// Folders in which files are made, written and removed.
    pub write: Vec<PathBuf>,
    /// Folders from which a name of ours is removed at the end.
    pub remove: Vec<PathBuf>,
    /// TCP ports that are connected to, at any address.
    pub connect: Vec<u16>,
    /// io_uring is at work: a ring that exists may be used, a new one may not be made.
    pub uses_uring: bool,
}

impl Plan {
    /// Of `sniffer run` without its sinks. `rules` is the file that the rules are read from again, `control` the socket
    /// that is removed.
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

    /// Also connections to this TCP port, at any address.
    pub fn connect_to(&mut self, port: u16) {
        self.connect.push(port);
    }

    /// Also look-ups of host names.
    pub fn look_up_names(&mut self) {
        self.connect_to(DNS_PORT);
        self.read.extend(FOR_NAMES.map(PathBuf::from));
        self.read.extend(resolver_files());
    }

    /// Of `sniffer store`, with its database in `data`. Its listeners are bound by now.
    pub fn store(data: &Path) -> Self {
        Self {
            write: vec![data.to_owned()],
            ..Self::nothing(Role::Store)
        }
    }

    /// Of a command that reads capture files.
    pub fn reader(files: &[PathBuf]) -> Self {
        let mut plan = Self::nothing(Role::Reader);
        plan.read.extend_from_slice(files);
        plan
    }

    fn nothing(role: Role) -> Self {
        Self {
            role,
            read: OF_EVERYBODY.map(PathBuf::from).into(),
            write: Vec::new(),
            remove: Vec::new(),
            connect: Vec::new(),
            uses_uring: false,
        }
    }
}

/// A file, and the folder in which an editor or a mount puts a new one of that name.
fn with_folder(file: &Path) -> [PathBuf; 2] {
    [file.to_owned(), folder_of(file)]
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// `/etc/resolv.conf`, and where it is a link, the folder in which a resolver replaces what it leads to. Not the whole of
/// `/etc`: a process of root would read `shadow` there.
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

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// `--no-sandbox`.
    Unwanted,
    /// As far as the kernel went.
    Tried {
        /// Files and ports.
        files: Files,
        /// System calls.
        calls: Calls,
        /// Capabilities that are left; none if they could not be read.
        capabilities: Option<usize>,
    },
}

impl Confinement {
    /// Both steps at once, for a process that has no other thread yet.
    pub fn of(plan: &Plan) -> Self {
        Self::after(plan.confine_files(), plan)
    }

    /// The second step, after the first.
    pub fn after(files: Files, plan: &Plan) -> Self {
        // Counted before, since asking for them is among what is refused then.
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
    fn it_is_told_in_one_line() {
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
