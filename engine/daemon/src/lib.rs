//! The program `sniffer`: from the command line to an exit code.
//!
//! It is a library so that tests reach the parts; the binary only calls [`main`]. `perform` shows which module has which
//! command. The modules form a ladder: each uses only modules beneath it, in the order of `ARCHITECTURE.md`.

use std::process::ExitCode;

use clap::Parser;

pub use engine_base::{
    capture_url, clock, config, control, counters, delegate, descriptors, diagnostic, invocation,
    limits, pipeline, process, quantity, random, sandbox, signals, status, stdout, supervised,
};
pub use engine_io::{capture, capture_file, printer, reader, sink, timeline};

use config::command_line::{CanaryCommand, Cli, Command, RulesCommand, StoreCommand};
use control::Request;
use diagnostic::{Code, Console, Diagnostic, Exit};
use invocation::Invocation;

pub mod canary;
pub mod check;
pub mod client;
pub mod demo;
pub mod metrics;
pub mod read;
pub mod report;
pub mod rule_trial;
pub mod rules_command;
pub mod run;
pub mod settings_command;
pub mod spool_command;
pub mod store_client;
pub mod store_process;
pub mod store_transfer;
pub mod supervisor;
pub mod support;
pub mod top;
pub mod usage;

/// Runs the command of the command line.
pub fn main() -> ExitCode {
    report_panics();
    let cli = match Cli::try_parse_from(arguments()) {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error).into(),
    };
    let invocation = Invocation::new(&cli);
    let done = perform(cli, &invocation);
    let exit = done.unwrap_or_else(|problem| {
        invocation.console.report(&problem);
        problem.exit()
    });
    exit.into()
}

/// Calls the module of the command.
fn perform(cli: Cli, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let Some(command) = cli.command else {
        return client::show_status(invocation, cli.json);
    };
    match command {
        Command::Run(flags) => run::command(&flags, invocation),
        Command::AllInOne(flags) => supervisor::command(&flags, invocation),
        Command::Demo(flags) => demo::command(&flags, invocation),
        Command::On => client::request(invocation, Request::On),
        Command::Off => client::request(invocation, Request::Off),
        Command::Status(flags) => {
            let json = flags.json || cli.json;
            match flags.watch {
                Some(seconds) => client::watch_status(invocation, json, seconds),
                None => client::show_status(invocation, json),
            }
        }
        Command::Ports(flags) => client::ports::show(invocation, flags.json || cli.json),
        Command::Config(flags) => settings_command::command(&flags, invocation),
        Command::Report(flags) => support::command(&flags, invocation),
        Command::Top(flags) => top::command(&flags, invocation),
        Command::Dashboard(flags) => usage::dashboard::command(&flags),
        Command::Page => client::show_page(invocation),
        Command::Tail(flags) => store_client::tail(&flags, invocation),
        Command::Query(flags) => store_client::query(&flags, invocation),
        Command::Delete(flags) => store_client::delete(&flags, invocation),
        Command::Check(flags) => match flags.canary {
            Some(count) => store_client::canary::check(count, &flags, invocation),
            None => check::command(&flags, invocation),
        },
        Command::Canary(CanaryCommand::Serve(flags)) => canary::serve(&flags, invocation),
        Command::Read(flags) => read::command(flags, invocation),
        Command::Store(flags) => match &flags.command {
            Some(StoreCommand::Export(flags)) => store_transfer::export(flags, invocation),
            Some(StoreCommand::Import(flags)) => store_transfer::import(flags, invocation),
            Some(StoreCommand::Migrate(_)) | None => store_process::command(&flags, invocation),
        },
        Command::Rules(command) => match command {
            RulesCommand::Check { rules } => rules_command::check(rules.as_deref(), invocation),
            RulesCommand::Test(flags) => rules_command::compare(&flags, invocation),
            RulesCommand::Explain(flags) => rules_command::explain(&flags, invocation),
            RulesCommand::Apply => rules_command::apply(),
            RulesCommand::Reload => client::request(invocation, Request::Reload),
        },
        Command::Spool(command) => spool_command::command(&command, invocation),
        Command::Interfaces => capture::interfaces::command(),
        Command::Completions { shell } => Ok(usage::generated::completions(shell)),
        Command::Man { command, all } => usage::generated::pages(&command, all.as_deref()),
        Command::Delegate(command) => delegate::command(&command),
        Command::Help { topic } => usage::help(topic.as_deref()),
        Command::Version => Ok(usage::version()),
    }
}

/// The command line, in which `-r FILE` is `read FILE`, as other programs that read captures have it.
fn arguments() -> Vec<std::ffi::OsString> {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if let Some(first) = arguments.get_mut(1).filter(|first| *first == "-r") {
        *first = "read".into();
    }
    arguments
}

/// Reports a panic, which is a bug, as a diagnostic. A shard that panics ends the program with exit code 1.
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
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let problem = Diagnostic::new(
            Code::E199,
            format!("sniffer has a bug: {}", message.unwrap_or("panic")),
        )
        .cause(format!(
            "thread {thread}{place}, version {}",
            env!("CARGO_PKG_VERSION")
        ));
        Console::new(diagnostic::Colour::Auto, false).report(&problem);
    }));
}
