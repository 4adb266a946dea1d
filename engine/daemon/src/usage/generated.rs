//! Completions of shells and man pages, made from the command line as clap has it, and so from the table of settings.

use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::unknown_command;
use crate::config::command_line::Cli;
use crate::diagnostic::{Code, Diagnostic, Exit, system_words};
use crate::stdout::print;

/// `sniffer completions`.
pub fn completions(shell: Shell) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sniffer", &mut text);
    print(&String::from_utf8_lossy(&text));
    Exit::Done
}

/// `sniffer man`: one page on standard output, or all of them in a folder.
pub fn pages(command: &[String], folder: Option<&Path>) -> Result<Exit, Diagnostic> {
    let program = whole();
    if let Some(folder) = folder {
        write_all(&program, folder)?;
        return Ok(Exit::Done);
    }
    let mut page = &program;
    let mut before = "sniffer".to_owned();
    for word in command {
        let found = page.find_subcommand(word);
        page = found.ok_or_else(|| unknown_command(&before, word))?;
        before = format!("{before} {word}");
    }
    print(&rendered(page));
    Ok(Exit::Done)
}

/// The command line, each command with its whole name: what clap does before it reads arguments.
fn whole() -> Command {
    let mut program = Cli::command();
    program.build();
    program
}

fn rendered(command: &Command) -> String {
    let name = page_name(command);
    let mut text = Vec::new();
    // Writing to a vector does not fail.
    let _ = Man::new(command.clone())
        .title(name.to_uppercase())
        .manual("sniffer")
        .render(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// `sniffer-rules-test`.
fn page_name(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    name.replace(' ', "-")
}

/// The command and all below it that are shown.
fn all<'c>(command: &'c Command, into: &mut Vec<&'c Command>) {
    into.push(command);
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
    {
        all(below, into);
    }
}

fn write_all(program: &Command, folder: &Path) -> Result<(), Diagnostic> {
    let mut commands = Vec::new();
    all(program, &mut commands);
    std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    for command in commands {
        let path = folder.join(format!("{}.1", page_name(command)));
        std::fs::write(&path, rendered(command)).map_err(|error| unwritable(&path, &error))?;
    }
    Ok(())
}

fn unwritable(path: &Path, error: &std::io::Error) -> Diagnostic {
    let what = format!("cannot write {}: {}", path.display(), system_words(error));
    Diagnostic::new(Code::E002, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::setting::RUN;
    use crate::config::settings::ALL;

    #[test]
    fn the_pages_have_every_command_and_every_setting() {
        let folder = tempfile::tempdir().unwrap();
        write_all(&whole(), folder.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let program = read("sniffer.1");
        for command in whole()
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
        {
            let name = page_name(command);
            assert!(program.contains(&name.replace('-', "\\-")), "{name}");
            assert!(read(&format!("{name}.1")).starts_with(".ie"), "{name}");
        }
        let run = read("sniffer-run.1");
        for setting in ALL
            .iter()
            .filter(|setting| setting.row().commands & RUN != 0)
        {
            let flag = setting.row().long_flag().replace('-', "\\-");
            assert!(run.contains(&flag), "{flag}");
        }
        assert!(read("sniffer-rules-test.1").contains("sniffer\\-rules\\-test"));
        assert!(!folder.path().join("sniffer-delegate.1").exists());
    }

    #[test]
    fn completions_know_commands_and_flags() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sniffer", &mut text);
            let text = String::from_utf8(text).unwrap();
            for word in ["all-in-one", "memory-limit", "mirror-source", "interfaces"] {
                assert!(text.contains(word), "{shell}: {word}");
            }
        }
    }
}
