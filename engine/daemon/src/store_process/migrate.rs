//! `sniffer store migrate`: makes the tables of a store in a ClickHouse, or prints the statements for who administers it.

use store::backend::clickhouse::{Migrated, Target};

use crate::config::command_line::MigrateFlags;
use crate::config::setting::STORE;
use crate::config::settings::{Settings, row};
use crate::config::store_target;
use crate::diagnostic::{Code, Diagnostic, Exit};
use crate::invocation::Invocation;
use crate::stdout::print;

/// Runs the command.
pub(super) fn command(flags: &MigrateFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let mut values = invocation.values()?;
    flags.settings.apply(&mut values);
    let settings = Settings::check(&values, STORE)?;
    let Some(mut target) = store_target(&settings)? else {
        let what = "there is nothing to migrate: the store has a file of its own, which it migrates itself";
        return Err(Diagnostic::new(Code::E002, what).fix(format!(
            "{}=clickhouse://sniffer@clickhouse:8123/sniffer    or --store-backend",
            row::store_backend().name
        )));
    };
    if let Some(cluster) = &flags.cluster {
        let set = target.address.set_cluster(cluster);
        set.map_err(|error| Diagnostic::new(Code::E002, format!("--cluster {cluster}: {error}")))?;
    }
    if flags.print {
        let statements = target.plan().map_err(|error| failed(&target, &error))?;
        for statement in statements {
            print(&format!("{statement};\n\n"));
        }
        return Ok(Exit::Done);
    }
    let console = invocation.console;
    match target.migrate().map_err(|error| failed(&target, &error))? {
        Migrated::Unchanged => {
            console.info(format!("{}: the tables are up to date", target.address));
        }
        Migrated::Done => console.info(format!("{}: the tables are ready", target.address)),
        Migrated::Pending(servers) => console.info(format!(
            "{}: pending, some servers are away and make their tables when they return: {servers}",
            target.address
        )),
    }
    Ok(Exit::Done)
}

fn failed(target: &Target, error: &impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new(Code::E101, format!("{}: {error:#}", target.address))
}
