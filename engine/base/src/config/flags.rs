//! The flags of the settings that one command takes, made from the table.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::manual::default;
use super::setting::{Commands, Described, EVERY, Form, Row};
use super::settings::ALL;
use super::values::Values;
use super::wrap::wrapped;

/// Heading of the flags that every command has.
pub const GLOBAL_HEADING: &str = "Every command";

/// Stands for a blank at which no line may be broken.
const UNBROKEN_BLANK: &str = "\u{a0}";

/// Columns of a flag's help, which stand to the right of its name.
const HELP_COLUMNS: usize = 80;

/// What was given on the command line of the command `COMMAND`.
#[derive(Clone, Debug, Default)]
pub struct Flags<const COMMAND: Commands>(Vec<(&'static Row, String)>);

impl<const COMMAND: Commands> Flags<COMMAND> {
    /// Sets the given flags over the values of the environment.
    pub fn apply(&self, values: &mut Values) {
        for (row, text) in &self.0 {
            values.set(row, text);
        }
    }

    fn settings() -> impl Iterator<Item = &'static dyn Described> {
        ALL.iter()
            .copied()
            .filter(|setting| setting.row().commands & COMMAND != 0)
    }
}

impl<const COMMAND: Commands> Args for Flags<COMMAND> {
    fn augment_args(command: Command) -> Command {
        command.args(Self::settings().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const COMMAND: Commands> FromArgMatches for Flags<COMMAND> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = Self::settings().flat_map(|setting| {
            let row = setting.row();
            let texts = given(row, matches).into_iter();
            texts.map(move |text| (row, text))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.extend(Self::from_arg_matches(matches)?.0);
        Ok(())
    }
}

/// One text, or one for each time that the flag was given where each is of another sink.
fn given(row: &Row, matches: &ArgMatches) -> Vec<String> {
    let one = match row.form {
        Form::Switch => matches.get_flag(row.flag).then(|| "true".to_owned()),
        Form::One | Form::Hyphenated | Form::Lines => matches.get_one::<String>(row.flag).cloned(),
        Form::List => all(row, matches, ","),
        Form::Repeated => all(row, matches, "\n"),
        Form::Named => {
            let texts = matches.get_many::<String>(row.flag);
            return texts.into_iter().flatten().cloned().collect();
        }
    };
    one.into_iter().collect()
}

/// The texts of a flag that may be given several times.
fn all(row: &Row, matches: &ArgMatches, between: &str) -> Option<String> {
    let texts = matches.get_many::<String>(row.flag)?;
    let texts: Vec<&str> = texts.map(String::as_str).collect();
    Some(texts.join(between))
}

fn argument(setting: &dyn Described) -> Arg {
    let row = setting.row();
    let action = match row.form {
        Form::Switch => ArgAction::SetTrue,
        Form::One | Form::Hyphenated | Form::Lines => ArgAction::Set,
        Form::List | Form::Repeated | Form::Named => ArgAction::Append,
    };
    let is_global = row.commands == EVERY;
    let argument = Arg::new(row.flag)
        .long(row.flag)
        .short(row.short)
        // `sniffer store --backend` is the same as `sniffer all-in-one --store-backend`.
        .alias(
            row.flag
                .strip_prefix("store-")
                .filter(|_| row.flag == "store-backend"),
        )
        .action(action)
        .global(is_global)
        .allow_hyphen_values(row.form == Form::Hyphenated)
        .help(help(setting))
        .long_help(long_help(setting));
    let argument = if row.form == Form::Switch {
        argument
    } else {
        argument.value_name(row.metavar)
    };
    if is_global {
        argument.help_heading(GLOBAL_HEADING)
    } else {
        argument.help_heading(row.group.heading())
    }
}

/// The text as one word.
fn unbroken(text: &str) -> String {
    text.replace(' ', UNBROKEN_BLANK)
}

/// One sentence, the default, and the name in the environment.
fn help(setting: &dyn Described) -> String {
    let row = setting.row();
    let default = match (row.form, default(setting).as_str()) {
        (Form::Switch, _) | (_, "none") => String::new(),
        (_, default) => format!(" {}", unbroken(&format!("[default: {default}]"))),
    };
    let summary = row.summary();
    let sentence = summary.trim_end_matches('.');
    let name = unbroken(&format!("[env: {}]", row.name));
    let lines = wrapped(&format!("{sentence}{default} {name}"), HELP_COLUMNS);
    lines.replace(UNBROKEN_BLANK, " ")
}

/// The same, and all that `sniffer help NAME` has beside it: `--help`, where `-h` has the one sentence.
fn long_help(setting: &dyn Described) -> String {
    let details = setting.row().details();
    let details = details.filter(|detail| !detail.is_empty());
    let details = details.map(|detail| wrapped(&detail, HELP_COLUMNS));
    std::iter::once(help(setting))
        .chain(details)
        .collect::<Vec<_>>()
        .join("\n\n")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::config::command_line::Cli;

    #[test]
    fn no_command_has_a_flag_twice() {
        Cli::command().debug_assert();
    }

    /// `-h` has a line or two for each flag, `--help` the whole explanation, both in the same groups.
    #[test]
    fn the_short_help_is_short_and_the_long_one_has_everything() {
        let mut cli = Cli::command();
        cli.build();
        let run = cli.find_subcommand_mut("run").unwrap();
        let (short, long) = (
            run.render_help().to_string(),
            run.render_long_help().to_string(),
        );
        let detail = "By default these are all that are up";
        assert!(!short.contains(detail) && long.contains(detail), "{long}");
        assert!(short.lines().count() * 2 < long.lines().count());
        for heading in [
            "Which packets:",
            "Where calls go:",
            "Operation:",
            "Every command:",
        ] {
            assert!(
                short.contains(heading) && long.contains(heading),
                "{heading}"
            );
        }
    }

    #[test]
    fn every_row_is_complete() {
        for setting in ALL {
            let row = setting.row();
            assert!(row.summary().ends_with('.'), "{}: a sentence", row.name);
            assert!(row.summary().len() <= 100, "{}: a short one", row.name);
            assert!(!row.flag.is_empty() && row.commands != 0, "{}", row.name);
            assert_eq!(
                row.metavar.is_empty(),
                row.form == Form::Switch,
                "{}: a switch takes no text, others do",
                row.name
            );
        }
    }

    #[test]
    fn a_default_that_depends_on_the_store_is_shown_with_both_values() {
        let mut rows = ALL.iter().filter(|setting| setting.row().flag == "rules");
        let shown = help(*rows.next().expect("is a setting"));
        let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            shown.contains("[default: include default; embedded store: include debug]"),
            "{shown}"
        );
    }
}
