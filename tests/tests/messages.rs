//! Messages that no other test names, each in the situation that causes it.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use bench::seed::Seed;
use bench::traffic::http2::{self, Encoder, Form};
use bench::traffic::{
    Accidents, Body, Coding, Conversation, Exchange, Frame, Framing, Shape, Side, Vxlan, Wire,
    frames, write_pcap,
};
use tests::capture::Capture;
use tests::network::Namespace;
use tests::nginx::{Nginx, curl};
use tests::process::{Ended, PATIENCE, Running, eventually, run};
use tests::program::{repository, sniffer, sniffer_ends, sniffer_path};
use tests::scene::Scene;

/// Every code of the catalogue is named in a test from outside.
#[test]
fn every_code_is_named_in_a_test() -> Result<()> {
    let read = |path: &str| fs::read_to_string(repository().join(path));
    let catalogue = read("engine/base/src/diagnostic/catalogue.rs")?;
    let codes = catalogue.lines().filter_map(|line| {
        let (code, rest) = line.strip_prefix("    ")?.split_at_checked(4)?;
        let is_code =
            code.starts_with(['E', 'W']) && code[1..].bytes().all(|byte| byte.is_ascii_digit());
        (is_code && rest.starts_with(", ")).then_some(code)
    });
    let codes: Vec<&str> = codes.collect();
    ensure!(codes.len() > 80, "they were not read: {codes:?}");
    let mut tests = String::new();
    let mut folders = vec![repository().join("tests/tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                tests += &fs::read_to_string(path)?;
            }
        }
    }
    let document = read("docs/messages.md")?;
    for code in codes {
        ensure!(
            document.contains(&format!("\n## {code}: ")),
            "docs/messages.md has no {code}"
        );
        ensure!(tests.contains(code), "no test names {code}");
    }
    Ok(())
}

#[track_caller]
fn check(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code().unwrap(), code, "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "no {word:?} in: {ended:?}");
    }
}

#[test]
fn settings_without_effect_and_impossible_ones() -> Result<()> {
    let ended = sniffer_ends(&["run"], &[("SNIFFER_RF_MONITOR_ENABLED", "true")])?;
    check(
        &ended,
        2,
        &["warning[W004]", "SNIFFER_RF_MONITOR_ENABLED", "E039"],
    );
    let ended = sniffer_ends(&["run"], &[("SNIFFER_ENGINE", "k8s")])?;
    check(
        &ended,
        2,
        &["error[E060]", "k8s is not supported", "SNIFFER_ENGINE=auto"],
    );
    // A sink that cannot have its folder, since that is a file.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file");
    fs::write(&file, "")?;
    let sink = format!("archive=file://{}", file.display());
    let control = folder.path().join("control").display().to_string();
    let mut words = vec!["run", "-i", "lo", "--sink", &sink];
    words.extend(["--rules", "include debug", "--control", &control]);
    let namespace = Namespace::new("sink")?;
    let ended = Running::start(&mut namespace.enter(&sniffer(&words)))?.end(PATIENCE)?;
    check(&ended, 2, &["error[E058]", "a folder that this user owns"]);
    Ok(())
}

/// The captures that the repository has, and one that ends within a packet.
#[test]
fn what_is_wrong_with_a_capture_file() -> Result<()> {
    let golden = |name: &str| {
        repository()
            .join("tests/golden")
            .join(name)
            .join("traffic.pcap")
    };
    let read = |path: &Path| sniffer_ends(&["read", "--json", &path.display().to_string()], &[]);
    check(
        &read(&golden("http2-late"))?,
        0,
        &["warning[W063]", "began before the capture"],
    );
    check(
        &read(&golden("mirror-cut"))?,
        0,
        &["warning[W069]", "arrived cut"],
    );
    let folder = tempfile::tempdir()?;
    let cut = folder.path().join("cut.pcap");
    fs::write(&cut, &fs::read(golden("keep-alive"))?[..300])?;
    check(&read(&cut)?, 0, &["warning[W080]", "cut after packet 3"]);
    // Nowhere to write.
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" read --json \"$1\" >/dev/full"]);
    shell.arg(sniffer_path()).arg(golden("keep-alive"));
    let ended = Running::start(&mut shell)?.end(PATIENCE)?;
    check(&ended, 1, &["error[E199]", "no space left"]);
    Ok(())
}

