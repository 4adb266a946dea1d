//! What the command line may be: help, versions, explanations of message codes, and what clap refuses, in the form of all other messages.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use crate::config::command_line::Cli;
use crate::config::guess::guess;
use crate::config::manual;
use crate::diagnostic::{Code, Colour, Console, Diagnostic, Exit};
use crate::stdout::print;

#[cfg(test)]
mod advice;
pub mod dashboard;
pub mod generated;
#[cfg(test)]
mod messages;

/// `sniffer version`.
pub fn version() -> Exit {
    print(&format!("sniffer {}\n", env!("CARGO_PKG_VERSION")));
    Exit::Done
}

/// `sniffer help`: of the program, of a command, of a setting, or of the code of a message.
pub fn help(topic: Option<&str>) -> Result<Exit, Diagnostic> {
    let Some(topic) = topic else {
        return Ok(show_clap_help(&["sniffer", "--help"]));
    };
    if let Some(code) = Code::find(topic) {
        print(&format!(
            "{code}: {}\n\n{}\n",
            code.title(),
            code.explanation()
        ));
        return Ok(Exit::Done);
    }
    if let Some(setting) = manual::find(topic) {
        print(&manual::text(setting));
        return Ok(Exit::Done);
    }
    let looks_like_code =
        topic.len() == 4 && topic.as_bytes().iter().skip(1).all(u8::is_ascii_digit);
    if looks_like_code {
        let known: Vec<String> = Code::ALL.iter().map(ToString::to_string).collect();
        return Err(
            Diagnostic::new(Code::E002, format!("no message has the code {topic}"))
                .cause(format!("codes: {}", known.join(" "))),
        );
    }
    Ok(show_clap_help(&["sniffer", topic, "--help"]))
}

fn show_clap_help(arguments: &[&str]) -> Exit {
    match Cli::try_parse_from(arguments) {
        Err(error) => report(&error),
        Ok(_) => Exit::Done,
    }
}

/// Reports what clap refuses. Help and version arrive here as well, and are no errors.
pub fn report(error: &clap::Error) -> Exit {
    let console = Console::new(Colour::Auto, false);
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        Some(ContextValue::StyledStr(text)) => Some(text.to_string()),
        Some(ContextValue::StyledStrs(texts)) => texts.first().map(ToString::to_string),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg).unwrap_or_default();
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let problem = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            print(&error.render().to_string());
            return Exit::Done;
        }
        ErrorKind::InvalidSubcommand => {
            // The predecessor's words, which scripts look for, and then how it is done.
            print("Network sniffer: Invalid option.\n");
            let word = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            let before = command(&text(ContextKind::Usage).unwrap_or_default());
            unknown_command(&before, &word)
        }
        ErrorKind::UnknownArgument => {
            let usage = text(ContextKind::Usage).unwrap_or_default();
            let habit = habit(&argument, command(&usage) == "sniffer read");
            let hint = text(ContextKind::SuggestedArg)
                .filter(|_| habit.is_none())
                .map(|guess| format!(". Did you mean {guess}?"))
                .unwrap_or_default();
            let problem = Diagnostic::new(Code::E001, format!("unknown option {argument}{hint}"));
            match habit {
                Some(fix) => problem.fix(fix),
                None => problem,
            }
        }
        ErrorKind::MissingRequiredArgument => {
            Diagnostic::new(Code::E002, format!("{argument} is missing"))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if value.is_empty() => {
            Diagnostic::new(Code::E002, format!("{argument}: a value is missing"))
        }
        ErrorKind::InvalidValue => {
            let known = text(ContextKind::ValidValue)
                .map(|known| format!(": expected one of {known}"))
                .unwrap_or_default();
            Diagnostic::new(Code::E002, format!("{argument}={value}{known}"))
        }
        ErrorKind::ValueValidation => Diagnostic::new(
            Code::E002,
            format!("{argument}={value}: not a value that it takes"),
        ),
        ErrorKind::ArgumentConflict => Diagnostic::new(
            Code::E060,
            format!(
                "{argument} does not go together with {}",
                text(ContextKind::PriorArg).unwrap_or_default()
            ),
        ),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            let before = given_command();
            let names = subcommands(&before).join(", ");
            Diagnostic::new(Code::E002, format!("{before} takes one of {names}"))
        }
        _ => {
            let words = error.render().to_string();
            let first = words.lines().next().unwrap_or_default();
            Diagnostic::new(Code::E002, first.trim_start_matches("error: ").to_owned())
        }
    };
    let problem = if problem.fix.is_some() {
        problem
    } else {
        let command = text(ContextKind::Usage).map_or_else(given_command, |usage| command(&usage));
        problem.fix(format!("{command} --help    lists the options"))
    };
    console.report(&problem);
    Exit::Usage
}

