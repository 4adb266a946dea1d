//! Whatever a message, a help text or a document advises exists: each option, command, variable and file is looked up, and each
//! command line and setting that is complete is parsed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use clap::{CommandFactory, Parser};

use crate::config::command_line::Cli;
use crate::config::environment;
use crate::config::setting::Commands;
use crate::config::settings::{ALL, Settings, WITHOUT_EFFECT};

/// Options of other programs, and a word by which a text is known to be about one of these.
const FOREIGN: [(&str, &[&str]); 20] = [
    ("bench read", &["--protocol"]),
    ("protoc", &["--include_imports", "--descriptor_set_out"]),
    (
        "docker",
        &[
            "--cap-add",
            "--cap-drop",
            "--env-file",
            "--name",
            "--network",
            "--restart",
            "--security-opt",
            "--target",
        ],
    ),
    (
        "cargo",
        &[
            "--release",
            "--bench",
            "--locked",
            "--path",
            "--test",
            "--example",
            "--bin",
        ],
    ),
    (
        "traffic-mirror",
        &[
            "--network-interface-id",
            "--traffic-mirror-filter-id",
            "--traffic-mirror-target-id",
            "--traffic-direction",
            "--session-number",
            "--virtual-network-id",
            "--description",
        ],
    ),
    (
        "--rule-number",
        &[
            "--rule-number",
            "--rule-action",
            "--protocol",
            "--source-cidr-block",
            "--destination-cidr-block",
        ],
    ),
    ("network load balancer", &["--packet-length"]),
    ("curl", &["--data-urlencode", "--get"]),
    ("systemctl", &["--now"]),
    (
        "tuning/",
        &["--dry-run", "--only", "--state", "--json", "--test"],
    ),
    ("--profile", &["--profile"]),
    ("preset", &["--profile"]),
    (
        "bench",
        &[
            "--folder",
            "--keep",
            "--rate",
            "--seconds",
            "--keep-mb",
            "--mirrored",
            "--test",
        ],
    ),
    ("compose", &["--profile"]),
    ("sysctl", &["--only"]),
    ("--filter", &["--filter"]),
    ("--cap-drop", &["--cap-drop", "--cap-add", "--user"]),
    ("useradd", &["--system", "--home-dir", "--shell"]),
    ("container", &["--network"]),
    ("rules.py", &["--test"]),
];

/// Variables with a prefix of settings that are none, where a text explains names.
const NO_SETTINGS: [&str; 5] = [
    "SNIFFER_",
    "SNIFFER_DEBUG_",
    "USAGE_LOGGERS_",
    "APP_",
    "SNIFFER_WHATEVER",
];

/// Files that a text names and a user has, or makes.
const FILES_OF_USERS: [&str; 17] = [
    // What the page serves.
    "openapi.json",
    "/api/v1/openapi.json",
    "endpoints.txt",
    "FILE.pem",
    "PWD/rules.txt",
    "/etc/resolv.conf",
    "/etc/rules.txt",
    "/etc/sniffer.env",
    "/path/to/ca.pem",
    "ca.pem",
    "calls.sqlite",
    "orders.pcapng.gz",
    "rules.txt",
    "sniffer.service",
    "ledger.json",
    "control.sock",
    "call.json",
];

/// Ends of names that make a word a file.
const FILE_ENDS: [&str; 11] = [
    ".json", ".yaml", ".yml", ".service", ".conf", ".toml", ".pem", ".txt", ".sh", ".md", ".env",
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A text that people read, and where it stands.
struct Text {
    place: String,
    text: String,
}

/// The documents for users.
fn documents() -> Vec<Text> {
    let root = repository();
    let mut paths = vec![
        "README.md".into(),
        "CHANGELOG.md".into(),
        "tuning/README.md".into(),
        "SECURITY.md".into(),
        "deploy/sniffer.env".into(),
        "deploy/sniffer.service".into(),
        "deploy/sniffer-all-in-one.service".into(),
        "deploy/compose.yaml".into(),
    ];
    for entry in std::fs::read_dir(root.join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            paths.push(format!("docs/{name}"));
        }
    }
    let read = |place: String| Text {
        text: std::fs::read_to_string(root.join(&place)).unwrap(),
        place,
    };
    paths.into_iter().map(read).collect()
}

/// The string literals of the program outside of its tests: messages, help, explanations. Doc comments are the help of options.
/// Those of `curl.rs` are options of curl.
fn messages() -> Vec<Text> {
    let root = repository();
    let programs = [
        "engine/base/src",
        "engine/io/src",
        "engine/daemon/src",
        "store/src",
    ];
    let mut folders: Vec<_> = programs.map(|folder| root.join(folder)).into();
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if name != "tests" {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") && !matches!(name, "tests.rs" | "advice.rs" | "curl.rs")
            {
                let source = std::fs::read_to_string(&path).unwrap();
                let place = path.strip_prefix(&root).unwrap().display().to_string();
                texts.extend(literals(&source).into_iter().map(|text| Text {
                    place: place.clone(),
                    text,
                }));
            }
        }
    }
    texts
}

