//! What one row of the table of [settings](super::settings) holds: names, kind, default, purpose and the commands that
//! take it.

use std::fmt;
use std::ops::Deref;

use engine_core::pipeline;

use super::value::Value;
use crate::diagnostic::Diagnostic;

/// How the text of a setting is read.
pub trait Kind {
    /// What is left of the text once it has been checked.
    type Checked: Clone + fmt::Debug;

    /// How the flag of such a setting takes its text.
    const FORM: Form = Form::One;

    /// Reads the text. The error names the setting as the user wrote it, shows the text and what is expected instead.
    fn check(value: &Value) -> Result<Self::Checked, Diagnostic>;

    /// A checked value as a user would write it: how a default is shown.
    fn show(checked: &Self::Checked) -> String;

    /// Whether the text stands for the default, as `all` does in a list of ports.
    fn is_default(_text: &str) -> bool {
        false
    }
}

/// How a flag takes its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// No text: the flag alone means `true`.
    Switch,
    /// One text.
    One,
    /// One text that may start with a hyphen.
    Hyphenated,
    /// One text, in which the characters `\n` are a line end.
    Lines,
    /// A text each time that the flag is given; commas join them.
    List,
    /// The same, joined by line ends, in which the characters `\n` are a line end.
    Repeated,
    /// `SINK=TEXT` each time that the flag is given; in the text the characters `\n` are a line end.
    Named,
}

impl Form {
    /// Whether the characters `\n` in a text are a line end.
    pub fn has_lines(self) -> bool {
        matches!(self, Self::Lines | Self::Repeated | Self::Named)
    }
}

/// What stands for the name of a sink in the name of a setting of one sink.
const SINK: &str = "_NAME_";

/// The chapters of the help and of the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Interfaces, ports, networks.
    Packets,
    /// Content of the lines.
    Calls,
    /// Destination and bundles.
    Delivery,
    /// Memory, metrics, control.
    Operation,
    /// Store and page of the all-in-one.
    Store,
}

impl Group {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 5] = [
        Self::Packets,
        Self::Calls,
        Self::Delivery,
        Self::Operation,
        Self::Store,
    ];

    /// The heading above the settings of this group.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Packets => "Which packets",
            Self::Calls => "What a call contains",
            Self::Delivery => "Where calls go",
            Self::Operation => "Operation",
            Self::Store => "Embedded store",
        }
    }
}

/// A set of commands, one bit each.
pub type Commands = u16;

/// `sniffer run`.
pub const RUN: Commands = 1;
/// `sniffer read`.
pub const READ: Commands = 1 << 1;
/// `sniffer check`.
pub const CHECK: Commands = 1 << 2;
/// `sniffer all-in-one`.
pub const ALL_IN_ONE: Commands = 1 << 3;
/// `sniffer store`.
pub const STORE: Commands = 1 << 4;
/// `sniffer demo`.
pub const DEMO: Commands = 1 << 5;
/// `sniffer rules test` and `explain`.
pub const RULES_TEST: Commands = 1 << 6;
/// Every command, and no command at all.
pub const EVERY: Commands = 1 << 7;

/// `sniffer spool`.
pub const SPOOL: Commands = 1 << 8;

/// `sniffer store export`.
pub const EXPORT: Commands = 1 << 9;
/// `sniffer store import`.
pub const IMPORT: Commands = 1 << 10;

/// The commands with a live capture.
pub const CAPTURING: Commands = RUN | CHECK | ALL_IN_ONE;
/// The commands that deliver calls.
pub const DELIVERING: Commands = CAPTURING | SPOOL;
/// The commands that read calls, live or from files.
pub const READING: Commands = CAPTURING | READ;
/// The commands with the embedded store.
pub const STORING: Commands = STORE | ALL_IN_ONE | DEMO;

/// Each command that has settings, by name.
pub const NAMED: Commands = Commands::MAX & !EVERY;

/// Each command by itself, with its name.
pub const COMMANDS: [(Commands, &str); 11] = [
    (RUN, "run"),
    (READ, "read"),
    (CHECK, "check"),
    (ALL_IN_ONE, "all-in-one"),
    (STORE, "store"),
    (DEMO, "demo"),
    (RULES_TEST, "rules test"),
    (SPOOL, "spool"),
    (EXPORT, "store export"),
    (IMPORT, "store import"),
    (EVERY, "every command"),
];

/// The row of one setting, whatever its kind.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Name in the environment.
    pub name: &'static str,
    /// Older names in the environment, which count where the first is not set.
    pub aliases: &'static [&'static str],
    /// Long flag without its hyphens.
    pub flag: &'static str,
    /// Short flag.
    pub short: Option<char>,
    /// The placeholder after the flag in the help; empty for a switch.
    pub metavar: &'static str,
    /// How the flag takes its text.
    pub form: Form,
    /// Chapter of the help and of the documents.
    pub group: Group,
    /// The commands that have the flag. They also read the environment.
    pub commands: Commands,
    /// The default in words, where it depends on the machine.
    pub default_words: &'static str,
    /// The default with the embedded store, where it is another one.
    pub embedded_default: &'static str,
    /// The value is never shown.
    pub is_secret: bool,
    /// The help: a first paragraph of one sentence, then the rest.
    pub doc: &'static str,
}