/// What does here what an option does in tcpdump, tshark and others.
fn habit(option: &str, is_read: bool) -> Option<&'static str> {
    Some(match (option, is_read) {
        ("-f" | "-Y" | "--filter", true) => {
            "tcpdump -r FILE -w - FILTER | sniffer read -    or --ports PORTS"
        }
        ("-f" | "-Y" | "--filter", false) => "--bpf FILTER",
        ("--url", true) => "sniffer read prints calls; sniffer run --url URL delivers them",
        ("-i" | "--interface", true) => "sniffer run -i NAME    captures on an interface",
        ("-c", true) => "-n COUNT    ends after this number of calls",
        ("-w", true) => "sniffer read FILE > CALLS    writes the calls to a file",
        ("-r", false) => "sniffer read FILE",
        _ => return None,
    })
}

/// The command that a usage line is of: `sniffer rules test` of `Usage: sniffer rules test [OPTIONS] <CAPTURE>...`. The name
/// of the program file is of no interest.
fn command(usage: &str) -> String {
    let usage = usage.trim().trim_start_matches("Usage:");
    let words = usage.split_whitespace().skip(1);
    let words = words.take_while(|word| word.starts_with(|first: char| first.is_ascii_lowercase()));
    std::iter::once("sniffer")
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The command of this process, for an error that does not name it.
fn given_command() -> String {
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let clap = Cli::command();
    let mut known = &clap;
    let mut names = vec!["sniffer"];
    for word in words.iter().skip(1) {
        match known.find_subcommand(word) {
            Some(found) => known = found,
            None => break,
        }
        names.push(known.get_name());
    }
    names.join(" ")
}

/// The commands below a command.
fn subcommands(command: &str) -> Vec<String> {
    let clap = Cli::command();
    let mut known = &clap;
    for name in command.split(' ').skip(1) {
        match known.find_subcommand(name) {
            Some(found) => known = found,
            None => break,
        }
    }
    known
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| command.get_name().to_owned())
        .collect()
}

/// `before` is the command whose subcommand `word` is to be.
fn unknown_command(before: &str, word: &str) -> Diagnostic {
    let names = subcommands(before);
    let guess = guess(word, names.iter().map(String::as_str));
    let hint = guess.map_or_else(String::new, |guess| format!(". Did you mean {guess}?"));
    let fix = match guess {
        Some(guess) => format!("{before} {guess}"),
        None => format!("{before} {}    ({before} --help)", names.join(" | ")),
    };
    Diagnostic::new(Code::E001, format!("unknown command {word:?}{hint}")).fix(fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_line_gives_the_command() {
        for (usage, expected) in [
            (
                "Usage: sniffer0 run --lenient --interface <NAMES>",
                "sniffer run",
            ),
            (
                "Usage: x rules test [OPTIONS] <CAPTURE>...",
                "sniffer rules test",
            ),
            ("Usage: sniffer [OPTIONS] [COMMAND]", "sniffer"),
            ("", "sniffer"),
        ] {
            assert_eq!(command(usage), expected);
        }
    }

    #[track_caller]
    fn check(before: &str, word: &str, what: &str, fix: &str) {
        let problem = unknown_command(before, word);
        assert_eq!(problem.what, what);
        let given = problem.fix.unwrap();
        assert!(given.starts_with(fix), "{given}");
    }

    #[test]
    fn an_unknown_command_has_a_guess_or_a_list() {
        check(
            "sniffer",
            "rnu",
            "unknown command \"rnu\". Did you mean run?",
            "sniffer run",
        );
        check(
            "sniffer",
            "gizmo",
            "unknown command \"gizmo\"",
            "sniffer run | all-in-one | ",
        );
        check(
            "sniffer rules",
            "gizmo",
            "unknown command \"gizmo\"",
            "sniffer rules check | test | explain | apply | reload ",
        );
    }
}
