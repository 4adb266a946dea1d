//! A wrong wall clock for one process.

use std::fs;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// The environment of a process that gets this instead of the machine's clock: a wall clock that differs by so many hours.
pub fn clock(hours: i64) -> Result<[(&'static str, String); 3]> {
    Ok([
        ("LD_PRELOAD", faketime()?),
        ("FAKETIME", format!("{hours:+}h")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ])
}

/// A wall clock that is set while its process runs. The process reads a file for that, so it must not be confined.
pub struct SettableClock {
    folder: TempDir,
}

impl SettableClock {
    /// One that agrees with the machine's.
    pub fn new() -> Result<Self> {
        let clock = Self {
            folder: tempfile::tempdir()?,
        };
        clock.set(0)?;
        Ok(clock)
    }

    /// The environment of its process.
    pub fn environment(&self) -> Result<[(&'static str, String); 4]> {
        Ok([
            ("LD_PRELOAD", faketime()?),
            ("FAKETIME_TIMESTAMP_FILE", self.file("hours")),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ])
    }

    /// From now on it differs from the machine's by so many hours.
    pub fn set(&self, hours: i64) -> Result<()> {
        let (new, used) = (self.file("new"), self.file("hours"));
        fs::write(&new, format!("{hours:+}h\n"))?;
        Ok(fs::rename(new, used)?)
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

fn faketime() -> Result<String> {
    let mut found = fs::read_dir("/usr/lib")?
        .flatten()
        .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    let found = found.find(|path| path.exists());
    let found = found.context("apt-get install faketime")?;
    Ok(found.display().to_string())
}
