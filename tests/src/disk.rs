//! A disk that is soon full.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::process::run;

/// A small file system of memory, until it is dropped.
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts one of that size, such as `64k`, on a folder. Its mode is 700.
    pub fn mount(at: &Path, size: &str) -> Result<Self> {
        let options = format!("size={size},mode=700");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(at))?;
        Ok(Self(at.to_owned()))
    }

    /// Gives it another size.
    pub fn resize(&self, size: &str) -> Result<()> {
        let options = format!("remount,size={size}");
        let mut mount = Command::new("mount");
        run(mount.args(["-o", &options]).arg(&self.0)).map(drop)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("-l").arg(&self.0));
    }
}
