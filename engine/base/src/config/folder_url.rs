//! The URL of a folder that lines are written to: `file:///var/lib/calls?rotate=64M,1h,100000&keep=1G,7d&compression=zstd`.
//!
//! An item of a list with K, M or G at its end is a size, one with a unit of time a time, and a bare number is one of calls.
//! What is not given has a default: all of it is bounded.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::kinds::{parse_bytes, parse_time, show_bytes, show_time};
use crate::limits::{FOLDER_BYTES_MIN, FOLDER_FILE_BYTES_MIN};

/// A folder, when its files end, and how many of them stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderUrl {
    /// An absolute path.
    pub folder: PathBuf,
    /// Bytes after which a file ends.
    pub file_bytes: u64,
    /// Time after which it does.
    pub file_time: Duration,
    /// Calls after which it does, give or take those of one bundle.
    pub file_calls: u64,
    /// Bytes of all files, past which the oldest are deleted.
    pub keep_bytes: u64,
    /// Time for which a file is kept after it has ended.
    pub keep_time: Duration,
    /// Lines are compressed by zstd.
    pub is_compressed: bool,
}

impl FolderUrl {
    /// A folder with the usual bounds.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            file_bytes: 64 << 20,
            file_time: Duration::from_hours(1),
            file_calls: 1_000_000,
            keep_bytes: 1 << 30,
            keep_time: Duration::from_hours(7 * 24),
            is_compressed: false,
        }
    }

    /// Reads it; the error is a reason in words.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("file://")
            .ok_or("expected file:///FOLDER")?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = decoded(path).ok_or("a % that is not followed by two hexadecimal digits")?;
        if !path.starts_with('/') {
            return Err("expected file:///FOLDER, with an absolute path".to_owned());
        }
        if path.contains('\0') || path.trim_end_matches('/').is_empty() {
            return Err("expected a folder below /".to_owned());
        }
        let mut url = Self::new(PathBuf::from(path.trim_end_matches('/')));
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            url.set(parameter)?;
        }
        if url.keep_bytes / 2 < url.file_bytes {
            return Err(format!(
                "keep={} holds no two files of rotate={}",
                show(url.keep_bytes),
                show(url.file_bytes)
            ));
        }
        Ok(url)
    }

    fn set(&mut self, parameter: &str) -> Result<(), String> {
        let bad = |expected: &str| format!("{parameter}: expected {expected}");
        match parameter.split_once('=') {
            Some(("rotate", list)) => {
                for item in list.split(',') {
                    match measure(item) {
                        Some(Measure::Bytes(bytes)) if bytes >= FOLDER_FILE_BYTES_MIN => {
                            self.file_bytes = bytes;
                        }
                        Some(Measure::Time(time)) => self.file_time = time,
                        Some(Measure::Count(calls)) => self.file_calls = calls,
                        _ => {
                            return Err(bad(
                                "a size of 64K or more, a time or a number of calls, such as 64M,1h,100000",
                            ));
                        }
                    }
                }
            }
            Some(("keep", list)) => {
                for item in list.split(',') {
                    match measure(item) {
                        Some(Measure::Bytes(bytes)) if bytes >= FOLDER_BYTES_MIN => {
                            self.keep_bytes = bytes;
                        }
                        Some(Measure::Time(time)) => self.keep_time = time,
                        _ => return Err(bad("a size of 1M or more, or a time, such as 1G,7d")),
                    }
                }
            }
            Some(("compression", "zstd")) => self.is_compressed = true,
            Some(("compression", "off")) => self.is_compressed = false,
            Some(("compression", _)) => return Err(bad("zstd or off")),
            _ => return Err(bad("rotate, keep or compression")),
        }
        Ok(())
    }
}

impl fmt::Display for FolderUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "file://{} (files of {} or {}, {} and {} kept{})",
            self.folder.display(),
            show(self.file_bytes),
            show_time(self.file_time),
            show(self.keep_bytes),
            show_time(self.keep_time),
            if self.is_compressed { ", zstd" } else { "" }
        )
    }
}

enum Measure {
    Bytes(u64),
    Time(Duration),
    Count(u64),
}

fn measure(item: &str) -> Option<Measure> {
    match item.chars().last()? {
        'K' | 'M' | 'G' | 'B' => parse_bytes(item).map(|bytes| Measure::Bytes(bytes as u64)),
        '0'..='9' => item
            .parse()
            .ok()
            .filter(|count| *count > 0)
            .map(Measure::Count),
        _ => parse_time(item)
            .filter(|time| *time >= Duration::from_secs(1))
            .map(Measure::Time),
    }
}

fn show(bytes: u64) -> String {
    show_bytes(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// The text with `%20` and the like undone.
fn decoded(text: &str) -> Option<String> {
    String::from_utf8(store::percent::decoded(text)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_is_bounded_too() {
        let usual = FolderUrl::new("/var/calls".into());
        for (text, expected) in [
            ("file:///var/calls", usual.clone()),
            ("file:///var/calls/?", usual.clone()),
            (
                "file:///var/calls?rotate=1M,30s,500&keep=10M,2d&compression=zstd",
                FolderUrl {
                    file_bytes: 1 << 20,
                    file_time: Duration::from_secs(30),
                    file_calls: 500,
                    keep_bytes: 10 << 20,
                    keep_time: Duration::from_hours(48),
                    is_compressed: true,
                    ..usual.clone()
                },
            ),
            (
                "file:///a%20b?rotate=5m",
                FolderUrl {
                    folder: "/a b".into(),
                    file_time: Duration::from_secs(300),
                    ..usual
                },
            ),
        ] {
            assert_eq!(FolderUrl::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "file:/var/calls",
            "file://host/calls",
            "file://",
            "file:///",
            "file:///%zz",
            "file:///%4",
            "file:///%00",
            "file:///v?rotate=",
            "file:///v?rotate=0",
            "file:///v?rotate=1K",
            "file:///v?rotate=100ms",
            "file:///v?rotate=1M,weekly",
            "file:///v?keep=5",
            "file:///v?keep=1M",
            "file:///v?keep=100M&rotate=64M",
            "file:///v?compression=gzip",
            "file:///v?append",
        ] {
            assert!(FolderUrl::parse(text).is_err(), "{text}");
        }
    }
}
