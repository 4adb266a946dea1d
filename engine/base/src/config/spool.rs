//! Where the spool is: a folder that was named, the usual place in a container, or nowhere.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::setting::Kind;
use super::value::Value;
use crate::diagnostic::{Code, Diagnostic};
use crate::process::is_in_container;

/// The folder that `auto` uses: in a container only if it is a volume, since what is in the container ends with it.
const VOLUME: &str = "/var/lib/sniffer";

/// Name of the spool in it.
const FOLDER: &str = "spool";

/// Where what cannot be delivered is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spooling {
    /// In memory only.
    Off,
    /// In the usual place, if it is there and can be written.
    Auto,
    /// In this folder.
    Folder(PathBuf),
}

impl Spooling {
    /// The folder, or the reason why there is none although one would be used.
    pub fn folder(&self) -> Result<Option<PathBuf>, Diagnostic> {
        match self {
            Self::Off => Ok(None),
            Self::Folder(folder) => Ok(Some(folder.clone())),
            Self::Auto if is_usable(Path::new(VOLUME), is_in_container()) => {
                Ok(Some(Path::new(VOLUME).join(FOLDER)))
            }
            Self::Auto => {
                let (kind, how) = match is_in_container() {
                    true => ("volume", format!("docker run -v sniffer:{VOLUME} ...")),
                    false => (
                        "folder",
                        format!("mkdir -m 700 {VOLUME}    or --spool DIR, another folder"),
                    ),
                };
                let what = format!(
                    "what cannot be delivered is kept in memory only: {VOLUME} is no {kind} that can be written"
                );
                Err(Diagnostic::new(Code::W056, what)
                    .fix(format!("{how}\nor SNIFFER_SPOOL=off, if that is wanted")))
            }
        }
    }
}

/// Whether the folder can be written and outlives the container: it is a file system of its own.
fn is_usable(folder: &Path, in_container: bool) -> bool {
    let device = |path: &Path| path.metadata().ok().map(|found| found.dev());
    let above = folder.parent().and_then(device);
    let own = device(folder);
    let stays = own.is_some() && (own != above || !in_container);
    stays && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// A folder, `auto` or `off`.
pub struct SpoolFolder;

impl Kind for SpoolFolder {
    type Checked = Spooling;

    fn check(value: &Value) -> Result<Spooling, Diagnostic> {
        Ok(match value.text.trim() {
            "off" | "none" => Spooling::Off,
            "auto" => Spooling::Auto,
            folder => Spooling::Folder(PathBuf::from(folder)),
        })
    }

    fn show(checked: &Spooling) -> String {
        match checked {
            Spooling::Off => "off".to_owned(),
            Spooling::Auto => "auto".to_owned(),
            Spooling::Folder(folder) => folder.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_named_is_used_and_auto_needs_a_volume() {
        let named = Spooling::Folder("/somewhere".into());
        assert_eq!(named.folder(), Ok(Some("/somewhere".into())));
        assert_eq!(Spooling::Off.folder(), Ok(None));
        let folder = tempfile::tempdir().unwrap();
        assert!(
            !is_usable(folder.path(), true),
            "it ends with the container"
        );
        assert!(is_usable(folder.path(), false));
        for in_container in [false, true] {
            assert!(!is_usable(&folder.path().join("missing"), in_container));
            let volume = Path::new("/dev/shm");
            assert!(is_usable(volume, in_container), "one of its own");
        }
    }
}
