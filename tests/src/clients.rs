//! Real clients and servers in namespaces, and the comparison of what a client saw with the lines of a capture.
//!
//! The programs are in `tests/clients`; what they need of PyPI and npm is installed into the target folder, once for each
//! list of versions. A client writes one JSON object for each of its calls (`Seen`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Row, value};
use serde::Deserialize;

use crate::network::Namespace;
use crate::process::{Ended, PATIENCE, Running, run};
use crate::program::repository;

/// Packages of npm.
const NPM: [&str; 5] = [
    "ws@8.23.0",
    "@grpc/grpc-js@1.14.7",
    "@bufbuild/protobuf@2.17.0",
    "@connectrpc/connect@2.0.4",
    "@connectrpc/connect-node@2.0.4",
];

/// Packages of PyPI.
const PYPI: [&str; 3] = ["grpcio==1.85.1", "openai==3.51.0", "mcp==2.3.0"];

/// The checker of accessibility, of npm.
const AXE: [&str; 1] = ["axe-core@4.14.1"];

/// The schemas of the API of Kubernetes, of PyPI, with what compares manifests with them.
const KUBERNETES: [&str; 1] = ["kubernetes-validate==1.37.0"];

/// One installation at a time.
static INSTALLING: Mutex<()> = Mutex::new(());

/// The folder with `packages`, which `install` fills where they are not there yet.
fn installed(
    name: &str,
    packages: &[&str],
    install: impl FnOnce(&Path) -> Command,
) -> Result<PathBuf> {
    let _one = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    // The target folder lies above the program of the tests.
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(3).context("target/PROFILE/deps")?;
    let folder = target.join("tmp/clients").join(name);
    let mark = folder.join("installed");
    let list = packages.join("\n");
    if fs::read_to_string(&mark).ok().as_deref() != Some(&*list) {
        // What a list before had may stand in the way.
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        run(install(&folder).args(packages)).with_context(|| format!("packages of {name}"))?;
        fs::write(&mark, list)?;
    }
    Ok(folder)
}

fn npm(folder: &Path) -> Command {
    let mut npm = Command::new("npm");
    npm.args([
        "install",
        "--no-save",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
    ]);
    npm.arg(folder);
    npm
}

fn pip(folder: &Path) -> Command {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-compile"]);
    pip.args(["--disable-pip-version-check", "--root-user-action=ignore"]);
    pip.arg("--target").arg(folder);
    pip
}

/// Compares a manifest with the schemas of Kubernetes, in which only what they name may stand.
pub fn validated_manifest(manifest: &Path) -> Result<Ended> {
    let folder = installed("kubernetes", &KUBERNETES, pip)?;
    let mut command = Command::new("python3");
    command
        .args(["-m", "kubernetes_validate", "--strict"])
        .arg(manifest);
    command.env("PYTHONPATH", folder);
    Running::start(&mut command)?.end(PATIENCE)
}

/// The script of axe-core, which finds barriers in a page.
pub fn axe() -> Result<String> {
    let folder = installed("axe", &AXE, npm)?;
    let path = folder.join("node_modules/axe-core/axe.min.js");
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// `node SCRIPT WORDS` with the packages of npm.
pub fn node(namespace: &Namespace, script: &str, words: &[&str]) -> Result<Command> {
    let folder = installed("npm", &NPM, npm)?;
    let mut command = namespace.command("node");
    command.arg(script_path(script)).args(words);
    command.env("NODE_PATH", folder.join("node_modules"));
    Ok(command)
}

/// `python3 SCRIPT WORDS` with the packages of PyPI.
pub fn python(namespace: &Namespace, script: &str, words: &[&str]) -> Result<Command> {
    let folder = installed("pypi", &PYPI, pip)?;
    let mut command = namespace.command("python3");
    command.arg(script_path(script)).args(words);
    command.env("PYTHONPATH", folder);
    Ok(command)
}

fn script_path(script: &str) -> PathBuf {
    repository().join("tests/clients").join(script)
}

/// Starts a server and waits until it writes `ready` to standard error.
pub fn serve(command: &mut Command) -> Result<Running> {
    let mut server = Running::start(command)?;
    server.wait_for_log("ready", PATIENCE)?;
    Ok(server)
}

/// Runs a client to its end. Returns what it saw.
pub fn calls_of(command: &mut Command) -> Result<Vec<Seen>> {
    seen(&Running::start(command)?.end(PATIENCE)?)
}

/// What a client that has ended saw.
pub fn seen(ended: &Ended) -> Result<Vec<Seen>> {
    ensure!(ended.code()? == 0, "{}{}", ended.stdout, ended.stderr);
    parsed(&ended.stdout)
}

/// What a client that has written this saw.
pub fn parsed(stdout: &str) -> Result<Vec<Seen>> {
    let parse = |line: &str| serde_json::from_str(line).with_context(|| line.to_owned());
    stdout.lines().map(parse).collect()
}

/// One call, as its client saw it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Seen {
    /// Details that its line has, each as often as here.
    pub details: Vec<(String, String)>,
    /// Keys that its line has not.
    #[serde(default)]
    pub absent: Vec<String>,
    /// Details whose value begins so.
    #[serde(default)]
    pub begins: Vec<(String, String)>,
    /// Sides (`request`, `response`) of which `details` has all headers.
    #[serde(default)]
    pub whole: Vec<String>,
}

