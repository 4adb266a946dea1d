//! The program `sniffer`: what the user typed in, an exit code out.
//!
//! The library exists so that tests reach the parts; the binary beside it calls [`main`] and nothing else.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use config::command_line::{Cli, Command, GlobalFlags, RulesCommand};
use config::environment;
use config::values::Values;
use control::{Request, Unreachable};
use diagnostic::{Code, Console, Diagnostic, Exit};
use status::{State, Status};

pub mod capture;
pub mod capture_file;
pub mod capture_url;
pub mod check;
pub mod clock;
pub mod config;
pub mod control;
pub mod counters;
pub mod demo;
pub mod diagnostic;
pub mod limits;
pub mod metrics;
pub mod pipeline;
pub mod process;
pub mod quantity;
pub mod random;
pub mod read;
pub mod report;
pub mod rules_command;
pub mod run;
pub mod sandbox;
mod signals;
pub mod sink;
pub mod status;
pub mod store_process;
pub mod supervised;
pub mod supervisor;

/// How long `on` and `off` may take: an `off` delivers first.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(120);

/// Does what the command line says.
pub fn main() -> ExitCode {
    report_panics();
    let cli = match Cli::try_parse_from(arguments()) {
        Ok(cli) => cli,
        Err(error) => return usage_error(&error).into(),
    };
    let console = Console::new(cli.global.color, cli.global.quiet);
    let done = perform(cli, console);
    let exit = done.unwrap_or_else(|problem| {
        console.report(&problem);
        problem.exit()
    });
    exit.into()
}

/// The command line; `-r FILE` is `read FILE`, as the neighbourhood has it.
fn arguments() -> Vec<std::ffi::OsString> {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if let Some(first) = arguments.get_mut(1).filter(|first| *first == "-r") {
        *first = "read".into();
    }
    arguments
}

/// A panic is our bug: it is told in our form, and a shard that panics ends the program with exit code 1.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(|location| format!(" at {}:{}", location.file(), location.line()))
            .unwrap_or_default();
        let thread = std::thread::current()
            .name()
            .unwrap_or("unnamed")
            .to_owned();
        let payload = panic.payload();
        let words = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let problem = Diagnostic::new(
            Code::E199,
            format!("sniffer has a bug: {}", words.unwrap_or("panic")),
        )
        .cause(format!(
            "thread {thread}{place}, version {}",
            env!("CARGO_PKG_VERSION")
        ));
        Console::new(diagnostic::Colour::Auto, false).report(&problem);
    }));
}

fn perform(cli: Cli, console: Console) -> Result<Exit, Diagnostic> {
    let control = config::control_path(&cli.global.settings);
    let values = |global: &GlobalFlags| -> Result<Values, Diagnostic> {
        let (mut values, notices) = environment::values(std::env::vars_os(), global.lenient)?;
        console.report_all(&notices);
        global.settings.apply(&mut values);
        Ok(values)
    };
    match cli.command {
        None => show_status(&control, cli.json),
        Some(Command::Status(flags)) => show_status(&control, flags.json || cli.json),
        Some(Command::On) => tell(&control, Request::On),
        Some(Command::Off) => tell(&control, Request::Off),
        Some(Command::Rules(RulesCommand::Reload)) => tell(&control, Request::Reload),
        Some(Command::Rules(RulesCommand::Check { rules })) => {
            rules_command::check(rules.as_deref(), &mut values(&cli.global)?, console)
        }
        Some(Command::Rules(RulesCommand::Test(flags))) => {
            let mut values = values(&cli.global)?;
            flags.settings.apply(&mut values);
            let reading = config::reading(&values, false)?;
            confine_reader(&flags.files, &values, console)?;
            rules_command::comparison::run(&flags.files, reading, flags.calls, console)
        }
        Some(Command::Rules(RulesCommand::Apply)) => rules_command::apply(),
        Some(Command::Help { topic }) => help(topic.as_deref()),
        Some(Command::Version) => {
            print(&format!("sniffer {}\n", env!("CARGO_PKG_VERSION")));
            Ok(Exit::Done)
        }
        Some(Command::Interfaces) => {
            let all = engine_sys::interfaces::list().map_err(|error| {
                Diagnostic::new(Code::E090, format!("cannot list interfaces: {error}"))
            })?;
            print(&capture::interfaces::table(&all));
            Ok(Exit::Done)
        }
        Some(Command::Check(flags)) => {
            let mut values = values(&cli.global)?;
            flags.settings.apply(&mut values);
            let wanted = check::Wanted {
                mirror: flags.mirror,
                tuning: flags.tuning,
            };
            let findings = check::findings(&values, wanted);
            print(&match flags.json || cli.json {
                true => check::json(&findings),
                false => check::text(&findings),
            });
            Ok(check::exit(&findings))
        }
        Some(Command::Read(flags)) => {
            let mut values = values(&cli.global)?;
            flags.settings.apply(&mut values);
            let reading = config::reading(&values, false)?;
            let ledger = flags.ledger.as_deref();
            let ledger = ledger.map(read::LedgerFile::open).transpose()?;
            confine_reader(&flags.files, &values, console)?;
            read::run(&read::Options {
                reading,
                form: if flags.json || cli.json {
                    Some(config::command_line::Form::Ndjson)
                } else {
                    flags.output
                },
                files: flags.files,
                strict: flags.strict,
                ledger,
                console,
                colour: cli.global.color,
            })
        }
        Some(Command::Run(flags)) => {
            let mut values = values(&cli.global)?;
            flags.settings.apply(&mut values);
            let config = config::capture(&values, flags.embedded_store)?;
            let reload = || {
                config::capture(&values, flags.embedded_store).map(|config| config.reading.rules)
            };
            run::run(
                config,
                run::context::Context {
                    control: &control,
                    own_ports: &flags.own_ports,
                    reload: &reload,
                    rules_file: config::rules_file(&values).as_deref(),
                    sandbox: config::sandbox(&values)?,
                    is_supervised: flags.supervised,
                    console,
                },
            )
        }
        Some(Command::Store(flags)) => {
            let mut values = values(&cli.global)?;
            flags.settings.apply(&mut values);
            let sandbox = config::sandbox(&values)?;
            store_process::run(&config::store(&values)?, flags.supervised, sandbox, console)
        }
        Some(Command::AllInOne(flags)) => {
            let mut values = values(&cli.global)?;
            flags.settings.apply(&mut values);
            let on = config::autostart(&values)?;
            supervisor::run(supervisor::Options {
                values,
                on,
                control,
                console,
            })
        }
        Some(Command::Demo(flags)) => {
            let mut values = values(&cli.global)?;
            flags.settings.apply(&mut values);
            demo::run(&flags, values, control, console)
        }
    }
}

