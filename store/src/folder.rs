//! A folder of data: whom it may belong to, and its files, which are opened without following links.
//!
//! A store may run as root in a folder that it did not make. Whoever owns that folder or may write to it could replace a file
//! by a link and so make the store write to any file of the system, or read what the store wrote. So a folder is used only if
//! nobody else may write to it, and a link is never followed even then.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

/// A folder that nobody else may write to.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folder (mode 0700) where it is missing. One that exists keeps its mode, because it may be a mount that others
    /// read.
    ///
    /// # Errors
    /// It belongs to another user than root, the one that runs this process, and the one that started it with `sudo`; or
    /// others may write to it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        Self::open_for(path, &Owners::of_this_process())
            .with_context(|| format!("data folder {}", path.display()))
    }

    fn open_for(path: &Path, owners: &Owners) -> anyhow::Result<Self> {
        if fs::metadata(path).is_ok_and(|found| !found.is_dir()) {
            bail!("it is a file, not a folder");
        }
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        // Links on the way to the folder are the user's own; from here on the path has none.
        let path = path.canonicalize()?;
        let found = fs::metadata(&path)?;
        if !owners.include(found.uid()) {
            bail!(
                "it belongs to user {}, who could replace its files; chown {} it, run this as its owner, or use another folder",
                found.uid(),
                owners.process
            );
        }
        let mode = found.permissions().mode();
        if mode & 0o002 != 0 {
            bail!("every user may write to it; chmod o-w, or use another folder");
        }
        if mode & 0o020 != 0 && !owners.include_group(found.gid()) {
            bail!(
                "group {} may write to it; chmod g-w, or use a folder inside it",
                found.gid()
            );
        }
        Ok(Self { path })
    }

    /// The folder without links in its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file to read and write; an empty one with mode 0600 is made where it is missing. It is private afterwards:
    /// [`Opened::was_private`] has whether it was before.
    ///
    /// # Errors
    /// It is a link, no plain file, or belongs to another user.
    pub fn file(&self, name: &str) -> anyhow::Result<Opened> {
        self.open_file(name).with_context(|| name.to_owned())
    }

    fn open_file(&self, name: &str) -> anyhow::Result<Opened> {
        // Non-blocking: the open of a named pipe would wait for its other end. It changes nothing for a plain file.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags.bits().cast_signed())
            .open(self.path.join(name));
        let file = match opened {
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                bail!("it is a link; remove it, or use another folder")
            }
            opened => opened?,
        };
        let found = file.metadata()?;
        check(&found)?;
        let was_private = found.permissions().mode() & 0o077 == 0;
        if !was_private {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(Opened { file, was_private })
    }

    /// Checks a file that another library opens, if it is there.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub fn check(&self, name: &str) -> anyhow::Result<()> {
        match fs::symlink_metadata(self.path.join(name)) {
            Ok(found) => check(&found).with_context(|| name.to_owned()),
            Err(_) => Ok(()),
        }
    }
}

/// A file of the folder.
#[derive(Debug)]
pub struct Opened {
    /// The file itself.
    pub file: File,
    /// Nobody but its owner could read it before.
    pub was_private: bool,
}

/// Refuses what could be a file outside of the folder, or is under the control of somebody else.
fn check(found: &Metadata) -> anyhow::Result<()> {
    if !found.is_file() {
        bail!("it is a link or no file; remove it, or use another folder");
    }
    if found.nlink() > 1 {
        bail!("it has a second name; remove one of them, or use another folder");
    }
    let owners = Owners::of_this_process();
    if !owners.include(found.uid()) {
        bail!(
            "it belongs to user {}; chown {} it, or use another folder",
            found.uid(),
            owners.process
        );
    }
    Ok(())
}

/// Who may own the folder.
#[derive(Clone, Copy, Debug)]
struct Owners {
    /// The user that runs this process.
    process: u32,
    /// Its group.
    group: u32,
    /// The user that started this process of root with `sudo`: who may become root can do no harm with a folder.
    sudo: Option<u32>,
}

impl Owners {
    fn of_this_process() -> Self {
        let process = geteuid().as_raw();
        let number = std::env::var("SUDO_UID").ok();
        let sudo = number.and_then(|number| number.parse().ok());
        Self {
            process,
            group: getegid().as_raw(),
            sudo: sudo.filter(|_| process == 0),
        }
    }

    fn include(&self, user: u32) -> bool {
        user == 0 || user == self.process || Some(user) == self.sudo
    }

    /// A user's own group is usually the user's alone; a shared one is not.
    fn include_group(&self, group: u32) -> bool {
        group == 0 || group == self.group
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[track_caller]
    fn refused(folder: &Path) -> String {
        let error = Folder::open(folder).expect_err("refused");
        format!("{error:#}")
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        set_mode(folder.path(), 0o777);
        assert!(refused(folder.path()).contains("every user may write"));
        set_mode(folder.path(), 0o1777);
        assert!(refused(folder.path()).contains("every user may write"));
        set_mode(folder.path(), 0o775);
        Folder::open(folder.path()).expect("the group is our own");
        let owners = Owners {
            group: getegid().as_raw() + 1,
            ..Owners::of_this_process()
        };
        if getegid().as_raw() != 0 {
            let error = Folder::open_for(folder.path(), &owners).expect_err("refused");
            assert!(error.to_string().contains("may write to it"), "{error}");
        }
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let of = |process, sudo| {
            let owners = Owners {
                process,
                group: 1,
                sudo,
            };
            Folder::open_for(folder.path(), &owners)
        };
        let owner = fs::metadata(folder.path()).expect("exists").uid();
        of(owner, None).expect("ours");
        of(owner + 1, Some(owner)).expect("of who started it");
        // Root's own folders are good for everybody; to see a foreign one, root gives one away.
        if geteuid().is_root() {
            chown(folder.path(), Some(4711), Some(4711)).expect("root may");
            assert!(refused(folder.path()).contains("belongs to user 4711"));
            of(0, Some(4711)).expect("of who started it");
            of(4711, None).expect("its own");
        } else {
            let error = of(owner + 1, None).expect_err("foreign").to_string();
            assert!(error.contains("belongs to user"), "{error}");
        }
    }

    #[test]
    fn a_link_is_not_followed() {
        let home = tempfile::tempdir().expect("folder");
        let folder = Folder::open(&home.path().join("data")).expect("made");
        let victim = home.path().join("victim");
        let name = folder.path().join("file");
        symlink(&victim, &name).expect("links");
        for exists in [false, true] {
            if exists {
                fs::write(&victim, "text").expect("writes");
                set_mode(&victim, 0o644);
            }
            let error = format!("{:#}", folder.file("file").expect_err("refused"));
            assert!(error.contains("file: it is a link"), "{error}");
            assert!(folder.check("file").is_err());
            assert_eq!(victim.exists(), exists);
        }
        assert_eq!(
            fs::metadata(&victim).expect("exists").permissions().mode() & 0o777,
            0o644
        );
        fs::remove_file(&name).expect("ours");
        fs::hard_link(&victim, &name).expect("links");
        assert!(folder.file("file").is_err() && folder.check("file").is_err());
    }

    #[test]
    fn a_file_is_made_private() {
        let home = tempfile::tempdir().expect("folder");
        let folder = Folder::open(home.path()).expect("ours");
        folder.check("file").expect("none is good as well");
        assert!(folder.file("file").expect("made").was_private);
        set_mode(&folder.path().join("file"), 0o640);
        assert!(!folder.file("file").expect("opens").was_private);
        assert!(folder.file("file").expect("opens").was_private);
    }
}
