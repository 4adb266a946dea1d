//! The calls of one store as a file for another: `sniffer store export` and `import`.
//!
//! The file is NDJSON. An object begins a group of lines: `{"group": KEY, "calls": N}`, with the key under which they are stored
//! elsewhere; N lines follow, in the order of arrival; a last object, `{"end": CALLS, "after": NUMBER}`, shows that the file is
//! whole. A line is as it was sent, but that one without the time of its call, or with one that was clamped, has in `now` the time
//! that the store gave it. So times stay what they were, whatever takes the lines.
//!
//! A group has the same key and the same bytes however often the file is read, so an import that was interrupted is made again,
//! and what is there already is recognised like any bundle that comes twice.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{BufRead, Read as _, Write};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::backend::any::Location;
use crate::backend::sqlite::dump::Dump;
use crate::backend::{Backend, Retention, Stored};
use crate::bundle::Bundle;
use crate::limits::{POST_BYTES_MAX, TRANSFER_BYTES, TRANSFER_LINES_MAX};
use crate::line::Columns;
use crate::runtime;
use crate::sender::Sender;

/// Lines that are stored under one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// 32 hexadecimal digits.
    pub key: String,
    /// The lines, each with its newline.
    pub text: String,
    /// How many.
    pub calls: u64,
}

/// An object of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Mark {
    Group { group: String, calls: u64 },
    End { end: u64, after: u64 },
}

/// What an export has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Calls in the file.
    pub calls: u64,
    /// A later export `after` this has the calls that have come since.
    pub after: u64,
}

/// Writes the calls of the SQLite file in a folder that arrived behind number `after`, 0 for all.
///
/// # Errors
/// The file cannot be read, or the output not be written.
pub fn export(folder: &Path, after: u64, out: &mut impl Write) -> anyhow::Result<Exported> {
    let mut dump = Dump::open(folder, after).with_context(|| folder.display().to_string())?;
    let mut group = Group::default();
    let mut calls = 0;
    let more = |dump: &mut Dump, group: &mut Group, calls: &mut u64, out: &mut dyn Write| {
        dump.next(|time_ms, line| {
            group.text += &with_time(line, time_ms)?;
            group.text.push('\n');
            group.calls += 1;
            *calls += 1;
            if group.text.len() >= TRANSFER_BYTES || group.calls >= TRANSFER_LINES_MAX {
                write_group(std::mem::take(group), out)?;
            }
            Ok(())
        })
    };
    while more(&mut dump, &mut group, &mut calls, out)? {}
    write_group(group, out)?;
    let exported = Exported {
        calls,
        after: dump.behind(),
    };
    write_mark(
        &Mark::End {
            end: exported.calls,
            after: exported.after,
        },
        out,
    )?;
    out.flush()?;
    Ok(exported)
}

fn write_group(group: Group, out: &mut dyn Write) -> anyhow::Result<()> {
    if group.calls == 0 {
        return Ok(());
    }
    let mark = Mark::Group {
        group: key(&group.text),
        calls: group.calls,
    };
    write_mark(&mark, out)?;
    Ok(out.write_all(group.text.as_bytes())?)
}

fn write_mark(mark: &Mark, out: &mut dyn Write) -> anyhow::Result<()> {
    Ok(writeln!(out, "{}", serde_json::to_string(mark)?)?)
}

/// 128 bits of the content.
fn key(text: &str) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(text.as_bytes());
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(0), half(1))
}

/// The line with the time of its call in `now`.
fn with_time(line: &str, time_ms: i64) -> anyhow::Result<Cow<'_, str>> {
    let line = line.trim_end();
    let columns =
        Columns::read(line).map_err(|_| anyhow::anyhow!("a stored line is no message"))?;
    if columns.now_ms == Some(time_ms) {
        return Ok(line.into());
    }
    let mut details: Vec<Value> = serde_json::from_str(line)?;
    let is_now = |detail: &Value| detail.get(0).and_then(Value::as_str) == Some("now");
    details.retain(|detail| !is_now(detail));
    details.push(serde_json::json!(["now", time_ms.to_string()]));
    Ok(serde_json::to_string(&details)?.into())
}

/// The groups of a file, one after the other.
#[derive(Debug)]
pub struct Groups<R> {
    file: R,
    calls: u64,
    is_whole: bool,
}

impl<R: BufRead> Groups<R> {
    /// Of a file that begins here.
    pub fn new(file: R) -> Self {
        Self {
            file,
            calls: 0,
            is_whole: false,
        }
    }