/// A pattern that looks ahead from each place, in a value that takes it through all of them; and a rule for fields by number where
/// the messages have names.
#[test]
fn rules_that_take_too_long_hide_the_value() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let packets = folder.path().join("x.pcap");
    let mut exchange = Exchange::get(1, "/", "done");
    exchange.method = "POST".into();
    exchange.request_body = text("a".repeat(200_000));
    let talk = Conversation {
        exchanges: vec![exchange],
        ..Conversation::seeded(&mut Seed::new(1), &Shape::default())
    };
    write(&packets, &[(talk, Wire::default())])?;
    let rules = "include debug\n/request_body/ remove_if /.*(?=(a*)*b).*/";
    let ended = sniffer_ends(
        &[
            "read",
            "--json",
            "--rules",
            rules,
            &packets.display().to_string(),
        ],
        &[],
    )?;
    check(&ended, 0, &["warning[W036]", "1 value hidden"]);
    Ok(())
}

fn text(plain: String) -> Body {
    Body {
        plain: plain.into(),
        coding: Coding::Identity,
        framing: Framing::Length,
    }
}

fn write(path: &Path, talks: &[(Conversation, Wire)]) -> Result<()> {
    let made = frames(talks, &Accidents::none(), &mut Seed::new(1));
    write_pcap(&mut fs::File::create(path)?, &made, usize::MAX)?;
    Ok(())
}

/// A capture that is read with little memory.
fn read_with_little_memory(frames: &[Frame]) -> Result<Ended> {
    let folder = tempfile::tempdir()?;
    let packets = folder.path().join("x.pcap");
    write_pcap(&mut fs::File::create(&packets)?, frames, usize::MAX)?;
    let path = packets.display().to_string();
    let mut words = vec!["read", "--json", "--half-calls", "--memory-limit", "16M"];
    words.extend(["--rules", "include debug", &path]);
    sniffer_ends(&words, &[])
}

/// Many large bodies at the same time: parts of them are given up.
#[test]
fn bodies_that_the_memory_limit_costs_are_reported() -> Result<()> {
    let mut seed = Seed::new(5);
    let talks: Vec<_> = (0..150)
        .map(|number| {
            let mut exchange = Exchange::get(number, "/", "done");
            exchange.method = "POST".into();
            exchange.request_body = text("large ".repeat(30_000));
            let talk = Conversation {
                exchanges: vec![exchange],
                mss: 1400,
                // All at the same time.
                start: 1_767_225_600_000_000_000 + number,
                ..Conversation::seeded(&mut seed, &Shape::default())
            };
            (talk, Wire::default())
        })
        .collect();
    let made = frames(&talks, &Accidents::none(), &mut seed);
    let ended = read_with_little_memory(&made)?;
    check(&ended, 0, &["warning[W075]", "memory limit reached: "]);
    Ok(())
}

/// One segment with many requests, each of which names a long path by its number in the table: there is room for some of the
/// calls, and none for the others.
#[test]
fn calls_that_the_memory_limit_costs_are_reported() -> Result<()> {
    let path = format!("/{}", "x".repeat(3900));
    let mut encoder = Encoder::new();
    let mut requests = http2::PREFACE.to_vec();
    http2::frame(http2::SETTINGS, 0, 0, &[], &mut requests);
    for stream in (1..6000).step_by(2) {
        let mut block = Vec::new();
        let fields = [(":method", "GET"), (":scheme", "http"), (":path", &path)];
        for (name, value) in fields {
            encoder.field(name, value, Form::Table, &mut block);
        }
        let flags = http2::END_STREAM | http2::END_HEADERS;
        http2::frame(http2::HEADERS, flags, stream, &block, &mut requests);
    }
    let talk = Conversation {
        mss: 60_000,
        ..Conversation::new(Vec::new())
    };
    let segments = talk.segments_of(&[(Side::Client, requests)]);
    let wire = Wire::default();
    let made: Vec<_> = (segments.iter())
        .map(|segment| wire.frame(&talk, segment))
        .collect();
    let ended = read_with_little_memory(&made)?;
    check(
        &ended,
        0,
        &["warning[W048]", "calls given up, counted as dropped"],
    );
    Ok(())
}

