//! The files of `deploy` for fleets: manifests of Kubernetes against the schemas of its API, settings that exist, and the balancer.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use tests::clients::validated_manifest;
use tests::program::{repository, sniffer_ends};

fn files(folder: &str) -> Result<Vec<PathBuf>> {
    let folder = repository().join("deploy").join(folder);
    let files = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path()));
    let files: Vec<PathBuf> = files.collect::<Result<_>>()?;
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    Ok(files)
}

#[test]
fn manifests_are_as_the_api_has_them() -> Result<()> {
    for file in files("kubernetes")? {
        let ended = validated_manifest(&file)?;
        ensure!(ended.code()? == 0, "{}: {ended:?}", file.display());
    }
    // What the API does not have is found.
    let good = repository().join("deploy/kubernetes/store.yaml");
    let text = fs::read_to_string(good)?;
    for (part, bad) in [
        ("replicas: 2", "replicas: two"),
        ("maxUnavailable: 1", "maxUnvailable: 1"),
        ("containerPort: 7701", "containerport: 7701"),
    ] {
        ensure!(text.contains(part), "{part}");
        let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        fs::write(file.path(), text.replace(part, bad))?;
        let ended = validated_manifest(file.path())?;
        ensure!(ended.code()? != 0, "{bad} is accepted: {ended:?}");
    }
    Ok(())
}

#[test]
fn settings_of_the_manifests_exist() -> Result<()> {
    let mut names = BTreeSet::new();
    for folder in ["kubernetes", "fleet"] {
        for file in files(folder)? {
            let text = fs::read_to_string(&file)?;
            let is_of_name = |letter: char| letter.is_ascii_uppercase() || letter == '_';
            let words = text.split(|letter: char| !is_of_name(letter));
            let settings = words
                .filter(|word| word.starts_with("SNIFFER_") || word.starts_with("USAGE_LOGGERS_"));
            names.extend(settings.map(str::to_owned));
        }
    }
    ensure!(names.len() > 5, "{names:?}");
    for name in names {
        let ended = sniffer_ends(&["help", &name], &[])?;
        ensure!(ended.code()? == 0, "{name}: {ended:?}");
    }
    Ok(())
}

/// What the DaemonSet may do: read packets, and nothing else.
#[test]
fn nothing_gets_more_rights_than_it_needs() -> Result<()> {
    let read = |name: &str| fs::read_to_string(repository().join("deploy").join(name));
    let sniffer = read("kubernetes/sniffer.yaml")?;
    ensure!(sniffer.contains("capabilities: { drop: [ALL], add: [NET_RAW] }"));
    let stores = [
        read("kubernetes/store.yaml")?,
        read("kubernetes/store-file.yaml")?,
    ];
    for store in &stores {
        ensure!(store.contains("capabilities: { drop: [ALL] }") && !store.contains("add:"));
    }
    for text in stores.iter().chain([&sniffer]) {
        for needed in [
            "runAsNonRoot: true",
            "readOnlyRootFilesystem: true",
            "automountServiceAccountToken: false",
            "seccompProfile: { type: RuntimeDefault }",
        ] {
            ensure!(text.contains(needed), "{needed}");
        }
        ensure!(!text.contains("privileged: true") && !text.contains("hostPID"));
    }
    let compose = read("fleet/compose.yaml")?;
    let store = compose.split("services:").next().context("the store")?;
    ensure!(store.contains("cap_drop: [ALL]") && !store.contains("ports:"));
    Ok(())
}