impl Seen {
    /// How a line differs from it.
    fn differences(&self, row: &Row) -> Vec<String> {
        let mut left = row.clone();
        let mut found = Vec::new();
        for detail in &self.details {
            match left.iter().position(|other| other == detail) {
                Some(at) => drop(left.remove(at)),
                None => found.push(format!(
                    "no {} but {:.200?}",
                    shortened(detail),
                    value(row, &detail.0)
                )),
            }
        }
        for (key, start) in &self.begins {
            if !value(row, key).is_some_and(|value| value.starts_with(start)) {
                found.push(format!(
                    "{key} begins {:.200?}, not {start:.200}",
                    value(row, key)
                ));
            }
        }
        let absent = self.absent.iter().filter(|key| value(row, key).is_some());
        found.extend(absent.map(|key| format!("{key} is there: {:.200?}", value(row, key))));
        for side in &self.whole {
            let prefix = format!("{side}_header:");
            let more = left.iter().filter(|(key, _)| key.starts_with(&prefix));
            found.extend(more.map(|detail| format!("not sent: {}", shortened(detail))));
        }
        found
    }

    /// Whether a line may be of this call: the details that name it are the same.
    fn is_named_by(&self, row: &Row) -> bool {
        let names = [
            "request_method",
            "request_url",
            "request_header:x-call",
            "custom_field:stream",
        ];
        let of_seen = |name: &str| {
            let found = self.details.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        names.iter().all(|name| of_seen(name) == value(row, name))
    }
}

fn shortened((key, value): &(String, String)) -> String {
    let start: String = value.chars().take(120).collect();
    format!("{key} = {start:?} ({} bytes)", value.len())
}

/// Every call that a client saw has a line, and every line is of one of them.
pub fn compare(calls: &[Seen], rows: &[Row]) -> Result<()> {
    ensure!(!calls.is_empty(), "the client made no calls");
    let mut left: Vec<&Row> = rows.iter().collect();
    let mut wrong = Vec::new();
    for call in calls {
        let named = left.iter().enumerate();
        let named = named.filter(|(_, row)| call.is_named_by(row));
        let nearest = named
            .map(|(at, row)| (call.differences(row), at))
            .min_by_key(|(differences, _)| differences.len());
        match nearest {
            None => wrong.push(format!("no line: {}", name_of(&call.details))),
            Some((differences, at)) => {
                let row = left.remove(at);
                if !differences.is_empty() {
                    wrong.push(format!("{}: {}", name_of(row), differences.join("; ")));
                }
            }
        }
    }
    wrong.extend(left.iter().map(|row| format!("not made: {}", name_of(row))));
    ensure!(
        wrong.is_empty(),
        "{} of {} calls differ\n{}",
        wrong.len(),
        calls.len(),
        wrong
            .iter()
            .take(12)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
    Ok(())
}

fn name_of(details: &[(String, String)]) -> String {
    let names = [
        "request_method",
        "request_url",
        "request_header:x-call",
        "response_code",
        "custom_field:half",
    ];
    let mut found = names.iter().filter_map(|name| {
        let detail = details.iter().find(|(key, _)| key == name);
        detail.map(|(_, value)| value.as_str())
    });
    let mut text = found.next().unwrap_or("-").to_owned();
    for value in found {
        text.push(' ');
        text.push_str(value);
    }
    text
}
