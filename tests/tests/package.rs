//! The Debian package as `deploy/package` builds it: what is in it. That it can be installed, run, upgraded and purged is tested by
//! `tests/package`, in a machine with its own systemd.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tests::process::run;
use tests::program::{repository, sniffer_path};

/// Files, each with its mode as dpkg-deb lists it.
const FILES: [(&str, &str); 10] = [
    ("./usr/bin/sniffer", "-rwxr-xr-x"),
    // It may have secrets.
    ("./etc/default/sniffer", "-rw-------"),
    ("./lib/systemd/system/sniffer.service", "-rw-r--r--"),
    (
        "./lib/systemd/system/sniffer-all-in-one.service",
        "-rw-r--r--",
    ),
    ("./usr/share/man/man1/sniffer.1.gz", "-rw-r--r--"),
    ("./usr/share/man/man1/sniffer-run.1.gz", "-rw-r--r--"),
    (
        "./usr/share/bash-completion/completions/sniffer",
        "-rw-r--r--",
    ),
    ("./usr/share/zsh/vendor-completions/_sniffer", "-rw-r--r--"),
    ("./usr/share/doc/network-sniffer/copyright", "-rw-r--r--"),
    (
        "./usr/share/doc/network-sniffer/docs/upgrading.md",
        "-rw-r--r--",
    ),
];

#[test]
fn the_package_has_its_files_and_belongs_to_root() -> Result<()> {
    let folder = tempfile::tempdir()?;
    run(Command::new(repository().join("deploy/package"))
        .arg("--program")
        .arg(sniffer_path())
        .arg(folder.path())
        .env("DPKG_DEB_COMPRESSOR_TYPE", "none")
        .env("VERSION", "1.2.3"))?;
    let mut built = std::fs::read_dir(folder.path())?;
    let package = built.next().context("no package")??.path();
    ensure!(built.next().is_none(), "something is left beside it");
    let ask = |what: &str| run(Command::new("dpkg-deb").arg(what).arg(&package));

    let contents = ask("--contents")?;
    for (path, mode) in FILES {
        let line = contents
            .lines()
            .find(|line| line.ends_with(path))
            .with_context(|| format!("no {path} in\n{contents}"))?;
        ensure!(line.starts_with(mode), "{line}");
    }
    for line in contents.lines() {
        ensure!(line.contains(" root/root "), "of another user: {line}");
    }

    let control = ask("--field")?;
    for field in [
        "Package: network-sniffer",
        "Version: 1.2.3",
        "adduser",
        "libc6 (>= 2.",
    ] {
        ensure!(control.contains(field), "no {field} in\n{control}");
    }
    ensure!(
        !control.contains("@VERSION@") && !control.contains("@LIBC@"),
        "{control}"
    );
    let conffiles = run(Command::new("dpkg-deb")
        .arg("--info")
        .arg(&package)
        .arg("conffiles"))?;
    ensure!(conffiles == "/etc/default/sniffer\n", "{conffiles}");
    Ok(())
}