/// The string literals before the tests of a source, with their escapes resolved, and each block of doc comments.
fn literals(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let mut found = Vec::new();
    let mut letters = source.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            // A character literal of a quote.
            '\'' if letters.peek() == Some(&'"') => {
                letters.next();
            }
            '"' => found.push(literal(&mut letters)),
            '/' if letters.peek() == Some(&'/') => {
                let comment: String =
                    std::iter::from_fn(|| letters.next_if(|&next| next != '\n')).collect();
                found.extend(comment.strip_prefix("// ").map(str::to_owned));
            }
            _ => {}
        }
    }
    found
}

fn literal(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => match letters.next() {
                Some('n') => text.push('\n'),
                Some('\n') => while letters.next_if(|next| next.is_whitespace()).is_some() {},
                Some(other) => text.push(other),
                None => break,
            },
            _ => text.push(letter),
        }
    }
    text
}

/// The words of `text` that start with `start` and go on with letters that `is_part` takes, at the start of a word.
fn words<'a>(
    text: &'a str,
    start: &'a str,
    is_part: fn(char) -> bool,
) -> impl Iterator<Item = &'a str> {
    text.match_indices(start).filter_map(move |(at, _)| {
        let before = text[..at].chars().next_back();
        let is_inside =
            before.is_some_and(|letter| letter.is_ascii_alphanumeric() || "-_/{}".contains(letter));
        let rest = &text[at..];
        let end = rest[start.len()..].find(|letter| !is_part(letter));
        let word = &rest[..end.map_or(rest.len(), |end| start.len() + end)];
        (!is_inside).then_some(word)
    })
}

/// The options of all commands. Made once, since there are thousands of texts.
static OPTIONS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let mut known = BTreeSet::from(["--help".to_owned(), "--version".to_owned()]);
    let mut commands = vec![Cli::command()];
    while let Some(command) = commands.pop() {
        known.extend(
            command
                .get_arguments()
                .filter_map(|argument| Some(format!("--{}", argument.get_long()?))),
        );
        commands.extend(command.get_subcommands().cloned());
    }
    known
});

/// Options in `text` that neither this program nor another one named in it has.
fn unknown_options(text: &str) -> Vec<String> {
    // A document is about several programs, a line about few.
    let lines = text.lines().flat_map(|line| {
        words(line, "--", |letter| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '_')
        })
        .map(move |option| (line, option.trim_end_matches('-')))
    });
    let is_foreign = |line: &str, option: &str| {
        FOREIGN.iter().any(|(program, options)| {
            line.to_lowercase().contains(program) && options.contains(&option)
        })
    };
    lines
        .filter(|(_, option)| option.len() > 2)
        .filter(|&(line, option)| !OPTIONS.contains(option) && !is_foreign(line, option))
        .map(|(line, option)| format!("{option} in: {}", line.trim()))
        .collect()
}

/// Variables in `text` that are no settings.
fn unknown_variables(text: &str) -> Vec<String> {
    let names: BTreeSet<&str> = ALL
        .iter()
        .flat_map(|setting| setting.row().names())
        .collect();
    let is_of_sink = |name: &str| ALL.iter().any(|setting| setting.row().is_family_of(name));
    let is_part =
        |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    ["SNIFFER_", "USAGE_LOGGERS_", "APP_"]
        .into_iter()
        .flat_map(|prefix| words(text, prefix, is_part))
        .filter(|name| {
            !names.contains(name)
                && !is_of_sink(name)
                && !NO_SETTINGS.contains(name)
                && !WITHOUT_EFFECT.iter().any(|(known, _)| known == name)
        })
        .map(str::to_owned)
        .collect()
}

/// Assignments `NAME=VALUE` in `text` whose value the setting does not take. A value with a placeholder is none.
fn refused_values(text: &str) -> Vec<String> {
    let mut refused = Vec::new();
    for name in ALL.iter().flat_map(|setting| setting.row().names()) {
        for assignment in words(text, name, |letter| {
            !letter.is_whitespace() && !"`'\"();".contains(letter)
        }) {
            let Some(value) = assignment[name.len()..].strip_prefix('=') else {
                continue;
            };
            let value = value.trim_end_matches(['.', ',', ':']);
            // `ADDRESS:PORT` stands for a value.
            let has = |is_wanted: fn(&char) -> bool| value.chars().any(|letter| is_wanted(&letter));
            let is_placeholder = has(char::is_ascii_uppercase)
                && !has(char::is_ascii_lowercase)
                && !has(char::is_ascii_digit);
            if is_placeholder
                || value.is_empty()
                || value.contains(['{', '<', '$', '…'])
                || value.contains("...")
            {
                continue;
            }
            let given = [(name.into(), value.into())];
            let checked = environment::values(given.into_iter(), false)
                .and_then(|(values, _)| Settings::check(&values, Commands::MAX));
            if let Err(problem) = checked {
                refused.push(format!("{name}={value}: {}", problem.what));
            }
        }
    }
    refused
}

