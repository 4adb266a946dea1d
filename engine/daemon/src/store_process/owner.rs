//! The user that the store runs as: the owner of its data folder.
//!
//! Without a capability root is a user like any other, who cannot write a folder of somebody else. And a store that is root
//! in such a folder could be led to other files of the system by what its owner puts there. So a store that root starts
//! becomes the owner of the folder, before it opens anything in it. A folder that is still to be made will belong to the
//! owner of the one that it is made in.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};
use engine_sys::process;

/// What it takes to become another user, and to give that user files.
const NEEDED: [Capability; 3] = [
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_CHOWN,
];

/// Becomes the owner of `folder`, who gets `files` in it that are ours from an earlier start, and returns that user; none if
/// nothing changes. Of all capabilities, none is in effect afterwards.
///
/// # Errors
///
/// The kernel refuses what the capabilities allow.
pub(super) fn become_owner(folder: &Path, files: &[&str]) -> io::Result<Option<u32>> {
    let may = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    if !NEEDED.into_iter().all(may) {
        return Ok(None);
    }
    let place = existing(folder);
    let owner = std::fs::metadata(&place)?;
    if place == folder {
        for name in files {
            give(&folder.join(name), owner.uid(), owner.gid())?;
        }
    }
    // One that may become any user is root, or may do what root may.
    if owner.uid() == 0 {
        return Ok(None);
    }
    process::become_user(owner.uid(), owner.gid())?;
    Ok(Some(owner.uid()))
}

/// The folder itself, or the nearest one above that exists.
fn existing(folder: &Path) -> PathBuf {
    let found = folder.ancestors().find(|folder| folder.is_dir());
    let found = found.filter(|folder| folder.as_os_str() != OsStr::new(""));
    found.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Gives a file to a user, unless it is a link or has a second name, by which it may be any file of the system.
fn give(path: &Path, user: u32, group: u32) -> io::Result<()> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file: File = match opened {
        Ok(file) => file,
        // Missing, or what the store will refuse to use.
        Err(_) => return Ok(()),
    };
    let found = file.metadata()?;
    if found.is_file() && found.nlink() == 1 && found.uid() != user {
        fchown(&file, Some(user), Some(group))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_folder_is_itself_or_the_nearest_that_exists() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(existing(home.path()), home.path());
        assert_eq!(existing(&home.path().join("a/b")), home.path());
        assert_eq!(existing(Path::new("no-such-folder/a")), Path::new("."));
    }

    #[test]
    fn links_keep_their_owner() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        let before = std::fs::metadata(&file).unwrap();
        let (symbolic, hard) = (home.path().join("symbolic"), home.path().join("hard"));
        std::os::unix::fs::symlink(&file, &symbolic).unwrap();
        give(&symbolic, before.uid() + 1, before.gid()).unwrap();
        std::fs::hard_link(&file, &hard).unwrap();
        give(&hard, before.uid() + 1, before.gid()).unwrap();
        give(&home.path().join("missing"), 1, 1).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().uid(), before.uid());
    }
}
