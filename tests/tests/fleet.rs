//! Many sniffers and one store: each call under the name of its appliance, a token for whoever posts, and ledgers whose sum is what the
//! appliances counted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::capture::Capture;
use tests::clickhouse::ClickHouse;
use tests::network::{Lab, Namespace};
use tests::nginx::{Nginx, curl};
use tests::process::{Ended, PATIENCE, Running, eventually, run};
use tests::program::{repository, sniffer, sniffer_ends};

const PAGE_TOKEN: &str = "the-token-of-the-page";
const POST_TOKEN: &str = "the-token-of-the-posts";

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as i64)
}

/// A store that other machines reach, with both tokens.
struct Store<'a> {
    namespace: &'a Namespace,
    process: Running,
    page: u16,
    data: TempDir,
}

impl<'a> Store<'a> {
    fn start(namespace: &'a Namespace) -> Result<Self> {
        Self::at(namespace, "0.0.0.0:7701", 7700, &[])
    }

    /// With the capture URL on one address, and the page on a port of the loopback.
    fn at(namespace: &'a Namespace, address: &str, page: u16, settings: &[String]) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let ui = format!("127.0.0.1:{page}");
        let mut command = sniffer(&["store", "--store", address, "--ui", &ui]);
        command.arg("--data").arg(data.path().join("data"));
        command.args(settings);
        command.env("SNIFFER_UI_TOKEN", PAGE_TOKEN);
        command.env("SNIFFER_STORE_TOKEN", POST_TOKEN);
        let mut process = Running::start(&mut namespace.enter(&command))?;
        process.wait_for_log("store ready", PATIENCE)?;
        Ok(Self {
            namespace,
            process,
            page,
            data,
        })
    }

    fn folder(&self) -> String {
        self.data.path().join("data").display().to_string()
    }

    fn get(&self, path: &str) -> Result<Value> {
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.page);
        let authorization = format!("Authorization: Bearer {PAGE_TOKEN}");
        let text = curl(self.namespace, &["-f", "-g", "-H", &authorization, &url])?;
        serde_json::from_str(&text).with_context(|| text.clone())
    }
}

/// One that delivers to the store by this address.
fn appliance<'a>(
    namespace: &'a Namespace,
    address: &str,
    (interface, name): (&str, &str),
    rules: &str,
) -> Result<Capture<'a>> {
    let rules = format!("include debug\nallow_http_url\n{rules}");
    let header = format!("Authorization: Bearer {POST_TOKEN}");
    let settings = [
        ("NET_DEVICE", interface),
        ("SNIFFER_NAME", name),
        ("SNIFFER_POST_LEDGER", "true"),
        ("SNIFFER_HEADERS", &header),
        ("USAGE_LOGGERS_RULES", &rules),
    ];
    let url = format!("http://{address}:7701/message");
    Capture::start(namespace, &url, &settings)
}

/// Waits until a capture has counted so many calls, and none of them is on its way.
fn settled(capture: &Capture<'_>, seen: u64) -> Result<Value> {
    eventually(PATIENCE, || {
        let calls = capture.status()?["capture"]["calls"].clone();
        ensure!(calls["seen"] == seen && calls["in_flight"] == 0, "{calls}");
        Ok(calls)
    })
}

