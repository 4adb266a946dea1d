//! The sink that writes lines to files in a folder: NDJSON, or NDJSON in zstd.
//!
//! A file grows under a name that ends in `.part`, and gets its own name when it is complete: at a size, after a time, or with a
//! number of calls. So whoever reads `*.ndjson` sees complete files only, and needs to send no signal. No file is ever
//! overwritten. The oldest are deleted where all of them would take more than their bound, or are older than theirs.
//!
//! The folder is checked as that of the database is, and one process at a time uses it. A write that fails, as on a full disk,
//! is undone, and tried again each second.

mod files;
mod names;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use engine_core::bundle::Compression;

use self::files::{Counts, Files};
use super::kind::{Probe, Sink, Started};
use super::stats::{Detail, Metric};
use super::writing::{self, Config};
use crate::config::FolderUrl;
use crate::diagnostic::{Code, Console, Diagnostic};
use crate::sandbox::Plan;

/// The sink.
pub struct Folder {
    name: String,
    url: FolderUrl,
    bundles_max: usize,
    bytes_max: usize,
    files: Option<Files>,
}

impl Folder {
    /// The sink `name`, with at most so many bundles and bytes that wait.
    pub fn new(name: String, url: FolderUrl, bundles_max: usize, bytes_max: usize) -> Self {
        Self {
            name,
            url,
            bundles_max,
            bytes_max,
            files: None,
        }
    }
}

impl Sink for Folder {
    /// The lines are compressed here, if at all.
    fn compression(&self) -> Compression {
        Compression::Off
    }

    fn needs_lines(&self) -> bool {
        true
    }

    fn prepare(&mut self) -> Result<(), Diagnostic> {
        let files = Files::open(&self.name, &self.url).map_err(|why| {
            let what = format!(
                "the sink {}: {}: {why}",
                self.name,
                self.url.folder.display()
            );
            Diagnostic::new(Code::E058, what)
                .fix("a folder that this user owns, and nobody else may write to")
        })?;
        self.files = Some(files);
        Ok(())
    }

    fn plan(&self, plan: &mut Plan) {
        if let Some(files) = &self.files {
            plan.write_in(files.folder());
        }
    }

    fn probes(&self) -> Vec<Probe> {
        let folder = &self.url.folder;
        let found = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK);
        let problem = match found {
            Ok(()) | Err(rustix::io::Errno::NOENT) => None,
            Err(error) => Some(("E058", io::Error::from(error).to_string())),
        };
        vec![Probe {
            topic: "folder",
            text: match &problem {
                None => format!("{} can be written", folder.display()),
                Some((_, why)) => format!("{}: {why}", folder.display()),
            },
            problem: problem.map(|(code, _)| {
                let what = "another folder, or other rights";
                (code, what.to_owned())
            }),
        }]
    }

    fn start(self: Box<Self>, shards: usize, console: Console) -> io::Result<Started> {
        let files = match self.files {
            Some(files) => files,
            None => Files::open(&self.name, &self.url).map_err(io::Error::other)?,
        };
        let counts = files.counts();
        let config = Config {
            name: self.name,
            place: format!("file://{}", self.url.folder.display()),
            description: format!("writing to {}", self.url),
            code: Code::W057,
            bundles_max: self.bundles_max,
            bytes_max: self.bytes_max,
        };
        writing::start(config, files, move || detail(&counts), shards, console)
    }
}

/// What only this kind has.
fn detail(counts: &Arc<Counts>) -> Detail {
    let metric = |name, help, count| Metric {
        name,
        help,
        label: "",
        samples: vec![("", count)],
    };
    Detail {
        transport: "files".to_owned(),
        metrics: vec![
            metric(
                "sniffer_output_files_completed_total",
                "Files that were completed.",
                counts.completed(),
            ),
            metric(
                "sniffer_output_files_deleted_total",
                "Files that were deleted because a bound of the folder was reached.",
                counts.deleted(),
            ),
            metric(
                "sniffer_output_files_written_bytes_total",
                "Bytes that were written to files, compressed where they are.",
                counts.written_bytes(),
            ),
        ],
        ..Detail::default()
    }
}
