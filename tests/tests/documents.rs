//! The documents for users: their links lead somewhere, and the commands in them work as they stand there.
//!
//! Fenced blocks marked `sh` are run, each as one script, in a namespace in which an all-in-one captures, in a folder that has the files
//! that they name. What is not run is in a list, with the reason and the place where it is run instead. That options and
//! settings exist, and that every command line can be parsed, is checked for all text of the documents in
//! `engine/daemon/src/usage/advice.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use tests::network::Namespace;
use tests::process::{PATIENCE, Running, eventually, run};
use tests::program::{repository, sniffer, sniffer_path};

/// Lines that are not run here: how they begin, and why.
const NOT_RUN: [(&str, &str); 22] = [
    ("sniffer run", "goes on until it is stopped: parsed only"),
    ("sniffer all-in-one", "goes on until it is stopped"),
    (
        "sniffer canary serve",
        "goes on until it is stopped: canary.rs",
    ),
    ("sniffer check --canary", "needs two machines: canary.rs"),
    ("sniffer read --follow", "goes on until it is stopped"),
    ("tcpdump", "goes on until it is stopped"),
    ("docker", "tests/docker runs the lines of the README"),
    ("cargo", "tests/run builds and installs"),
    ("./tests/run", "is what runs this"),
    ("deploy/package", "tests/package runs it"),
    ("apt", "tests/package installs the package by dpkg"),
    ("systemctl", "tests/package starts the services"),
    ("sniffer page", "with systemctl: tests/package"),
    (
        "sh -c 'set -a",
        "reads /etc/default/sniffer of this machine",
    ),
    ("aws", "needs an account"),
    ("ip link", "changes interfaces"),
    ("cat > .env", "stands before lines of docker"),
    ("APP_PORT=", "stands in the file of `cat`"),
    ("USAGE_LOGGERS_", "is a line of a file of settings"),
    ("SNIFFER_", "is a line of a file of settings"),
    ("VPC_MIRROR_DEVICE=", "is a line of a file of settings"),
    ("EOF", "ends the file of `cat`"),
];

/// Programs whose lines are run.
const RUN: [&str; 5] = ["sniffer", "curl", "TOKEN=$(sniffer", "perl", "python3"];

struct Document {
    /// Below the repository.
    name: String,
    text: String,
}

fn documents() -> Vec<Document> {
    let mut names: Vec<String> = [
        "README.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
    ]
    .map(String::from)
    .into();
    for folder in ["docs", "tuning", "bench"] {
        for entry in fs::read_dir(repository().join(folder)).expect("the folder is there") {
            let name = entry
                .expect("readable")
                .file_name()
                .into_string()
                .expect("ASCII");
            if name.ends_with(".md") {
                names.push(format!("{folder}/{name}"));
            }
        }
    }
    names.sort();
    let read = |name: String| Document {
        text: fs::read_to_string(repository().join(&name)).expect("readable"),
        name,
    };
    names.into_iter().map(read).collect()
}

/// The text without fenced blocks and without what stands between backquotes.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            prose.extend(line.split('`').step_by(2));
            prose.push('\n');
        }
    }
    prose
}

/// The anchors of a document, as forges make them of headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        }
        let heading = line.trim_start_matches('#');
        if is_code || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading.trim().to_lowercase();
        let kept: String = kept
            .chars()
            .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter))
            .map(|letter| if letter == ' ' { '-' } else { letter })
            .collect();
        found.insert(kept);
    }
    found
}

/// What `[text](target)` links to.
fn targets(text: &str) -> Vec<String> {
    let prose = prose(text);
    let ends = prose.split("](").skip(1);
    ends.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
        .collect()
}