#[test]
fn the_ledgers_of_two_sniffers_make_up_that_of_the_fleet() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let store = Store::start(&lab.server)?;
    ensure!(
        store.process.stderr().contains("[W107]"),
        "a token over plain HTTP: {}",
        store.process.stderr()
    );
    // Both see the same calls, and the first one sees the uploads of the second.
    let first = appliance(&lab.server, "127.0.0.1", ("s0", "edge-a"), "")?;
    let second = appliance(
        &lab.client,
        "10.77.0.1",
        ("c0", "edge-b"),
        "/request_url/ stop_if /.*hidden.*/",
    )?;
    ensure!(second.log().contains("[W107]"), "{}", second.log());
    for path in [
        "hello", "hello", "hello", "hello", "hello", "hidden", "hidden",
    ] {
        curl(&lab.client, &[&format!("http://10.77.0.1/{path}")])?;
    }
    let counted = [settled(&first, 7)?, settled(&second, 7)?];
    // The end of a sniffer posts its last ledger; the first one sees that of the second, and it is no call.
    ensure!(second.terminate()?.code()? == 0, "the second");
    let after = settled(&first, 7)?;
    ensure!(after == counted[0], "{after} after {}", counted[0]);
    let uploads = first.status()?["capture"]["uploads"].clone();
    ensure!(uploads["other"].as_u64() >= Some(2), "{uploads}");
    ensure!(first.terminate()?.code()? == 0, "the first");

    let fleet = store.get("appliances")?;
    let rows = fleet["appliances"].as_array().context("rows")?;
    ensure!(rows.len() == 2, "{fleet}");
    for (row, (name, counted)) in rows.iter().zip(["edge-a", "edge-b"].iter().zip(&counted)) {
        ensure!(row["appliance"] == *name && row["runs"] == 1, "{row}");
        ensure!(row["unaccounted"] == 0, "{row}");
        for (bucket, count) in counted.as_object().context("calls")? {
            ensure!(
                bucket == "unaccounted" || row["calls"][bucket] == *count,
                "{bucket} of {row}: {counted}"
            );
        }
        ensure!(row["capture"]["captured_bytes"].as_u64() > Some(0), "{row}");
        ensure!(row["capture"]["missing_bytes"] == 0, "{row}");
    }
    ensure!(rows[1]["senders"] == json!(["10.77.0.2"]), "{rows:?}");
    let total = &fleet["total"];
    for (bucket, count) in [("seen", 14), ("sent", 12), ("stopped", 2), ("in_flight", 0)] {
        ensure!(total["calls"][bucket] == count, "{bucket}: {total}");
    }
    ensure!(total["unaccounted"] == 0, "{total}");

    // What was delivered is there, under the name of who captured it, and nothing else.
    let top = store.get("top?by=appliance")?;
    let expected = [("edge-a", 7), ("edge-b", 5)];
    let expected = expected.map(|(value, calls)| json!({"value": value, "calls": calls}));
    ensure!(top["values"] == json!(expected), "{top}");
    let of_one = store.get("calls?filter=appliance==%22edge-b%22")?;
    ensure!(
        of_one["calls"].as_array().map(Vec::len) == Some(5),
        "{of_one}"
    );
    let groups = store.get("stats?by=appliance")?;
    ensure!(groups["groups"][1]["value"] == "edge-b", "{groups}");
    Ok(())
}

#[test]
fn a_sniffer_without_the_token_keeps_its_calls_until_it_has_one() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let store = Store::start(&lab.server)?;
    let headers = tempfile::NamedTempFile::new()?;
    let file = format!("file://{}", headers.path().display());
    fs::write(headers.path(), "Authorization: Bearer wrong\n")?;
    let settings = [
        ("NET_DEVICE", "c0"),
        ("SNIFFER_HEADERS", file.as_str()),
        ("USAGE_LOGGERS_RULES", "include debug\nallow_http_url"),
        ("SNIFFER_FLUSH_TIMEOUT", "1s"),
    ];
    let url = "http://10.77.0.1:7701/message";
    let capture = Capture::start(&lab.client, url, &settings)?;
    curl(&lab.client, &["http://10.77.0.1/hello"])?;
    let output = eventually(PATIENCE, || {
        let output = capture.status()?["capture"]["output"].clone();
        ensure!(output["last_code"] == 401, "{output}");
        Ok(output)
    })?;
    ensure!(output["last_error_code"] == "W043", "{output}");
    ensure!(output["queue_calls"] == 1, "{output}");
    ensure!(!capture.log().contains("wrong"), "{}", capture.log());
    ensure!(store.get("status")?["calls_received"] == 0, "a call came");
    capture.terminate()?;
    drop(store);
    Ok(())
}

