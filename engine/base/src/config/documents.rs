//! The tables of settings in README.md and docs/settings.md, the file of settings deploy/sniffer.env, and the test that they are what
//! the table of settings gives.
//! `UPDATE_DOCUMENTS=1 cargo test -p engine-base documents` writes them anew.

use std::path::PathBuf;

use super::manual::{commands, default, flag};
use super::setting::{ALL_IN_ONE, Described, EVERY, Group, RUN};
use super::settings::{ALL, WITHOUT_EFFECT};
use super::wrap::wrapped;

/// Columns of a page.
const COLUMNS: usize = 120;

/// What stands before and after the table in the README.
const MARKS: [&str; 2] = [
    "<!-- Written from engine/base/src/config/settings.rs; see docs/settings.md. -->\n\n",
    "\n<!-- End of the settings. -->\n",
];

fn of_group(group: Group) -> impl Iterator<Item = &'static dyn Described> {
    ALL.iter()
        .copied()
        .filter(move |setting| setting.row().group == group)
}

fn code_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// The README's table.
fn table() -> String {
    let mut text =
        "| environment | flag | default | what |\n| --- | --- | --- | --- |\n".to_owned();
    for setting in Group::ALL.into_iter().flat_map(of_group) {
        let row = setting.row();
        let short = row
            .short
            .map_or(String::new(), |letter| format!("`-{letter}`, "));
        text.push_str(&format!(
            "| {} | {short}`{}` | {} | {} |\n",
            code_list(row.names()),
            row.long_flag(),
            default(setting),
            row.summary().trim_end_matches('.')
        ));
    }
    text
}

/// The whole of docs/settings.md.
fn page() -> String {
    let mut text = "# Settings\n\n".to_owned();
    let mut paragraph = |paragraph: &str| {
        text.push_str(&wrapped(paragraph, COLUMNS));
        text.push_str("\n\n");
    };
    paragraph(
        "Each setting has a name in the environment and a flag. The flag wins; where a setting has two names, the first \
         wins. Empty means unset. One pair of quotes around a value is removed, since `docker run --env-file` keeps it. \
         An unknown name that begins with `SNIFFER_`, `USAGE_LOGGERS_` or `APP_` is an error with a guess; `--lenient` \
         turns it into a warning.",
    );
    paragraph(
        "A switch takes `true` or `false` (also `on`, `off`, `yes`, `no`, `1`, `0`), a size a number of bytes with K, M \
         or G for powers of 1024, a time a number with `ms`, `s` or `m`, an address `ADDRESS:PORT`, or `:PORT` for all \
         addresses. Commas separate the items of a list.",
    );
    paragraph(
        "`sniffer help NAME` prints what stands here, `sniffer run --help` all flags in short.",
    );
    for group in Group::ALL {
        paragraph(&format!("## {}", group.heading()));
        for setting in of_group(group) {
            let row = setting.row();
            paragraph(&format!("### {}", code_list(row.names())));
            paragraph(&format!(
                "`{}` of {}. Default: {}.",
                flag(row),
                commands(row),
                default(setting)
            ));
            paragraph(&row.summary());
            row.details().for_each(|detail| paragraph(&detail));
        }
    }
    paragraph("## Without effect");
    paragraph(
        "These names of network-sniffer 1.x are accepted, so that an existing environment keeps working, and change \
         nothing. A value other than `false`, `0` and `none` is a warning (W004).",
    );
    text.push_str("| name | why |\n| --- | --- |\n");
    for (name, why) in WITHOUT_EFFECT {
        text.push_str(&format!("| `{name}` | {why} |\n"));
    }
    text
}

/// The whole of deploy/sniffer.env: every setting of a service or a container, commented out.
fn environment_file() -> String {
    let mut text = String::new();
    let mut comment = |paragraph: &str| {
        for line in wrapped(paragraph, COLUMNS - 2).lines() {
            text.push_str(&format!("# {line}\n"));
        }
    };
    comment(
        "Settings of sniffer, for systemd (/etc/default/sniffer) and for docker (--env-file): one NAME=VALUE a line, \
         without blanks around the equals sign. What is empty or commented out has its default. `sniffer help NAME` \
         explains a setting, docs/settings.md all of them. A wrong name stops the start.",
    );
    comment(
        "Rules of several lines are best in a file: USAGE_LOGGERS_RULES=file:///etc/sniffer/rules.txt. In this file they \
         need double quotes and \\n: USAGE_LOGGERS_RULES=\"include standard\\ninclude private\".",
    );
    for group in Group::ALL {
        text.push_str(&format!("\n# ---- {}\n", group.heading()));
        for setting in of_group(group) {
            let row = setting.row();
            if row.commands & (RUN | ALL_IN_ONE | EVERY) == 0 {
                continue;
            }
            let summary = row.summary();
            let paragraph = format!(
                "{}. Default: {}.",
                summary.trim_end_matches('.'),
                default(setting)
            );
            text.push('\n');
            for line in wrapped(&paragraph, COLUMNS - 2).lines() {
                text.push_str(&format!("# {line}\n"));
            }
            text.push_str(&format!("#{}=\n", row.name));
        }
    }
    text
}

#[track_caller]
fn check(path: &str, expected: impl FnOnce(&str) -> String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    let is = std::fs::read_to_string(&path).unwrap_or_default();
    let expected = expected(&is);
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        std::fs::write(&path, expected).unwrap();
    } else {
        assert!(
            is == expected,
            "{} is not what the table of settings gives: UPDATE_DOCUMENTS=1 cargo test -p engine-base documents",
            path.display()
        );
    }
}

#[test]
fn the_readme_has_the_table() {
    check("README.md", |is| {
        let [first, last] = MARKS;
        let (before, rest) = is.split_once(first).expect("the mark before the table");
        let (_, after) = rest.split_once(last).expect("the mark after the table");
        format!("{before}{first}{}{last}{after}", table())
    });
}

#[test]
fn the_page_is_what_the_table_gives() {
    check("docs/settings.md", |_| page());
}

#[test]
fn the_file_of_settings_has_every_setting() {
    check("deploy/sniffer.env", |_| environment_file());
    let given = environment_file();
    let names = given.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix('#')?.split_once('=')?;
        name.starts_with(|first: char| first.is_ascii_uppercase())
            .then_some(name)
    });
    assert_eq!(names.count(), ALL.len(), "each setting once");
}