fn broken(document: &Document, target: &str) -> Option<String> {
    if target.contains("://") {
        return target.contains(' ').then(|| "a blank in a URL".into());
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let here = repository().join(&document.name);
    let file = if path.is_empty() {
        here
    } else {
        here.parent().expect("it lies in a folder").join(path)
    };
    if !file.exists() {
        return Some("no such file".into());
    }
    if anchor.is_empty() {
        return None;
    }
    let text = fs::read_to_string(&file).ok()?;
    (!anchors(&text).contains(anchor)).then(|| "no such heading".into())
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    let mut links = 0;
    let mut wrong = Vec::new();
    for document in &documents {
        for target in targets(&document.text) {
            links += 1;
            if let Some(why) = broken(document, &target) {
                wrong.push(format!("{}: {target}: {why}", document.name));
            }
        }
    }
    assert!(links > 100, "only {links} links are found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn broken_links_are_found() {
    let document = |text: &str| Document {
        name: "docs/rules.md".into(),
        text: text.into(),
    };
    for (text, is_broken) in [
        ("[a](settings.md)", false),
        ("[a](nowhere.md)", true),
        ("[a](../README.md#docker)", false),
        ("[a](../README.md#whale)", true),
        ("`[a](nowhere.md)`", false),
        ("```\n[a](nowhere.md)\n```", false),
        ("[a](https://example.org/)", false),
    ] {
        let document = document(text);
        let found = targets(text)
            .iter()
            .any(|target| broken(&document, target).is_some());
        assert_eq!(found, is_broken, "{text}");
    }
    let headings = anchors("# A b\n## 2. The `upload`, again\n");
    assert_eq!(
        headings.into_iter().collect::<Vec<_>>(),
        ["2-the-upload-again", "a-b"]
    );
}

/// The lines of each block marked `sh`, those joined that end in a backslash or within quotes.
fn blocks(text: &str) -> Vec<Vec<String>> {
    let mut blocks = Vec::new();
    let mut block: Option<Vec<String>> = None;
    let mut open = String::new();
    for line in text.lines() {
        match &mut block {
            None if line == "```sh" => block = Some(Vec::new()),
            None => {}
            Some(_) if line == "```" => blocks.extend(block.take()),
            Some(lines) => {
                open.push_str(line);
                let is_open = open.matches('\'').count() % 2 == 1;
                if let Some(before) = open.strip_suffix('\\') {
                    open = before.to_owned();
                } else if is_open {
                    open.push('\n');
                } else if !open.trim().is_empty() {
                    lines.push(std::mem::take(&mut open));
                }
            }
        }
    }
    blocks
}

/// What is to be done with a line.
#[derive(Debug, PartialEq, Eq)]
enum Use {
    Run,
    NotRun,
    Unknown,
}

fn use_of(line: &str) -> Use {
    let line = line.trim_start_matches("sudo ");
    let begins = |start: &str| {
        line.strip_prefix(start).is_some_and(|rest| {
            start.ends_with(['=', '_'])
                || rest.is_empty()
                || rest.starts_with([' ', '>'])
                || start.contains('\'')
        })
    };
    if NOT_RUN.iter().any(|(start, _)| begins(start)) {
        Use::NotRun
    } else if RUN.iter().any(|start| begins(start)) {
        Use::Run
    } else {
        Use::Unknown
    }
}

#[test]
fn every_command_is_run_or_excepted() {
    let mut unknown = Vec::new();
    let mut unused: BTreeSet<&str> = NOT_RUN.iter().map(|(start, _)| *start).collect();
    let mut run = 0;
    for document in documents().iter().filter(|document| is_for_users(document)) {
        for line in blocks(&document.text).into_iter().flatten() {
            match use_of(&line) {
                Use::Run => run += 1,
                Use::NotRun => {
                    unused.retain(|start| !line.trim_start_matches("sudo ").starts_with(start));
                }
                Use::Unknown => unknown.push(format!("{}: {line}", document.name)),
            }
        }
    }
    assert!(run > 30, "only {run} commands are run");
    assert!(
        unknown.is_empty(),
        "neither run nor excepted:\n{}",
        unknown.join("\n")
    );
    assert!(unused.is_empty(), "exceptions for nothing: {unused:?}");
}

/// Those of contributors have commands that take hours.
fn is_for_users(document: &Document) -> bool {
    document.name == "README.md" || document.name.starts_with("docs/")
}

/// An all-in-one that captures, and a folder with the files that documents name.
struct Place {
    namespace: Namespace,
    _all_in_one: Running,
    folder: TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let namespace = Namespace::new("documents")?;
        namespace.ip("link set lo up")?;
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let mut command = sniffer(&["all-in-one", "--on", "--data"]);
        command.arg(at("data")).arg("--control").arg(at("control"));
        let place = Self {
            _all_in_one: Running::start(&mut namespace.enter(&command))?,
            namespace,
            folder,
        };
        place.make_files()?;
        eventually(PATIENCE, || place.shell("sniffer status"))?;
        // Calls that the documents look at; each host and header of the filters in them.
        place.shell("sniffer demo --calls-only")?;
        Ok(place)
    }

    fn make_files(&self) -> Result<()> {
        let at = |name: &str| self.folder.path().join(name);
        let capture = repository().join("tests/golden/keep-alive/traffic.pcap");
        fs::create_dir(at("bin"))?;
        symlink(sniffer_path(), at("bin/sniffer"))?;
        fs::write(at("bin/sudo"), "#!/bin/sh\nexec \"$@\"\n")?;
        fs::set_permissions(at("bin/sudo"), fs::Permissions::from_mode(0o755))?;
        fs::create_dir(at("captures"))?;
        for name in ["captures/a.pcap", "up.pcap", "down.pcap", "orders.pcap"] {
            fs::copy(&capture, at(name))?;
        }
        self.shell("gzip <orders.pcap >orders.pcapng.gz")?;
        self.shell("python3 -c 'import sys, zlib; sys.stdout.buffer.write(zlib.compress(b\"[]\\n\"))' >0000000001.zz")?;
        fs::write(at("rules.txt"), "include debug\ninclude private\n")?;
        Ok(())
    }

    /// Runs a script in the folder and the namespace.
    fn shell(&self, script: &str) -> Result<String> {
        let mut command = Command::new("sh");
        command
            .args(["-euc", script])
            .current_dir(self.folder.path());
        let mut inside = self.namespace.enter(&command);
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = self.folder.path().join("bin");
        inside
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("SNIFFER_CONTROL", self.folder.path().join("control"));
        run(&mut inside)
    }
}

/// `sniffer check` ends with 8 where it finds something, as on a machine without a capture URL.
fn as_run(line: &str) -> String {
    let is_check = line
        .trim_start_matches("sudo ")
        .starts_with("sniffer check");
    if is_check {
        format!(
            "{} || [ $? -eq 8 ]",
            line.split(" #").next().unwrap_or_default()
        )
    } else {
        line.to_owned()
    }
}

#[test]
fn commands_of_documents_work() -> Result<()> {
    let place = Place::new()?;
    let mut failed = Vec::new();
    let mut done = 0;
    for document in documents().iter().filter(|document| is_for_users(document)) {
        for block in blocks(&document.text) {
            let lines: Vec<String> = block
                .iter()
                .filter(|line| use_of(line) == Use::Run)
                .map(|line| as_run(line))
                .collect();
            done += lines.len();
            if lines.is_empty() {
                continue;
            }
            if let Err(error) = place.shell(&lines.join("\n")) {
                failed.push(format!(
                    "{}: {}\n{error:#}",
                    document.name,
                    lines.join("\n")
                ));
            }
        }
    }
    ensure!(done > 30, "only {done} commands were run");
    if !failed.is_empty() {
        bail!("{} blocks fail:\n{}", failed.len(), failed.join("\n\n"));
    }
    Ok(())
}

/// What the reference of the API names exists: the requests of docs/api.md are those of its OpenAPI file.
#[test]
fn the_requests_of_the_api_page_are_those_of_its_description() -> Result<()> {
    let page = fs::read_to_string(repository().join("docs/api.md"))?;
    let description = fs::read_to_string(repository().join("store/src/openapi.json"))?;
    let description: serde_json::Value = serde_json::from_str(&description)?;
    let paths = description["paths"].as_object().context("no paths")?;
    let mut known: BTreeSet<PathBuf> = paths
        .keys()
        .map(|path| {
            let words = path
                .trim_start_matches("/api/v1")
                .split('/')
                .filter(|word| !word.is_empty());
            words
                .map(|word| if word.starts_with('{') { "ID" } else { word })
                .collect()
        })
        .collect();
    // It is linked.
    ensure!(
        page.contains("openapi.json"),
        "the description is not named"
    );
    known.remove(Path::new("openapi.json"));
    let mut named = BTreeSet::new();
    for method in ["`GET ", "`POST "] {
        for (at, _) in page.match_indices(method) {
            let rest = &page[at + method.len()..];
            let end = rest
                .find(|letter: char| "`? ".contains(letter))
                .unwrap_or(rest.len());
            let path = rest[..end].trim_start_matches("/api/v1/");
            if !path.is_empty() {
                named.insert(Path::new(path).to_owned());
            }
        }
    }
    let missing: Vec<_> = known.difference(&named).collect();
    let invented: Vec<_> = named.difference(&known).collect();
    ensure!(
        missing.is_empty() && invented.is_empty(),
        "not on the page: {missing:?}; not in the description: {invented:?}"
    );
    Ok(())
}