/// Calls in a store, and the sum that its sniffers have sent by their ledgers.
fn held(store: &Store<'_>) -> Result<(u64, u64)> {
    let calls = store.get("status")?["calls"].as_u64().context("calls")?;
    let total = store.get("appliances")?["total"].clone();
    ensure!(total["unaccounted"] == 0, "{total}");
    Ok((calls, total["calls"]["sent"].as_u64().context("sent")?))
}

/// The configuration of the balancer in `deploy`, for stores and a certificate at these places.
fn balancer(folder: &Path, stores: [&str; 2], pages: [u16; 2]) -> Result<PathBuf> {
    let mut text = fs::read_to_string(repository().join("deploy/fleet/haproxy.cfg"))?;
    let certificate = folder.join("tls.pem").display().to_string();
    text = text.replace("/etc/haproxy/tls.pem", &certificate);
    for (number, (store, page)) in (1..).zip(stores.iter().zip(pages)) {
        text = text.replace(&format!("store-{number}:7701"), store);
        text = text.replace(
            &format!("store-{number}:7700"),
            &format!("127.0.0.1:{page}"),
        );
    }
    ensure!(!text.contains("store-1:") && !text.contains("store-2:"));
    let file = folder.join("haproxy.cfg");
    fs::write(&file, text)?;
    Ok(file)
}

/// Two stores behind the balancer, and a sniffer that delivers to them.
struct Balanced<'a> {
    stores: [Store<'a>; 2],
    capture: Capture<'a>,
    haproxy: Running,
    _folder: TempDir,
}

/// With these settings of the stores.
fn balanced<'a>(lab: &'a Lab, settings: &[String]) -> Result<Balanced<'a>> {
    let folder = tempfile::Builder::new().prefix("fleet").tempdir()?;
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt"]);
    openssl.args(["ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
    openssl.args(["-subj", "/CN=calls.example", "-addext"]);
    openssl.args(["subjectAltName=IP:10.77.0.1", "-keyout", "key.pem"]);
    run(openssl.args(["-out", "ca.pem"]).current_dir(folder.path()))?;
    let [ca, key] = ["ca.pem", "key.pem"].map(|name| folder.path().join(name));
    let both = fs::read_to_string(&ca)? + &fs::read_to_string(key)?;
    fs::write(folder.path().join("tls.pem"), both)?;

    let addresses = ["127.0.0.1:7711", "127.0.0.1:7721"];
    let first = Store::at(&lab.server, addresses[0], 7710, settings)?;
    let second = Store::at(&lab.server, addresses[1], 7720, settings)?;
    let mut haproxy = lab.server.command("haproxy");
    let configuration = balancer(folder.path(), addresses, [7710, 7720])?;
    haproxy.arg("-db").arg("-f").arg(configuration);
    let haproxy = Running::start(&mut haproxy).context("apt-get install haproxy")?;

    let header = format!("Authorization: Bearer {POST_TOKEN}");
    let ca = ca.display().to_string();
    let of_capture = [
        ("NET_DEVICE", "c0"),
        ("APP_PORTS", "80"),
        ("SNIFFER_NAME", "edge"),
        ("SNIFFER_POST_LEDGER", "true"),
        ("SNIFFER_HEADERS", &header),
        ("SNIFFER_CA", &ca),
        ("SNIFFER_FLUSH_TIMEOUT", "60s"),
    ];
    let url = "https://10.77.0.1:7743/message";
    let capture = Capture::start(&lab.client, url, &of_capture)?;
    Ok(Balanced {
        stores: [first, second],
        capture,
        haproxy,
        _folder: folder,
    })
}

#[test]
fn two_stores_behind_a_balancer_lose_nothing_when_one_dies() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let Balanced {
        stores: [first, second],
        capture,
        haproxy,
        _folder,
    } = balanced(&lab, &[])?;
    ensure!(
        !first.process.stderr().contains("[W107]"),
        "loopback is no network"
    );
    ensure!(!capture.log().contains("[W107]"), "{}", capture.log());
    let hello = |times: usize| curl(&lab.client, &vec!["http://10.77.0.1/hello"; times]);
    hello(5)?;
    settled(&capture, 5).with_context(|| haproxy.stderr())?;
    // The page is there as well, for who has the token.
    let status_of = |url: &str| {
        curl(
            &lab.client,
            &["-k", "-o", "/dev/null", "-w", "%{http_code}", url],
        )
    };
    let page = status_of("https://10.77.0.1:7744/")?;
    ensure!(page == "401", "{page}");
    let page = status_of(&format!(
        "https://10.77.0.1:7744/api/v1/status?token={PAGE_TOKEN}"
    ))?;
    ensure!(page == "303", "{page}");
    // Nothing else of a store is behind the port of the sniffers.
    let other = status_of("https://10.77.0.1:7743/saturated")?;
    ensure!(other == "404", "{other}");

    // The store that has them dies; what comes then goes to the other one.
    let (dies, stays) = match held(&first)?.0 {
        5 => (first, second),
        _ => (second, first),
    };
    ensure!(
        held(&dies)?.0 == 5 && held(&stays)?.0 == 0,
        "both have some"
    );
    dies.process.signal(Signal::SIGKILL)?;
    hello(3)?;
    let calls = settled(&capture, 8)?;
    ensure!(
        calls["sent"] == 8 && calls["dropped"]["refused"] == 0,
        "{calls}"
    );
    ensure!(capture.terminate()?.code()? == 0, "the capture");
    // The ledger went to the store that is left, which has what was sent to it.
    ensure!(held(&stays)? == (3, 8), "{:?}", held(&stays)?);
    Ok(())
}

