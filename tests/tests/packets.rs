//! Files of packets (`--keep-packets`): what tshark reads in them, and where there are none.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::network::{Lab, Namespace};
use tests::nginx::{Nginx, curl};
use tests::process::{PATIENCE, eventually, run};
use tests::program::sniffer_ends;

use crate::all_in_one::AllInOne;

const KEEP: [&str; 4] = ["--on", "--keep-packets", "4M", "--unmasked"];

/// The page of an all-in-one, as a program in its namespace has it.
struct Api<'a> {
    namespace: &'a Namespace,
    token: String,
}

impl<'a> Api<'a> {
    fn of(all: &AllInOne<'_>, namespace: &'a Namespace) -> Result<Self> {
        let link = all.page_link()?;
        let (_, token) = link.split_once("token=").context("a token")?;
        Ok(Self {
            namespace,
            token: format!("Authorization: Bearer {token}"),
        })
    }

    fn json(&self, path: &str) -> Result<Value> {
        let url = format!("http://127.0.0.1:7700/api/v1/{path}");
        Ok(serde_json::from_str(&curl(
            self.namespace,
            &["-H", &self.token, &url],
        )?)?)
    }

    /// Saves an answer; its status.
    fn save(&self, path: &str, file: &Path) -> Result<String> {
        let url = format!("http://127.0.0.1:7700/api/v1/{path}");
        let file = file.display().to_string();
        let arguments = ["-H", &self.token, "-o", &file, "-w", "%{http_code}", &url];
        curl(self.namespace, &arguments)
    }

    /// The id of the call with this URL, once it is stored.
    fn call(&self, url: &str) -> Result<String> {
        eventually(PATIENCE, || {
            let list = self.json("calls")?;
            let calls = list["calls"].as_array().context("calls")?;
            let call = calls.iter().find(|call| call["url"] == url);
            let id = call.with_context(|| format!("{url} is not stored: {list}"))?;
            Ok(id["id"].as_str().context("an id")?.to_owned())
        })
    }
}

/// Fields of the packets of a file that a display filter selects, a line each.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Result<Vec<String>> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-T", "fields", "-Y", filter, "-r"]);
    command.arg(file);
    for field in fields {
        command.args(["-e", field]);
    }
    Ok(run(&mut command)?.lines().map(str::to_owned).collect())
}

#[test]
fn tshark_reads_the_packets_of_a_call_with_what_rules_hide() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let rules = r"include debug\n/request_header:authorization/ remove";
    let all = AllInOne::start(&lab.server, &[&KEEP[..], &["--rules", rules]].concat())?;
    all.wait_for_running()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file.pcapng");
    for path in ["first", "second"] {
        let url = format!("http://10.77.0.1/{path}");
        curl(&lab.client, &["-H", "Authorization: Bearer abc", &url])?;
    }
    let api = Api::of(&all, &lab.server)?;
    let id = api.call("http://10.77.0.1/first")?;
    let shown = api.json(&format!("calls/{id}"))?;
    ensure!(!shown.to_string().contains("Bearer abc"), "{shown}");

    // The whole connection, handshake and end included, and no other one.
    let status = api.save(&format!("calls/{id}/pcap"), &file)?;
    ensure!(status == "200", "{status}: {:?}", fs::read_to_string(&file));
    let requests = tshark(
        &file,
        "http.request",
        &["http.request.uri", "http.authorization"],
    )?;
    ensure!(requests == ["/first\tBearer abc"], "{requests:?}");
    let responses = tshark(&file, "http.response", &["http.response_for.uri"])?;
    ensure!(responses == ["http://10.77.0.1/first"], "{responses:?}");
    for flags in ["tcp.flags.syn == 1", "tcp.flags.fin == 1"] {
        let packets = tshark(&file, flags, &["tcp.stream"])?;
        ensure!(packets == ["0", "0"], "{flags}: {packets:?}");
    }
    let lost = tshark(&file, "tcp.analysis.ack_lost_segment", &["frame.number"])?;
    ensure!(lost.is_empty(), "{lost:?}");
    let text = String::from_utf8_lossy(&fs::read(&file)?).into_owned();
    ensure!(
        text.contains("and 10.77.0.1:80 from 2") && text.contains("0 packets dropped in rings"),
        "the file has no coverage"
    );

    // Those of the last minute have both, and no packet of the page itself.
    let status = api.save("packets?from=-60s", &file)?;
    ensure!(status == "200", "{status}");
    let requests = tshark(&file, "http.request", &["http.request.uri"])?;
    ensure!(requests == ["/first", "/second"], "{requests:?}");
    let own = tshark(
        &file,
        "tcp.port == 7700 or tcp.port == 7701",
        &["frame.number"],
    )?;
    ensure!(own.is_empty(), "{own:?}");

    // Of another time there are none.
    let status = api.save("packets?from=2001-01-01&to=2001-01-02", &file)?;
    let text = fs::read_to_string(&file)?;
    ensure!(
        status == "404" && text.contains("none of the packets is kept; those since 2"),
        "{status}: {text}"
    );
    let status = all.control(&["status"])?;
    ensure!(
        status.stdout.contains("W078 packets are kept unmasked"),
        "{status:?}"
    );

    // The page has them in a tab.
    let browser = Browser::open(&lab.server)?;
    let link = all.page_link()?;
    browser.visit(&format!("{link}#call={id}"))?;
    let tab = "return document.getElementById('tab-packets') !== null";
    eventually(PATIENCE, || {
        ensure!(browser.script(tab)? == true, "there is no tab");
        Ok(())
    })?;
    browser.script(
        "document.getElementById('tab-packets').click();
         const make = URL.createObjectURL;
         URL.createObjectURL = (blob) => { window.saved = blob; return make.call(URL, blob); };
         document.querySelector('.packets-call').click();",
    )?;
    let first = eventually(PATIENCE, || {
        let first = browser.wait_for_script(
            "return window.saved ? [...new Uint8Array(await window.saved.slice(0, 4).arrayBuffer())] : null",
        )?;
        ensure!(!first.is_null(), "nothing was saved");
        Ok(first)
    })?;
    ensure!(first == json!([10, 13, 13, 10]), "{first}: no pcapng");
    browser.picture("packets")?;

    // The head of the call has them too, and the reason where there are none.
    browser.script("window.saved = null; document.getElementById('detail-pcap').click();")?;
    eventually(PATIENCE, || {
        let size = browser.script("return window.saved?.size ?? 0")?;
        ensure!(size.as_u64() > Some(100), "nothing was saved: {size}");
        Ok(())
    })?;
    browser.script(
        "const offer = document.getElementById('detail-pcap'); offer.dataset.id = '0-0'; offer.click();",
    )?;
    eventually(PATIENCE, || {
        let state = browser.script(
            "const { disabled, title } = document.getElementById('detail-pcap'); return [disabled, title];",
        )?;
        let is_named = state[1]
            .as_str()
            .is_some_and(|title| title.contains("0-0 is not stored"));
        ensure!(state[0] == true && is_named, "{state}");
        Ok(())
    })?;
    Ok(())
}

