//! `sniffer run` in a namespace, with its status.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::network::Namespace;
use crate::process::{Ended, PATIENCE, Running};
use crate::program::sniffer;

/// A capture with its own control socket; ended when dropped.
pub struct Capture<'a> {
    namespace: &'a Namespace,
    process: Running,
    control: String,
    _folder: TempDir,
}

impl<'a> Capture<'a> {
    /// Starts one that keeps every detail, unless `settings` are different, and waits until it captures.
    pub fn start(namespace: &'a Namespace, url: &str, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_piped(namespace, url, settings, None)
    }

    /// The same with its standard output as the input of a program of a shell.
    pub fn start_piped(
        namespace: &'a Namespace,
        url: &str,
        settings: &[(&str, &str)],
        reader: Option<&str>,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let control = folder.path().join("control").display().to_string();
        let mut command = sniffer(&["run", "--control", &control]);
        if let Some(reader) = reader {
            // Not `sniffer | reader`: the process that is ended with this value has to be the sniffer, not a shell that waits.
            let line = format!(
                "mkfifo \"$2\" && {{ {reader} <\"$2\" & exec \"$0\" run --control \"$1\" >\"$2\"; }}"
            );
            let mut shell = Command::new("sh");
            shell.args(["-c", &line]);
            shell.arg(command.get_program()).arg(&control);
            shell.arg(folder.path().join("pipe"));
            for (name, _) in command.get_envs().filter(|(_, value)| value.is_none()) {
                shell.env_remove(name);
            }
            command = shell;
        }
        command.envs([
            ("USAGE_LOGGERS_URL", url),
            ("USAGE_LOGGERS_RULES", "include debug"),
        ]);
        command.envs(settings.iter().copied());
        let mut process = Running::start(&mut namespace.enter(&command))?;
        process.wait_for_log("capturing", PATIENCE)?;
        Ok(Self {
            namespace,
            process,
            control,
            _folder: folder,
        })
    }

    /// Runs `sniffer WORDS` against this capture.
    pub fn control(&self, words: &[&str]) -> Result<Ended> {
        self.control_with(words, &[])
    }

    /// The same with these settings in its environment.
    pub fn control_with(&self, words: &[&str], settings: &[(&str, &str)]) -> Result<Ended> {
        let mut command = sniffer(words);
        command.envs(settings.iter().copied());
        command.args(["--control", &self.control]);
        Running::start(&mut self.namespace.enter(&command))?.end(PATIENCE)
    }

    /// `sniffer status --json`.
    pub fn status(&self) -> Result<Value> {
        let ended = self.control(&["status", "--json"])?;
        ensure!(ended.code()? == 0, "{ended:?}");
        let text = ended.stdout;
        serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// Waits for a line with `part` in its log.
    pub fn wait_for_log(&mut self, part: &str) -> Result<()> {
        self.process.wait_for_log(part, PATIENCE)
    }

    /// Nothing may be unaccounted for while it runs; then it must flush and end with 0. Returns its log.
    pub fn stop(self) -> Result<String> {
        self.stop_with(0)
    }

    /// The same with another exit code: 8 when calls were dropped.
    pub fn stop_with(self, code: i32) -> Result<String> {
        let status = self.status()?;
        ensure!(find(&status, "unaccounted") == Some(0), "{status}");
        let ended = self.terminate()?;
        ensure!(ended.code()? == code, "{}", ended.stderr);
        Ok(ended.stderr)
    }

    /// Ends it, however that goes.
    pub fn terminate(self) -> Result<Ended> {
        self.process.terminate(PATIENCE)
    }
}

/// The first number under `key`, at any depth.
pub fn find(tree: &Value, key: &str) -> Option<i64> {
    match tree {
        Value::Object(members) => {
            let here = members.get(key).and_then(Value::as_i64);
            here.or_else(|| members.values().find_map(|member| find(member, key)))
        }
        Value::Array(members) => members.iter().find_map(|member| find(member, key)),
        _ => None,
    }
}