/// A capability that is there and does not help, and one that does not become effective.
#[test]
fn a_refused_packet_socket_is_explained() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o1777))?;
    let program = folder.path().join("sniffer");
    fs::copy(sniffer_path(), &program)?;
    let control = folder.path().join("control");
    let words = |command: &mut Command| {
        command
            .arg(&program)
            .args(["run", "-i", "lo", "--no-send", "--control"]);
        command.arg(&control);
    };
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    nobody.args(["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]);
    words(&mut nobody);
    check(
        &Running::start(&mut nobody)?.end(PATIENCE)?,
        5,
        &["error[E011]", "no-new-privileges"],
    );
    // Root of a user namespace has the capability there, but the network belongs to the one outside.
    let mut inside = Command::new("unshare");
    inside.args(["--user", "--map-root-user"]);
    words(&mut inside);
    check(
        &Running::start(&mut inside)?.end(PATIENCE)?,
        5,
        &["error[E012]", "although CAP_NET_RAW is present"],
    );
    Ok(())
}

/// Without a descriptor for it there is no packet socket.
#[test]
fn a_source_that_fails_is_explained() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let control = folder.path().join("control");
    // How many descriptors are open before the one that fails is no matter of this test.
    let mut others = Vec::new();
    for most in 4..24 {
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--nofile={most}:{most}"));
        limited.arg(sniffer_path());
        limited.args(["run", "-i", "lo", "--no-send", "--metrics", "off"]);
        limited.arg("--control").arg(&control);
        let ended = Running::start(&mut limited)?.end(PATIENCE)?;
        if ended.stderr.contains("error[E090]") {
            check(&ended, 6, &["cannot capture on lo", "Too many open files"]);
            return Ok(());
        }
        others.push(ended);
    }
    bail!("no E090: {others:?}")
}

/// The kernel of Docker Desktop, by its name.
#[test]
fn docker_desktop_is_recognised() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let version = folder.path().join("version");
    fs::write(
        &version,
        "Linux version 6.10.14-linuxkit (root@buildkitsandbox) #1 SMP\n",
    )?;
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--net", "sh", "-c"]);
    shell.arg("ip link set lo up && mount --bind \"$1\" /proc/version && exec \"$0\" run -i lo --no-send --control \"$2\"");
    shell
        .arg(sniffer_path())
        .arg(&version)
        .arg(folder.path().join("control"));
    let mut capture = Running::start(&mut shell)?;
    capture.wait_for_log("warning[W023]", PATIENCE)?;
    capture.terminate(PATIENCE)?;
    Ok(())
}

#[test]
fn a_second_sniffer_on_the_same_socket_is_refused() -> Result<()> {
    let namespace = Namespace::new("second")?;
    let folder = tempfile::tempdir()?;
    let control = folder.path().join("control").display().to_string();
    let words = ["run", "-i", "lo", "--no-send", "--control", &control];
    let mut first = Running::start(&mut namespace.enter(&sniffer(&words)))?;
    first.wait_for_log("capturing", PATIENCE)?;
    let second = Running::start(&mut namespace.enter(&sniffer(&words)))?.end(PATIENCE)?;
    check(&second, 2, &["error[E111]", "another sniffer answers on"]);
    first.terminate(PATIENCE)?;
    Ok(())
}

/// A process of an all-in-one that is killed is started again.
#[test]
fn a_killed_child_is_started_again() -> Result<()> {
    let namespace = Namespace::new("killed")?;
    let folder = tempfile::tempdir()?;
    let mut command = sniffer(&["all-in-one"]);
    for (flag, name) in [("--data", "data"), ("--control", "control")] {
        command.arg(flag).arg(folder.path().join(name));
    }
    let mut process = Running::start(&mut namespace.enter(&command))?;
    process.wait_for_log("store ready", PATIENCE)?;
    let children = run(Command::new("pgrep").args(["-P", &process.pid().to_string()]))?;
    let store = children.lines().next().context("the store")?;
    run(Command::new("kill").args(["-KILL", store]))?;
    process.wait_for_log("warning[W102]", PATIENCE)?;
    process.wait_for_log("the store ended by itself; starting it again", PATIENCE)?;
    process.terminate(PATIENCE)?;
    Ok(())
}

/// Whether the status has a warning.
fn warns(capture: &Capture<'_>, code: &str, words: &str) -> Result<()> {
    eventually(PATIENCE * 2, || {
        let status = capture.status()?;
        let warnings = status["warnings"].as_array().context("warnings")?;
        let is_there = warnings.iter().any(|warning| {
            warning["code"] == code
                && warning["text"]
                    .as_str()
                    .is_some_and(|text| text.contains(words))
        });
        ensure!(is_there, "no {code} with {words:?}: {}", status["warnings"]);
        Ok(())
    })
}