#[test]
fn the_packets_of_a_mirrored_call_are_found_in_their_tunnel() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    lab.mirror(77, "10.78.0.2")?;
    let all = AllInOne::start(&lab.appliance, &KEEP)?;
    all.wait_for_running()?;
    curl(&lab.client, &["http://10.77.0.1/mirrored"])?;
    curl(&lab.client, &["http://10.77.0.1/other"])?;
    let api = Api::of(&all, &lab.appliance)?;
    let id = api.call("http://10.77.0.1/mirrored")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file.pcapng");
    let status = api.save(&format!("calls/{id}/pcap"), &file)?;
    ensure!(status == "200", "{status}: {:?}", fs::read_to_string(&file));
    let requests = tshark(&file, "http.request", &["vxlan.vni", "http.request.uri"])?;
    ensure!(requests == ["77\t/mirrored"], "{requests:?}");
    Ok(())
}

#[test]
fn packets_are_refused_where_others_could_have_them_and_where_none_are_kept() -> Result<()> {
    let refused = |words: &[&str], expected: &str| {
        let ended = sniffer_ends(&[&["all-in-one"], words].concat(), &[])?;
        ensure!(
            ended.code()? == 2 && ended.stderr.contains(expected),
            "{words:?}: {ended:?}"
        );
        Ok::<_, anyhow::Error>(())
    };
    let keep = ["--keep-packets", "4M"];
    refused(&keep, "SNIFFER_UNMASKED=true")?;
    let open = [&keep[..], &["--unmasked", "--ui", "0.0.0.0:7700"]].concat();
    refused(&open, "others than this machine reach it")?;
    let without = [&keep[..], &["--unmasked", "--ui-token", "off"]].concat();
    refused(&without, "requires no token")?;
    let ended = sniffer_ends(&["run", "--no-send", "--keep-packets", "4M"], &[])?;
    ensure!(
        ended.code()? == 2 && ended.stderr.contains("everything that rules hide"),
        "{ended:?}"
    );

    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let all = AllInOne::start(&lab.server, &["--on", "--unmasked"])?;
    all.wait_for_running()?;
    curl(&lab.client, &["http://10.77.0.1/hello"])?;
    let api = Api::of(&all, &lab.server)?;
    let id = api.call("http://10.77.0.1/hello")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("answer");
    for path in [format!("calls/{id}/pcap"), "packets?from=-60s".to_owned()] {
        let status = api.save(&path, &file)?;
        let text = fs::read_to_string(&file)?;
        ensure!(
            status == "404" && text.contains("keeps no packets"),
            "{path}: {status}: {text}"
        );
    }
    Ok(())
}
