//! What the command line may be: help, versions, explanations of message codes, and what clap refuses, in the form of all other messages.

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::config::command_line::Cli;
use crate::config::manual;
use crate::diagnostic::{Code, Colour, Console, Diagnostic, Exit};
use crate::stdout::print;

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
            let hint = text(ContextKind::SuggestedSubcommand)
                .map(|guess| format!(". Did you mean {guess}?"))
                .unwrap_or_default();
            Diagnostic::new(Code::E001, format!("unknown command {word:?}{hint}"))
                .fix("sniffer on | off | status | run | read FILE | check | rules | all-in-one | demo    (sniffer --help)")
        }
        ErrorKind::UnknownArgument => {
            let command = text(ContextKind::Usage).unwrap_or_default();
            let habit = habit(&argument, command.contains("sniffer read"));
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
        _ => {
            let words = error.render().to_string();
            let first = words.lines().next().unwrap_or_default();
            Diagnostic::new(Code::E002, first.trim_start_matches("error: ").to_owned())
        }
    };
    let problem = match (problem.fix.is_some(), text(ContextKind::Usage)) {
        (false, Some(usage)) => problem.fix(usage.trim().to_owned()),
        (false, None) => problem.fix("sniffer --help"),
        _ => problem,
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