/// What a mirror's target lacks: other networks, other mirrors, nothing at all, and another tunnel than is thought.
#[test]
fn a_mirror_without_calls_is_explained() -> Result<()> {
    let scene = Scene::mirrored("10.78.0.2")?;
    let base = [("NET_DEVICE", "a0"), ("SNIFFER_ENGINE", "vxlan")];
    let with = |name: &'static str, value: &'static str| {
        let mut settings = base.to_vec();
        settings.push((name, value));
        scene.capture(&settings)
    };
    let networks = with("SNIFFER_MIRROR_VNIS", "123")?;
    scene.get("/hello")?;
    warns(
        &networks,
        "W066",
        "all of VNI 77, which SNIFFER_MIRROR_VNIS=123 leaves out",
    )?;
    networks.stop()?;
    let mirrors = with("SNIFFER_MIRROR_SOURCES", "10.99.0.0/16")?;
    scene.get("/hello")?;
    warns(
        &mirrors,
        "W076",
        "in tunnels from hosts that are not among the mirrors",
    )?;
    mirrors.stop()?;
    // Packets, but none on the port of VXLAN.
    let silent = with("SNIFFER_MIRROR_VXLANPORT", "4790")?;
    scene.get("/hello")?;
    warns(&silent, "W065", "nothing on UDP 4790 for")?;
    silent.stop()?;
    Ok(())
}

/// Only encrypted connections; and GENEVE without a call in it.
#[test]
fn encrypted_and_tunnelled_traffic_is_explained() -> Result<()> {
    let scene = Scene::new()?;
    let server = &scene.lab.server;
    let folder = tempfile::tempdir()?;
    let [certificate, key] = certificate(folder.path())?;
    let mut openssl = server.command("openssl");
    openssl.args(["s_server", "-accept", "443", "-www", "-quiet", "-cert"]);
    let _openssl = Running::start(openssl.arg(&certificate).arg("-key").arg(&key))?;
    let capture = scene.capture(&[("NET_DEVICE", "s0")])?;
    for _ in 0..3 {
        eventually(PATIENCE, || {
            curl(&scene.lab.client, &["-k", "https://10.77.0.1/"])
        })?;
    }
    warns(&capture, "W062", "no plain HTTP")?;
    let golden = fs::read(repository().join("tests/golden/geneve/traffic.pcap"))?;
    // Behind the headers of the file and of the packet, Ethernet, IPv4 and UDP.
    let length = u32::from_le_bytes(golden[32..36].try_into()?) as usize;
    let payload = &golden[40 + 42..40 + length];
    scene.lab.client.inside(|| -> Result<()> {
        UdpSocket::bind("0.0.0.0:0")?.send_to(payload, "10.77.0.1:6081")?;
        Ok(())
    })?;
    warns(&capture, "W068", "in GENEVE")?;
    capture.stop()?;
    Ok(())
}

/// Bytes that the mirror never sent, in many connections.
#[test]
fn what_was_lost_before_this_machine_is_reported() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let packets = folder.path().join("x.pcap");
    let talks: Vec<_> = (0..40)
        .map(|number| {
            let talk = Conversation {
                mss: 500,
                ..Conversation::seeded(&mut Seed::new(number), &Shape::default())
            };
            let wire = Wire {
                vxlan: Some(Vxlan::new(7)),
                ..Wire::default()
            };
            (talk, wire)
        })
        .collect();
    let accidents = Accidents {
        lose_per_mille: 60,
        ..Accidents::harmless()
    };
    let made = frames(&talks, &accidents, &mut Seed::new(3));
    write_pcap(&mut fs::File::create(&packets)?, &made, usize::MAX)?;
    let ended = sniffer_ends(&["read", "--json", &packets.display().to_string()], &[])?;
    check(&ended, 0, &["warning[W071]", "never reached this machine"]);
    Ok(())
}

/// A container without a volume, whose only place for a spool would end with it.
#[test]
fn no_place_for_a_spool_is_reported() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--net", "sh", "-c"]);
    shell.arg("ip link set lo up && mount -t tmpfs -o ro tmpfs /var/lib && exec \"$0\" run -i lo --control \"$1\"");
    shell.arg(sniffer_path()).arg(folder.path().join("control"));
    shell.env("SNIFFER_SPOOL", "auto");
    shell.env("USAGE_LOGGERS_URL", "http://127.0.0.1:9/message");
    shell.env("USAGE_LOGGERS_RULES", "include debug\nallow_http_url");
    let mut capture = Running::start(&mut shell)?;
    capture.wait_for_log("warning[W056]", PATIENCE)?;
    capture.terminate(PATIENCE)?;
    Ok(())
}

