//! A terminal for programs that need one: a tmux with one window, whose screen is read and whose keys are pressed.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::network::Namespace;
use crate::process::{PATIENCE, eventually, run};

/// Columns of the window.
pub const WIDTH: usize = 160;

/// Rows of the window.
pub const HEIGHT: usize = 30;

/// The terminal; its programs end when it is dropped.
pub struct Tmux {
    socket: PathBuf,
    _folder: TempDir,
}

impl Tmux {
    /// Runs a command line of a shell in a new window within a namespace. When it ended, its exit code is printed.
    pub fn start(namespace: &Namespace, line: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let tmux = Self {
            socket: folder.path().join("tmux"),
            _folder: folder,
        };
        let mut start = tmux.command(&["-f", "/dev/null", "new-session", "-d"]);
        start.args(["-x", &WIDTH.to_string(), "-y", &HEIGHT.to_string()]);
        start.arg(format!("{line}; echo ended with $?; sleep 600"));
        run(&mut namespace.enter(&start)).context("apt-get install tmux")?;
        Ok(tmux)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        // Whatever the tests run in: the window has UTF-8, and belongs to no other tmux.
        command.env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        command.arg("-u").arg("-S").arg(&self.socket).args(words);
        command
    }

    /// The screen as text.
    pub fn screen(&self) -> Result<String> {
        run(&mut self.command(&["capture-pane", "-p"]))
    }

    /// The screen with its escapes for colours.
    pub fn coloured(&self) -> Result<String> {
        run(&mut self.command(&["capture-pane", "-p", "-e"]))
    }

    /// Presses keys, by the names that tmux has for them.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        let mut words = vec!["send-keys"];
        words.extend(keys);
        run(&mut self.command(&words)).map(drop)
    }

    /// Waits until the screen has all of these words, and returns it.
    pub fn wait_for(&self, words: &[&str]) -> Result<String> {
        eventually(PATIENCE, || {
            let screen = self.screen()?;
            for word in words {
                ensure!(screen.contains(word), "no {word:?} in:\n{screen}");
            }
            Ok(screen)
        })
    }

    /// Waits, and returns the screen, which has to be the same as before in spite of it.
    pub fn stays_for(&self, time: Duration) -> Result<String> {
        let before = self.screen()?;
        std::thread::sleep(time);
        let after = self.screen()?;
        ensure!(before == after, "it changed from:\n{before}\nto:\n{after}");
        Ok(after)
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // It ends by itself when its program does.
        let _ = self.command(&["kill-server"]).output();
    }
}
