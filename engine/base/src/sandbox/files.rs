//! Confinement of files and TCP ports by landlock(7), for the calling thread and those that it starts.
//!
//! Files of the plan that do not exist are left out. Rights up to ABI 7 (Linux 6.15) are handled: to refuse what a later
//! kernel adds would be untested. A kernel that supports fewer rights enforces those.

use std::fmt;
use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};

use super::plan::Plan;

/// The version of the kernel's interface whose rights are handled.
const WANTED: ABI = ABI::V7;

/// Whether files and ports are confined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// Confined.
    On {
        /// The version of the kernel's interface.
        abi: u32,
        /// What it cannot confine yet.
        missing: Option<&'static str>,
    },
    /// Not confined, and why.
    Off(String),
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On { abi, missing: None } => write!(f, "landlock ABI {abi}"),
            Self::On {
                abi,
                missing: Some(what),
            } => write!(f, "landlock ABI {abi} (not: {what})"),
            Self::Off(why) => write!(f, "landlock off ({why})"),
        }
    }
}

impl Plan {
    /// Takes every file and every TCP port that the plan does not name from this thread and those that it starts, for
    /// good. Open files and sockets stay open.
    pub fn confine_files(&self) -> Files {
        match self.restrict() {
            Ok(files) => files,
            Err(error) => Files::Off(error.to_string()),
        }
    }

    fn restrict(&self) -> Result<Files, RulesetError> {
        let done = self.ruleset()?.restrict_self()?;
        Ok(match (done.ruleset, done.landlock) {
            (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
                Files::Off("not switched on in this kernel".into())
            }
            (RulesetStatus::NotEnforced, _) => Files::Off("not in this kernel".into()),
            (
                _,
                LandlockStatus::Available {
                    effective_abi,
                    kernel_abi,
                },
            ) => Files::On {
                abi: kernel_abi.map_or_else(|| number(effective_abi), i32::unsigned_abs),
                missing: missing(effective_abi),
            },
            (_, _) => Files::On {
                abi: 0,
                missing: None,
            },
        })
    }

    fn ruleset(&self) -> Result<RulesetCreated, RulesetError> {
        let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
        // No right to execute, to make a device or to link, not even in the folders that are written.
        let write = read
            | AccessFs::WriteFile
            | AccessFs::Truncate
            | AccessFs::MakeReg
            | AccessFs::RemoveFile;
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::from_all(WANTED))?
            .handle_access(AccessNet::from_all(WANTED))?
            .scope(Scope::from_all(WANTED))?
            .create()?
            .add_rules(path_beneath_rules(there(&self.read), read))?
            .add_rules(path_beneath_rules(there(&self.write), write))?
            .add_rules(path_beneath_rules(
                there(&self.remove),
                AccessFs::RemoveFile,
            ))?;
        for &port in &self.connect {
            rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
        }
        Ok(rules)
    }
}

/// The paths for which landlock has rules. It has none for a pipe in `/dev/fd`, which it never refuses; that has no path
/// of its own, unlike a named pipe.
fn there(paths: &[PathBuf]) -> impl Iterator<Item = &PathBuf> {
    use std::os::unix::fs::FileTypeExt as _;
    paths.iter().filter(|path| {
        path.metadata().is_ok_and(|metadata| {
            let kind = metadata.file_type();
            !kind.is_socket() && (!kind.is_fifo() || path.canonicalize().is_ok())
        })
    })
}

/// The number of a version.
fn number(abi: ABI) -> u32 {
    let all = [
        ABI::V1,
        ABI::V2,
        ABI::V3,
        ABI::V4,
        ABI::V5,
        ABI::V6,
        ABI::V7,
        ABI::V8,
        ABI::V9,
        ABI::V10,
    ];
    all.iter().filter(|known| **known <= abi).count() as u32
}

fn missing(abi: ABI) -> Option<&'static str> {
    if abi < ABI::V3 {
        Some("truncation, TCP ports, signals")
    } else if abi < ABI::V4 {
        Some("TCP ports, signals")
    } else if abi < ABI::V6 {
        Some("signals")
    } else {
        None
    }
}