impl Row {
    /// All names in the environment, the one that counts most first.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// The name in the environment of this setting of one sink, where `SINK` stands for the name of the sink.
    pub fn name_of(&self, sink: &str) -> String {
        let sink = sink.to_ascii_uppercase().replace('-', "_");
        self.name.replacen(SINK, &format!("_{sink}_"), 1)
    }

    /// Whether a name in the environment is that of this setting of some sink.
    pub fn is_family_of(&self, name: &str) -> bool {
        let ends = self.name.split_once(SINK);
        let ends = ends.filter(|_| self.form == Form::Named);
        ends.is_some_and(|(start, end)| {
            let rest = name
                .strip_prefix(start)
                .and_then(|rest| rest.strip_prefix('_'));
            let sink = rest.and_then(|rest| rest.strip_suffix(end)?.strip_suffix('_'));
            sink.is_some_and(|sink| !sink.is_empty())
        })
    }

    /// The long flag as it is typed.
    pub fn long_flag(&self) -> String {
        format!("--{}", self.flag)
    }

    /// One sentence: what the setting does.
    pub fn summary(&self) -> String {
        paragraphs(self.doc).next().unwrap_or_default()
    }

    /// What there is to add to the sentence, one paragraph each.
    pub fn details(&self) -> impl Iterator<Item = String> {
        paragraphs(self.doc).skip(1)
    }
}

/// The paragraphs of a documentation comment, each in one line.
fn paragraphs(doc: &str) -> impl Iterator<Item = String> {
    doc.split("\n\n").map(|paragraph| {
        let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
        lines.join(" ").trim().to_owned()
    })
}

/// A row with the kind and the default of its setting.
pub struct Setting<K: Kind> {
    row: Row,
    default: fn() -> K::Checked,
    sets: Option<fn(&mut pipeline::Config, &K::Checked)>,
}

impl<K: Kind> Setting<K> {
    /// A setting with its name in the environment and its default.
    pub const fn new(name: &'static str, default: fn() -> K::Checked) -> Self {
        let row = Row {
            name,
            aliases: &[],
            flag: "",
            short: None,
            metavar: "",
            form: K::FORM,
            group: Group::Operation,
            commands: 0,
            default_words: "",
            embedded_default: "",
            is_secret: false,
            doc: "",
        };
        Self {
            row,
            default,
            sets: None,
        }
    }

    /// Older names in the environment.
    pub const fn aliases(mut self, names: &'static [&'static str]) -> Self {
        self.row.aliases = names;
        self
    }

    /// The flag, and the placeholder after it in the help.
    pub const fn flag(mut self, flag: &'static str, metavar: &'static str) -> Self {
        self.row.flag = flag;
        self.row.metavar = metavar;
        self
    }

    /// The short flag.
    pub const fn short(mut self, letter: char) -> Self {
        self.row.short = Some(letter);
        self
    }

    /// The chapter, and the commands that take it.
    pub const fn of(mut self, group: Group, commands: Commands) -> Self {
        self.row.group = group;
        self.row.commands = commands;
        self
    }

    /// The default in words: it depends on the machine.
    pub const fn default_words(mut self, words: &'static str) -> Self {
        self.row.default_words = words;
        self
    }

    /// Another default with the embedded store.
    pub const fn embedded_default(mut self, words: &'static str) -> Self {
        self.row.embedded_default = words;
        self
    }

    /// The value is never shown.
    pub const fn secret(mut self) -> Self {
        self.row.is_secret = true;
        self
    }

    /// The help.
    pub const fn doc(mut self, doc: &'static str) -> Self {
        self.row.doc = doc;
        self
    }

    /// Where the value goes in the configuration of the pipeline.
    pub const fn sets(mut self, sets: fn(&mut pipeline::Config, &K::Checked)) -> Self {
        self.sets = Some(sets);
        self
    }

    /// Puts a value where it goes in the configuration of the pipeline, if it goes there.
    pub fn configure(&self, config: &mut pipeline::Config, value: &K::Checked) {
        if let Some(set) = self.sets {
            set(config, value);
        }
    }

    /// What was given, checked, or the default.
    pub fn check(&self, given: Option<&Value>) -> Result<K::Checked, Diagnostic> {
        match given {
            Some(value) if !K::is_default(&value.text) => K::check(value),
            _ => Ok((self.default)()),
        }
    }

    /// The default.
    pub fn default(&self) -> K::Checked {
        (self.default)()
    }
}

impl<K: Kind> Deref for Setting<K> {
    type Target = Row;

    fn deref(&self) -> &Row {
        &self.row
    }
}

/// What is known of a setting without its kind.
pub trait Described: Sync {
    /// Its row.
    fn row(&self) -> &Row;

    /// Its default as a user would write it or in words; empty when there is none.
    fn default_text(&self) -> String;
}

impl<K: Kind> Described for Setting<K> {
    fn row(&self) -> &Row {
        &self.row
    }

    fn default_text(&self) -> String {
        if self.row.default_words.is_empty() {
            K::show(&(self.default)())
        } else {
            self.row.default_words.to_owned()
        }
    }
}
