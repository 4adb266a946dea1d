//! `bench report`: one Markdown page and SVG plots from the CSV files of a folder.
//!
//! The page has the measured values, their spread over repetitions, and which targets are met. All verdicts are computed
//! from the rows, in `targets`. The page lists the machines and commits of the rows.

mod budget;
mod figure;
mod plot;
mod session;
mod statistics;
mod tables;
mod targets;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

use self::session::{Rows, Session};
pub use self::statistics::Spread;
use crate::results::{self, Purpose, Trial};

/// Writes `report.md` and `*.svg` into `folder`, from the CSV files there.
pub fn write(folder: &Path) -> Result<()> {
    let session = Session {
        trials: trials(folder)?,
        limits: results::read(folder, "limit")?,
        packets: results::read(folder, "packets")?,
        readings: results::read(folder, "read")?,
        stages: results::read(folder, "stages")?,
        encoders: results::read(folder, "encoders")?,
    };
    let mut page = String::from("# What was measured\n\n");
    session.conditions(&mut page)?;
    targets::write(&mut page, &session)?;
    tables::write(&mut page, &session)?;
    budget::write(&mut page, &session)?;
    instructions(&mut page, folder)?;
    figure::write(&mut page, folder, &session)?;
    session.commands(&mut page)?;
    fs::write(folder.join("report.md"), page)?;
    Ok(())
}

fn trials(folder: &Path) -> Result<Rows<Trial>> {
    let mut trials: Rows<Trial> = results::read(folder, "run")?;
    for (trial, conditions) in &mut trials {
        // The oldest files do not distinguish rates that a search found from given ones, which are not repetitions of
        // each other.
        if trial.purpose == Purpose::Rate && conditions.command.contains(" --rate ") {
            trial.purpose = Purpose::Given;
        }
    }
    Ok(trials)
}

/// Appends the output of `bench/instructions` in the folder, unchanged.
fn instructions(page: &mut String, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("instructions") && name.ends_with(".txt") {
            let text = fs::read_to_string(entry.path())?;
            writeln!(
                page,
                "## Instructions by stage\n\n```\n{}\n```\n",
                text.trim_end()
            )?;
        }
    }
    Ok(())
}