/// Before hostile files are read. What comes of it is not told: a filter in a pipe says nothing while all is well.
fn confine_reader(
    files: &[std::path::PathBuf],
    values: &Values,
    console: Console,
) -> Result<(), Diagnostic> {
    if config::sandbox(values)? {
        sandbox::Confinement::of(&sandbox::Plan::reader(files));
    } else {
        console.info(format_args!("sandbox: {}", sandbox::Confinement::Unwanted));
    }
    Ok(())
}

fn show_status(control: &Path, json: bool) -> Result<Exit, Diagnostic> {
    let (status, exit) = match control::ask(control, Request::Status, Duration::from_secs(10)) {
        Ok(response) => (response.status.unwrap_or_else(status::empty), response.exit),
        Err(Unreachable::NotRunning) => (status::empty(), Exit::NotRunning as u8),
        Err(Unreachable::Error(problem)) => return Err(problem),
    };
    match json {
        true => print(&format!(
            "{}\n",
            serde_json::to_string(&status).unwrap_or_default()
        )),
        false => print(&status.render()),
    }
    Ok(if exit == 0 && status_is_up(&status) {
        Exit::Done
    } else {
        Exit::NotRunning
    })
}

fn status_is_up(status: &Status) -> bool {
    status.state != State::Stopped
}

/// `on` and `off`: says what the running program answers.
fn tell(control: &Path, request: Request) -> Result<Exit, Diagnostic> {
    match control::ask(control, request, CONTROL_TIMEOUT) {
        Ok(response) => {
            print(&format!("{}\n", response.text.trim_end()));
            Ok(Exit::from_code(response.exit))
        }
        Err(Unreachable::Error(problem)) => Err(problem),
        Err(Unreachable::NotRunning) => {
            print("sniffer: ERROR (no sniffer is running)\n");
            eprint!(
                "{}",
                Diagnostic::new(
                    Code::E110,
                    format!("nothing answers on {}", control.display())
                )
                .fix("sniffer all-in-one    or: sniffer run")
            );
            Ok(Exit::NotRunning)
        }
    }
}

fn help(topic: Option<&str>) -> Result<Exit, Diagnostic> {
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
    if let Some(setting) = config::manual::find(topic) {
        print(&config::manual::text(setting));
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
        Err(error) => usage_error(&error),
        Ok(_) => Exit::Done,
    }
}

/// What clap refuses, in our form. Help and version are no errors.
fn usage_error(error: &clap::Error) -> Exit {
    let console = Console::new(diagnostic::Colour::Auto, false);
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
            let hint = text(ContextKind::SuggestedArg)
                .map(|guess| format!(". Did you mean {guess}?"))
                .unwrap_or_default();
            Diagnostic::new(Code::E001, format!("unknown option {argument}{hint}"))
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

/// Data for standard output. A closed pipe is nobody's error.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
