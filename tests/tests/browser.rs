//! The page in a real browser. Here belongs what only a browser can show: that calls appear by themselves, that a click
//! opens them, and that nothing captured is ever executed.

use anyhow::{Context as _, Result, ensure};
use tests::browser::Browser;
use tests::network::Lab;
use tests::nginx::{Nginx, curl};
use tests::process::{PATIENCE, eventually};

use crate::all_in_one::AllInOne;

const ROWS: &str = "#calls tbody tr[data-id]";

#[test]
fn a_call_appears_opens_and_stays_text() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let all = AllInOne::start(&lab.server, &["--on"])?;
    all.wait_for_running()?;
    let browser = Browser::open(&lab.server)?;
    browser.visit("http://localhost:7700/")?;
    let words = browser.text("body")?;
    ensure!(words.contains("sniffer page"), "{words}");
    browser.visit(&all.page_link()?)?;
    let address = browser.script("return location.href")?;
    ensure!(
        address == "http://localhost:7700/",
        "the token is still in the address bar: {address}"
    );
    let count = || -> Result<u64> {
        let rows = browser.script(&format!(
            "return document.querySelectorAll('{ROWS}').length"
        ))?;
        rows.as_u64().context("a count")
    };
    ensure!(count()? == 0, "the page starts empty");

    // Live: the page is not loaded again.
    curl(&lab.client, &["http://10.77.0.1/hello?first=1"])?;
    eventually(PATIENCE, || {
        ensure!(count()? == 1, "{} rows", count()?);
        Ok(())
    })?;
    let row = browser.text(ROWS)?;
    ensure!(
        row.contains("/hello") && row.contains("GET") && row.contains("200"),
        "{row}"
    );

    // Newest first, and a click opens it; what the server sent is shown as text.
    let attack = "http://10.77.0.1/script?q=%3Cscript%3Edocument.title%3D'executed'%3C%2Fscript%3E";
    curl(
        &lab.client,
        &[
            "-H",
            "X-Attack: <img src=x onerror=\"document.title='executed'\">",
            attack,
        ],
    )?;
    eventually(PATIENCE, || {
        ensure!(
            browser.text(ROWS)?.contains("/script"),
            "the newest call is not on top"
        );
        Ok(())
    })?;
    browser.click(ROWS)?;
    let detail = eventually(PATIENCE, || {
        let detail = browser.text("#detail")?;
        ensure!(
            detail.contains("<script>document.title='executed'</script>"),
            "{detail}"
        );
        Ok(detail)
    })?;
    ensure!(detail.to_lowercase().contains("x-attack"), "{detail}");
    let planted =
        browser.script("return document.querySelectorAll('#detail script, #detail img').length")?;
    ensure!(
        planted.as_u64() == Some(0),
        "markup of a body is in the page"
    );
    ensure!(
        browser.title()? != "executed",
        "a captured script was executed"
    );

    // JSON that is nested deeply is laid out all the same, and the text stays as small as the body.
    let depth = 20_000;
    let body = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let line = format!(
        r#"[["request_method","POST"],["request_url","http://shop.example/deep"],["response_body","{body}"]]"#
    );
    let post = [
        "-H",
        "Content-Type: application/json",
        "--data-binary",
        &line,
        "http://127.0.0.1:7701/message",
    ];
    curl(&lab.server, &post)?;
    eventually(PATIENCE, || {
        ensure!(browser.text(ROWS)?.contains("/deep"), "it is not on top");
        Ok(())
    })?;
    browser.click(ROWS)?;
    eventually(PATIENCE, || {
        let shown = browser.script(
            "return document.querySelector('#detail-response pre')?.textContent.length ?? 0",
        )?;
        let shown = shown.as_u64().context("a length")?;
        let expected = 2 * depth as u64;
        ensure!(
            (expected..expected + 2000).contains(&shown),
            "{shown} characters are shown"
        );
        Ok(())
    })?;

    // The filter keeps what matches.
    browser.type_into("#filter", "first")?;
    eventually(PATIENCE, || {
        let shown = browser.script(&format!(
            "return [...document.querySelectorAll('{ROWS}')].filter(row => row.offsetParent).length"
        ))?;
        ensure!(shown.as_u64() == Some(1), "{shown} rows are shown");
        Ok(())
    })?;
    ensure!(
        browser.text(ROWS)?.contains("/hello"),
        "the wrong call is shown"
    );
    Ok(())
}
