//! `sniffer check --canary`: numbered calls to `sniffer canary serve`, counted in the store of the sniffer between, with losses made
//! on purpose.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::network::{Lab, Namespace};
use tests::process::{PATIENCE, Running, run};
use tests::program::sniffer;

use crate::all_in_one::AllInOne;

/// The peer, in the client's namespace.
const PEER: &str = "10.77.0.2:7703";

fn serve(namespace: &Namespace) -> Result<Running> {
    let mut peer =
        Running::start(&mut namespace.enter(&sniffer(&["canary", "serve", "--listen", PEER])))?;
    peer.wait_for_log("answers canaries on", PATIENCE)?;
    Ok(peer)
}

/// Makes canaries as the server; the exit code and the report.
fn check(source: &Namespace, count: u64, link: &str, counters: &str) -> Result<(i32, Value)> {
    let mut command = sniffer(&["check", "--json", "--canary", &count.to_string(), "--to"]);
    command.arg(format!("http://{PEER}"));
    command.args(["--page", link, "--counters", counters]);
    let ended = Running::start(&mut source.enter(&command))?.end(2 * PATIENCE)?;
    let report = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
    Ok((ended.code()?, report))
}

fn missing(report: &Value) -> Vec<u64> {
    let numbers = report["missing"].as_array().map_or(&[][..], Vec::as_slice);
    numbers.iter().filter_map(Value::as_u64).collect()
}

#[test]
fn what_a_rule_stops_is_missing_by_number_and_cause() -> Result<()> {
    let lab = Lab::new()?;
    let _peer = serve(&lab.client)?;
    let rules = r"include debug\n/request_url/ stop_if /.*[02468]/";
    let all = AllInOne::start(&lab.server, &["--on", "--ports", "7703", "--rules", rules])?;
    all.wait_for_running()?;
    let link = all.page_link()?;
    let (code, report) = check(&lab.server, 20, &link, "http://127.0.0.1:7702/metrics")?;
    ensure!(code == 8, "{report}");
    ensure!(
        report["answered"] == 20 && report["stored"] == 10,
        "{report}"
    );
    let even: Vec<u64> = (1..=10).map(|number| 2 * number).collect();
    ensure!(missing(&report) == even, "{report}");
    ensure!(report["causes"]["stopped by a rule"] == 10, "{report}");
    ensure!(
        report["repeated"] == 0 && report["incomplete"] == 0,
        "{report}"
    );
    Ok(())
}

#[test]
fn what_a_mirror_loses_is_missing_by_number_and_cause() -> Result<()> {
    let lab = Lab::new()?;
    let _peer = serve(&lab.client)?;
    lab.mirror(77, "10.78.0.2")?;
    let settings = [
        "--on",
        "--ports",
        "7703",
        "--ui",
        ":7700",
        "--metrics",
        ":7702",
    ];
    let all = AllInOne::start(&lab.appliance, &settings)?;
    all.wait_for_running()?;
    let link = all.page_link()?;
    let (_, token) = link.split_once("token=").context("a token")?;
    let link = format!("http://10.78.0.2:7700/?token={token}");
    let counters = "http://10.78.0.2:7702/metrics";

    let (code, report) = check(&lab.server, 40, &link, counters)?;
    ensure!(code == 0, "{report}");
    ensure!(
        report["stored"] == 40 && missing(&report).is_empty(),
        "{report}"
    );

    // Every seventh packet of the mirror is lost; the traffic itself and the page are not touched.
    let rule = "-A OUTPUT -p udp --dport 4789 -m statistic --mode nth --every 7 --packet 0 -j DROP";
    run(lab.server.command("iptables").args(rule.split(' ')))?;
    let (code, report) = check(&lab.server, 40, &link, counters)?;
    ensure!(code == 8, "{report}");
    ensure!(
        report["answered"] == 40,
        "the traffic is not touched: {report}"
    );
    let stored = report["stored"].as_u64().context("a number")?;
    let lost = missing(&report);
    ensure!(
        !lost.is_empty() && stored + lost.len() as u64 == 40,
        "{report}"
    );
    let causes = report["causes"].as_object().context("no causes")?;
    ensure!(
        causes.keys().any(|cause| cause.contains("never reached")),
        "{report}"
    );
    Ok(())
}

#[test]
fn without_a_peer_it_ends_with_the_reason() -> Result<()> {
    let lab = Lab::new()?;
    let all = AllInOne::start(&lab.server, &["--on"])?;
    let link = all.page_link()?;
    let mut command = sniffer(&["check", "--canary", "3", "--to"]);
    command
        .arg(format!("http://{PEER}"))
        .args(["--page", &link]);
    let ended = Running::start(&mut lab.server.enter(&command))?.end(PATIENCE)?;
    ensure!(
        ended.code()? == 4 && ended.stderr.contains("no canary is answered"),
        "{ended:?}"
    );
    Ok(())
}