    /// The next group; none behind the last one.
    ///
    /// # Errors
    /// The file cannot be read, is none that an export has written, or ends before its end.
    pub fn next_group(&mut self) -> anyhow::Result<Option<Group>> {
        if self.is_whole {
            return Ok(None);
        }
        let line = self.line()?;
        ensure!(
            !line.is_empty(),
            "the file ends before its end: what was imported stays, and a whole file adds the rest"
        );
        let mark: Result<Mark, _> = serde_json::from_str(&line);
        match mark.context("not a file that `sniffer store export` has written")? {
            Mark::End { end, .. } => {
                ensure!(
                    end == self.calls,
                    "the file has {} calls of {end}",
                    self.calls
                );
                self.is_whole = true;
                Ok(None)
            }
            Mark::Group { group: key, calls } => {
                ensure!(
                    calls <= TRANSFER_LINES_MAX,
                    "a group has more than {TRANSFER_LINES_MAX} calls"
                );
                let mut text = String::new();
                for _ in 0..calls {
                    let line = self.line()?;
                    ensure!(line.ends_with('\n'), "the file ends within a group");
                    text += &line;
                    ensure!(
                        text.len() <= TRANSFER_BYTES + POST_BYTES_MAX,
                        "a group has too many bytes"
                    );
                }
                self.calls += calls;
                Ok(Some(Group { key, text, calls }))
            }
        }
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let most = POST_BYTES_MAX as u64 + 1;
        (&mut self.file).take(most).read_line(&mut line)?;
        if line.len() as u64 >= most {
            bail!("a line has more than {POST_BYTES_MAX} bytes");
        }
        Ok(line)
    }
}

/// What an import has stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Calls that are new.
    pub calls: u64,
    /// Calls that were there already.
    pub repeated: u64,
}

/// Stores the groups of a file in a store that no other process has open. Times count however long ago they are.
///
/// # Errors
/// The file or the store cannot be read or written. What was stored stays.
pub fn import<R: BufRead>(
    location: &Location,
    retention: Retention,
    groups: &mut Groups<R>,
) -> anyhow::Result<Imported> {
    let opened = location.open()?;
    runtime()?.block_on(async {
        let backend = opened.start(retention)?;
        let imported = import_into(&backend, groups).await;
        backend.close().await?;
        imported
    })
}

async fn import_into<R: BufRead>(
    backend: &impl Backend,
    groups: &mut Groups<R>,
) -> anyhow::Result<Imported> {
    let mut imported = Imported::default();
    while let Some(group) = groups.next_group()? {
        let key = Some(group.key);
        let mut bundle = Bundle::split(Bytes::from(group.text), key, Sender::Local)?;
        ensure!(bundle.bad_lines == 0, "a line of the file is no message");
        bundle.is_imported = true;
        match backend.insert(bundle).await? {
            Stored::New => imported.calls += group.calls,
            Stored::Repeated => imported.repeated += group.calls,
        }
    }
    Ok(imported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, time_ms: i64, expected: &str) {
        assert_eq!(with_time(line, time_ms).expect("a line"), expected);
    }

    #[test]
    fn a_line_has_the_time_of_its_call() {
        let sent = r#"[["request_method","GET"],["now","17"],["host","a"]]"#;
        check(sent, 17, sent);
        let clamped = r#"[["request_method","GET"],["host","a"],["now","18"]]"#;
        check(sent, 18, clamped);
        check(
            r#"[["request_method","\u00fc\"\\"]]"#,
            18,
            r#"[["request_method","ü\"\\"],["now","18"]]"#,
        );
    }

    #[test]
    fn a_file_that_is_not_whole_or_none_is_refused() {
        let good = "{\"group\":\"1\",\"calls\":1}\n[[\"a\",\"b\"]]\n{\"end\":1,\"after\":9}\n";
        let read = |text: &str| {
            let mut groups = Groups::new(text.as_bytes());
            let mut calls = 0;
            while let Some(group) = groups.next_group()? {
                calls += group.calls;
            }
            anyhow::Ok(calls)
        };
        assert_eq!(read(good).expect("whole"), 1);
        for end in 0..good.len() - 1 {
            let cut = read(&good[..end]);
            assert!(cut.is_err(), "{:?}", &good[..end]);
        }
        for bad in [
            "[[\"a\",\"b\"]]\n",
            "{\"end\":1,\"after\":0}\n",
            "{\"group\":\"1\",\"calls\":99999999}\n",
            "\u{1}\n",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
