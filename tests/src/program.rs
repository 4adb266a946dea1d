//! The built program: found next to the test executable, brought up to date by cargo.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};

use crate::process::{Ended, Running, run};

/// Names another program than the one built with the tests, for example one that was installed.
const OTHER_PROGRAM: &str = "PROGRAM_UNDER_TEST";

/// Folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the repository")
}

/// Path of the built `sniffer`.
pub fn sniffer_path() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        env::var_os(OTHER_PROGRAM)
            .map_or_else(|| build().expect("sniffer must build"), PathBuf::from)
    })
    .clone()
}

/// Builds in the profile of the running tests. When nothing changed this takes as long as cargo needs to see that.
fn build() -> Result<PathBuf> {
    let deps = env::current_exe()?
        .parent()
        .context("the test lies in a folder")?
        .to_owned();
    let profile_folder = deps.parent().context("target/PROFILE/deps")?;
    let profile = profile_folder.file_name().context("target/PROFILE")?;
    let profile = if profile == "debug" {
        "dev".as_ref()
    } else {
        profile
    };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "sniffer",
            "--bin",
            "sniffer",
            "--profile",
        ])
        .arg(profile);
    cargo
        .arg("--target-dir")
        .arg(profile_folder.parent().context("target")?);
    run(cargo.current_dir(repository()))?;
    Ok(profile_folder.join("sniffer"))
}

/// `sniffer` with these arguments and none of the settings that happen to be in our environment.
pub fn sniffer(arguments: &[&str]) -> Command {
    let mut command = Command::new(sniffer_path());
    command.args(arguments);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let ours = [
            "SNIFFER_",
            "USAGE_LOGGERS_",
            "APP_PORT",
            "NET_DEVICE",
            "VPC_MIRROR_DEVICE",
            "K8S_INPUT",
            "DYNO",
        ];
        if ours.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    command
}

/// Runs `sniffer` to its end.
pub fn sniffer_ends(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Ended> {
    let mut command = sniffer(arguments);
    command.envs(environment.iter().copied());
    Running::start(&mut command)?.end(std::time::Duration::from_secs(60))
}