#[test]
fn two_stores_in_front_of_one_clickhouse_show_all_calls_when_one_dies() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let server = ClickHouse::start(&lab.server)?;
    let Balanced {
        stores: [first, second],
        capture,
        haproxy,
        _folder,
    } = balanced(&lab, &server.settings())?;
    let hello = |times: usize| curl(&lab.client, &vec!["http://10.77.0.1/hello"; times]);
    hello(5)?;
    settled(&capture, 5).with_context(|| haproxy.stderr())?;
    ensure!(
        held(&first)?.0 == 5 && held(&second)?.0 == 5,
        "not the same"
    );
    // One after the other dies, one of them while it takes the calls.
    first.process.signal(Signal::SIGKILL)?;
    hello(3)?;
    settled(&capture, 8)?;
    ensure!(held(&second)?.0 == 8, "{:?}", held(&second)?);
    drop(first);
    let first = Store::at(&lab.server, "127.0.0.1:7711", 7710, &server.settings())?;
    second.process.signal(Signal::SIGKILL)?;
    hello(3)?;
    let calls = settled(&capture, 11)?;
    ensure!(
        calls["sent"] == 11 && calls["dropped"]["refused"] == 0,
        "{calls}"
    );
    ensure!(capture.terminate()?.code()? == 0, "the capture");
    ensure!(held(&first)? == (11, 11), "{:?}", held(&first)?);
    ensure!(server.sql("SELECT count() FROM calls")? == "11", "twice");
    Ok(())
}