/// What becomes of calls that wait on disk for too long, and of those whose files are damaged.
#[test]
fn losses_in_the_spool_are_reported() -> Result<()> {
    const URL: &str = "http://127.0.0.1:7711/message";
    let namespace = Namespace::new("losses")?;
    let _nginx = Nginx::start(&namespace)?;
    let folder = tempfile::tempdir()?;
    let spool = folder.path().join("spool");
    let path = spool.display().to_string();
    let start = |age: &str| {
        let settings = [
            ("NET_DEVICE", "lo"),
            ("APP_PORTS", "80"),
            ("SNIFFER_SPOOL", path.as_str()),
            ("SNIFFER_SPOOL_AGE", age),
            ("SNIFFER_FLUSH_TIMEOUT", "200ms"),
            ("USAGE_LOGGERS_RULES", "include debug\nallow_http_url"),
        ];
        Capture::start(&namespace, URL, &settings)
    };
    let call = || curl(&namespace, &["http://127.0.0.1/hello"; 3]).map(drop);
    let keep = || -> Result<()> {
        let capture = start("1h")?;
        call()?;
        eventually(PATIENCE, || {
            let status = capture.status()?;
            ensure!(
                status["capture"]["output"]["spool"]["calls"] == 3,
                "{status}"
            );
            Ok(())
        })?;
        capture.stop().map(drop)
    };
    keep()?;
    // By now they are older than that.
    let late = start("1ms")?;
    warns(&late, "W054", "the spool gave up 3 calls")?;
    drop(late.terminate()?);

    keep()?;
    // Within the first record of the index, behind the header of the file.
    let mut damages = 0;
    for entry in fs::read_dir(&spool)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "index") {
            let mut bytes = fs::read(&path)?;
            bytes[64 + 20] ^= 0xff;
            fs::write(&path, bytes)?;
            damages += 1;
        }
    }
    ensure!(damages > 0, "no index in {path}");
    let damaged = start("1h")?;
    warns(&damaged, "W053", "in the spool")?;
    drop(damaged.terminate()?);
    Ok(())
}

/// Certificates that cannot be read any more when they are to be read again; the ones from before stay in use.
#[test]
fn certificates_that_are_damaged_later_are_reported() -> Result<()> {
    let scene = Scene::new()?;
    let folder = tempfile::tempdir()?;
    let [certificate, key] = certificate(folder.path())?;
    let ca = certificate.display().to_string();
    let capture = Capture::start(
        &scene.lab.server,
        "https://127.0.0.1:9/message",
        &[("NET_DEVICE", "s0"), ("SNIFFER_CA", &ca)],
    )?;
    drop(key);
    fs::write(&certificate, "nothing\n")?;
    let ended = capture.control(&["rules", "reload"])?;
    let shown = [ended.stdout, ended.stderr, capture.log()].concat();
    ensure!(
        shown.contains("E057") && shown.contains("certificates were read again"),
        "{shown}"
    );
    drop(capture.terminate()?);
    Ok(())
}

/// A certificate as the usual command makes it, and its key.
fn certificate(folder: &Path) -> Result<[PathBuf; 2]> {
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]);
    openssl.args(["-nodes", "-days", "9", "-subj", "/CN=x", "-keyout"]);
    run(openssl.arg(&key).arg("-out").arg(&certificate))?;
    Ok([certificate, key])
}

/// A rule for a field by number, where messages are read by their types.
#[test]
fn rules_by_number_beside_a_schema_are_reported() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let set = folder.path().join("types.bin");
    // A file with one message without fields.
    fs::write(
        &set,
        b"\x0a\x16\x0a\x07a.proto\x22\x03\x0a\x01M\x62\x06proto3",
    )?;
    let set = set.display().to_string();
    let words = [
        "rules",
        "check",
        "include debug\n/request_body:$.5.1/ remove",
    ];
    let ended = sniffer_ends(&words, &[("SNIFFER_PROTOBUF_DESCRIPTORS", &set)])?;
    check(&ended, 0, &["warning[W038]", "fields by number"]);
    Ok(())
}
