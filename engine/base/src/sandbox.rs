//! Confinement of a process that reads hostile bytes: few files, few ports, few system calls, no capability.
//!
//! A [`Plan`] lists what the process will still need. Two steps put it into force, each as far as this kernel supports it
//! and never fatal. The first, [`Plan::confine_files`], restricts files and TCP ports by landlock(7). It comes before
//! other threads are started, since landlock confines one thread and those that it starts later. The second,
//! [`Plan::confine_calls`], restricts the system calls of all threads by seccomp(2), once sockets, rings and threads
//! exist. The result is a [`Confinement`], which `status` shows, and which is logged where something is missing.
//!
//! All threads of a process are confined alike: they share one memory, so an attacker who has taken over one of them can
//! act through the others. The supervisor is not confined, since it starts programs; it reads no packet and no call.

use std::fmt;

use caps::CapSet;

mod calls;
mod files;
mod plan;

pub use calls::Calls;
pub use files::Files;
pub use plan::{Plan, Role};

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

    /// Nothing of the confinement is missing, so it needs no line of the log.
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Tried {
                files: Files::On { missing: None, .. },
                calls: Calls::On,
                capabilities: Some(0),
            }
        )
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
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn a_plan_holds_what_is_needed_and_no_more() {
        let mut plan = Plan::capture(Path::new("/run/s/control"));
        plan.connect_to(7701);
        assert_eq!(plan.connect, [7701]);
        let nothing = Vec::<PathBuf>::new();
        assert_eq!((&plan.write, &plan.remove), (&nothing, &nothing));
        let reads = |plan: &Plan, path: &str| plan.read.iter().any(|read| read == Path::new(path));
        let of_etc = |path: &PathBuf| path.starts_with("/etc");
        assert!(!plan.read.iter().any(of_etc), "{:?}", plan.read);

        let plan = Plan::resolver();
        assert_eq!(plan.connect, [53]);
        for path in ["/etc/hosts", "/etc/resolv.conf"] {
            assert!(reads(&plan, path), "{path}");
        }
        for path in ["/etc/ssl/certs", "/etc"] {
            assert!(!reads(&plan, path), "{path}");
        }

        let plan = Plan::files(&[PathBuf::from("/etc/rules/mine.txt")]);
        assert_eq!(plan.connect, [0; 0]);
        for path in ["/etc/rules/mine.txt", "/etc/rules"] {
            assert!(reads(&plan, path), "{path}");
        }
    }

    #[test]
    fn the_control_socket_is_removed_only_where_nothing_else_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path().join("control.sock");
        let _socket = std::os::unix::net::UnixListener::bind(&control).unwrap();
        assert_eq!(Plan::capture(&control).remove, [folder.path()]);
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(Plan::capture(&control).remove.is_empty());
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

    #[test]
    fn what_is_missing_is_noticed() {
        let tried = |missing, calls, capabilities| Confinement::Tried {
            files: Files::On { abi: 7, missing },
            calls,
            capabilities,
        };
        assert!(tried(None, Calls::On, Some(0)).is_full());
        let off = Calls::Off("not in this kernel".into());
        for partial in [
            Confinement::Unwanted,
            tried(Some("TCP ports"), Calls::On, Some(0)),
            tried(None, off, Some(0)),
            tried(None, Calls::On, Some(1)),
            tried(None, Calls::On, None),
        ] {
            assert!(!partial.is_full(), "{partial}");
        }
    }
}