#[test]
fn calls_move_from_one_store_to_another_by_a_file() -> Result<()> {
    let lab = Lab::new()?;
    let old = Store::at(&lab.server, "127.0.0.1:7711", 7710, &[])?;
    let new = Store::start(&lab.server)?;
    let line = |number: u32, now: &str| {
        let url = format!("http://shop.example/{number}");
        let mut details = vec![["request_method", "GET"], ["request_url", &url]];
        if !now.is_empty() {
            details.push(["now", now]);
        }
        format!("{}\n", json!(details))
    };
    // One without a time, and 2500 others: three groups.
    let mut lines = line(0, "");
    for number in 1..=2500 {
        lines += &line(number, &(now_ms() - 1000 * i64::from(number)).to_string());
    }
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), lines)?;
    let body = format!("@{}", file.path().display());
    let authorization = format!("Authorization: Bearer {POST_TOKEN}");
    let post = |address: &str, headers: &[&str]| {
        let url = format!("http://{address}/message");
        let mut words = vec![
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-H",
            &authorization,
        ];
        words.extend([
            "-H",
            "Content-Type: application/ndjson",
            "--data-binary",
            &body,
        ]);
        for header in headers {
            words.extend(["-H", header]);
        }
        words.push(&url);
        curl(&lab.server, &words)
    };
    ensure!(post("127.0.0.1:7711", &[])? == "204", "not stored");

    let exported = tempfile::NamedTempFile::new()?;
    let ended = sniffer_ends(&["store", "export", "--data", &old.folder()], &[])?;
    ensure!(ended.code()? == 0, "{ended:?}");
    ensure!(
        ended.stderr.contains("2 501 calls exported"),
        "{}",
        ended.stderr
    );
    fs::write(exported.path(), &ended.stdout)?;
    let path = exported.path().display().to_string();

    let urls = |store: &Store<'_>| -> Result<Vec<(String, i64)>> {
        let list = store.get("calls?limit=1000&from=-1h&filter=path~%22/%22")?;
        let calls = list["calls"].as_array().context("calls")?.iter();
        let mut all: Vec<_> = calls
            .map(|call| {
                let url = call["url"].as_str().unwrap_or_default().to_owned();
                (url, call["time_ms"].as_i64().unwrap_or_default())
            })
            .collect();
        all.sort();
        Ok(all)
    };
    let headers = [("SNIFFER_HEADERS", authorization.as_str())];
    let import = |words: &[&str], settings: &[(&str, &str)]| -> Result<Ended> {
        let mut command = sniffer(&["store", "import", &path]);
        command.args(words).envs(settings.iter().copied());
        Running::start(&mut lab.client.enter(&command))?.end(PATIENCE)
    };
    let to_url = [
        "--url",
        "http://10.77.0.1:7701/message",
        "--rules",
        "allow_http_url",
    ];
    // Twice: nothing is stored twice, and times stay.
    for _ in 0..2 {
        let ended = import(&to_url, &headers)?;
        ensure!(ended.code()? == 0, "{ended:?}");
        ensure!(
            ended.stdout.contains("2 501 calls sent, 0 not"),
            "{ended:?}"
        );
        ensure!(!ended.stderr.contains(POST_TOKEN), "{ended:?}");
        ensure!(
            new.get("status")?["calls"] == 2501,
            "{}",
            new.get("status")?
        );
    }
    ensure!(urls(&new)? == urls(&old)?, "other times");

    // Into a folder, twice as well; then a store opens it.
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("moved").display().to_string();
    for said in [
        "2 501 calls imported, 0 were",
        "0 calls imported, 2 501 were",
    ] {
        let ended = import(&["--data", &data], &[])?;
        ensure!(
            ended.code()? == 0 && ended.stdout.contains(said),
            "{ended:?}"
        );
    }
    // A file that was cut, and one that a store has open.
    let cut = &ended.stdout[..ended.stdout.len() - 20];
    fs::write(exported.path(), cut)?;
    let ended = import(&["--data", &data], &[])?;
    ensure!(
        ended.code()? == 2 && ended.stderr.contains("E132"),
        "{ended:?}"
    );
    let ended = import(&["--data", &new.folder()], &[])?;
    ensure!(
        ended.code()? == 2 && ended.stderr.contains("another store"),
        "{ended:?}"
    );
    Ok(())
}