/// Command lines of this program in `text`: what stands between backquotes, and lines of their own.
fn command_lines(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2).map(str::to_owned);
    let lines = text.replace("\\\n", " ");
    let lines = lines
        .lines()
        .map(|line| line.trim().to_owned())
        .collect::<Vec<_>>();
    let all = quoted.chain(lines);
    let start = |line: &str| {
        let line = line
            .trim_start_matches("sudo ")
            .trim_start_matches("./target/release/");
        line.strip_prefix("sniffer ")
            .map(|rest| format!("sniffer {rest}"))
    };
    all.filter_map(|line| start(&line)).collect()
}

/// The words of a command line up to a remark, a pipe or a redirection, as a shell divides them.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let line = line.split("    ").next().unwrap_or_default();
    for letter in line.chars() {
        match (letter, quote) {
            ('\'' | '"', None) => quote = Some(letter),
            (end, Some(open)) if end == open => quote = None,
            ('|' | '>' | '#' | ';' | '&', None) => break,
            (' ', None) => words.push(String::new()),
            _ => words.last_mut().unwrap().push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Command lines in `text` that are refused.
fn refused_commands(text: &str) -> Vec<String> {
    let is_prose = |words: &[String]| {
        // `sniffer 0.1.0`, `sniffer is off`: what the program prints, and sentences about it.
        words.get(1).is_none_or(|word| {
            word.contains(['{', '(', '.', ','])
                || word.starts_with(|first: char| !first.is_ascii_lowercase() && first != '-')
                || [
                    "a", "is", "are", "runs", "works", "has", "reads", "and", "store:", "as", "in",
                ]
                .contains(&word.as_str())
        }) || words.iter().any(|word| word.contains('{'))
    };
    let mut refused = Vec::new();
    for line in command_lines(text) {
        let words = shell_words(&line);
        if is_prose(&words) {
            continue;
        }
        if let Err(error) = Cli::try_parse_from(&words)
            && error.use_stderr()
            && !matches!(
                error.kind(),
                clap::error::ErrorKind::MissingRequiredArgument
                    | clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            )
        {
            refused.push(format!("{line}: {}", error.kind()));
        }
    }
    refused
}

/// Files that `text` names and that are neither in the repository nor a user's.
fn missing_files(text: &str) -> Vec<String> {
    let root = repository();
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "._/-".contains(letter);
    let mut missing = Vec::new();
    for word in text.split(|letter| !is_letter(letter)) {
        let word = word.trim_end_matches('.');
        let is_file = FILE_ENDS
            .iter()
            .any(|end| word.ends_with(end) && word.len() > end.len());
        if !is_file || word.starts_with("//") || FILES_OF_USERS.contains(&word) {
            continue;
        }
        let places = ["", "docs", "deploy", "tuning", "bench"];
        let name = word.trim_start_matches("../");
        if !places
            .iter()
            .any(|place| root.join(place).join(name).exists())
        {
            missing.push(word.to_owned());
        }
    }
    missing
}

#[track_caller]
fn check(what: &str, texts: Vec<Text>, find: fn(&str) -> Vec<String>) {
    let wrong: Vec<String> = texts
        .iter()
        .flat_map(|text| {
            find(&text.text)
                .into_iter()
                .map(|found| format!("{}: {found}", text.place))
        })
        .collect();
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

#[test]
fn options_exist() {
    check("options that do not exist", documents(), unknown_options);
    check("options that do not exist", messages(), unknown_options);
}

#[test]
fn variables_exist() {
    check("settings that do not exist", documents(), unknown_variables);
    check("settings that do not exist", messages(), unknown_variables);
}

#[test]
fn values_are_taken() {
    check("values that are refused", documents(), refused_values);
    check("values that are refused", messages(), refused_values);
}

#[test]
fn commands_are_parsed() {
    check("commands that are refused", documents(), refused_commands);
    check("commands that are refused", messages(), refused_commands);
}

#[test]
fn files_exist() {
    check("files that do not exist", messages(), missing_files);
}

/// What was advised once and did not exist, and other inventions.
#[test]
fn inventions_are_found() {
    for (text, find) in [
        (
            "give the token with --hedder 'Name: value'",
            unknown_options as fn(&str) -> Vec<String>,
        ),
        ("docker run --ca-bundle FILE", unknown_options),
        ("set SNIFFER_HEADDER=x", unknown_variables),
        ("SNIFFER_SHARDS=many", refused_values),
        ("`sniffer explain E041` has more", refused_commands),
        ("sniffer run --interfaces eth0", refused_commands),
        (
            "docker run --security-opt seccomp=sniffer.json",
            missing_files,
        ),
    ] {
        assert!(!find(text).is_empty(), "{text}");
    }
    assert!(unknown_options("a/--b --ports 80 -- and --").is_empty());
    assert_eq!(
        literals("let a = \"x \\\n   y\"; // \"no\"\n/// help\n"),
        ["x y", "help"]
    );
}
