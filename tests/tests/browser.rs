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
    browser.click("#tab-response")?;
    let answer = browser.text("#detail-response")?;
    ensure!(answer.to_lowercase().contains("content-type"), "{answer}");
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

/// Posts a call to the capture URL.
fn post(lab: &Lab, line: &str) -> Result<()> {
    let post = [
        "-H",
        "Content-Type: application/json",
        "--data-binary",
        line,
        "http://127.0.0.1:7701/message",
    ];
    curl(&lab.server, &post).map(drop)
}

#[test]
fn the_filter_is_chosen_by_clicks_and_its_errors_have_a_place() -> Result<()> {
    let lab = Lab::new()?;
    let all = AllInOne::start(&lab.server, &[])?;
    let browser = Browser::open(&lab.server)?;
    let hostile = r#"<img src=x onerror=\"document.title='executed'\">\u202e"#;
    post(
        &lab,
        &format!(
            r#"[["request_method","PUT"],["request_url","http://api.shop/v1/{hostile}"],["response_code","503"],["request_header:x-id","{hostile}"],["interval","1500"]]"#
        ),
    )?;
    post(
        &lab,
        r#"[["request_method","GET"],["request_url","http://events.shop/stream"],["response_code","200"],["response_header:content-type","text/event-stream"],["response_body","data: {\"a\":1}\n\ndata: two\n\n"],["interval","3"]]"#,
    )?;
    browser.visit(&all.page_link()?)?;
    let filter = || browser.script("return document.getElementById('filter').value");
    let shown = |expected: &[&str]| {
        eventually(PATIENCE, || {
            let hosts = browser.script(&format!(
                "return [...document.querySelectorAll('{ROWS} .host')].map(host => host.textContent)"
            ))?;
            ensure!(
                hosts == serde_json::json!(expected),
                "with the filter {}, {hosts} are shown and not {expected:?}",
                filter()?
            );
            Ok(())
        })
    };
    shown(&["events.shop", "api.shop"])?;

    // A misspelt field is marked, and the button puts in what was meant.
    browser.replace("#filter", "é statsu>=500")?;
    eventually(PATIENCE, || {
        let error = browser.script(
            "const box = document.getElementById('filter-error'); return box.hidden ? '' : box.querySelector('mark').textContent",
        )?;
        ensure!(error == "statsu", "{error} is marked");
        Ok(())
    })?;
    browser.picture("filter-error")?;
    shown(&["events.shop", "api.shop"])?;
    browser.replace("#filter", "statsu>=500")?;
    eventually(PATIENCE, || {
        let place = browser.text("#filter-error .place")?;
        ensure!(place == "statsu>=500", "{place}");
        Ok(())
    })?;
    browser.click("#filter-error button")?;
    shown(&["api.shop"])?;
    ensure!(filter()? == "status>=500", "{}", filter()?);
    let address = browser.script("return location.search")?;
    ensure!(address == "?filter=status%3E%3D500", "{address}");

    // Click and shift-click on values; the exports have the filter.
    browser.replace("#filter", "shop")?;
    shown(&["events.shop", "api.shop"])?;
    browser.click(&format!("{ROWS} .method"))?;
    shown(&["events.shop"])?;
    ensure!(filter()? == "shop and method==GET", "{}", filter()?);
    browser.replace("#filter", "shop")?;
    shown(&["events.shop", "api.shop"])?;
    browser.script(&format!(
        "document.querySelector('{ROWS} .status').dispatchEvent(new MouseEvent('click', {{bubbles: true, shiftKey: true}}))"
    ))?;
    shown(&["api.shop"])?;
    ensure!(filter()? == "shop and status!=200", "{}", filter()?);
    let link = browser.script("return document.querySelector('[data-format=har]').href")?;
    let link = link.as_str().context("a link")?;
    ensure!(
        link.ends_with("/api/v1/export?filter=shop+and+status%21%3D200&format=har"),
        "{link}"
    );

    // A value of the detail becomes part of the filter as it is, and what it has in it stays text.
    browser.click(&format!("{ROWS} .c-time"))?;
    eventually(PATIENCE, || {
        let detail = browser.text("#detail-request")?;
        ensure!(detail.contains("<img src=x"), "{detail}");
        Ok(())
    })?;
    browser.script("document.querySelector('#detail-request .choose button').click()")?;
    shown(&["api.shop"])?;
    let chosen = filter()?;
    let chosen = chosen.as_str().context("a text")?;
    ensure!(
        chosen
            .starts_with("shop and status!=200 and request_header:x-id==\"<img src=x onerror=\\\""),
        "{chosen}"
    );
    browser.picture("detail")?;
    ensure!(browser.title()? != "executed", "a value was executed");

    // The range of time stands in the address, and a page that is opened by it shows the same.
    browser.script("const range = document.getElementById('range'); range.value = '-1h'; range.dispatchEvent(new Event('change'))")?;
    eventually(PATIENCE, || {
        let address = browser.script("return location.search")?;
        let address = address.as_str().context("a text")?.to_owned();
        ensure!(address.ends_with("&from=-1h"), "{address}");
        Ok(())
    })?;
    browser.visit("http://localhost:7700/?filter=stream&from=-1h")?;
    shown(&["events.shop"])?;
    let range = browser.script("return document.getElementById('range').value")?;
    ensure!(range == "-1h", "{range}");

    // The messages of a stream one by one, and the bytes of its body.
    browser.click(&format!("{ROWS} .c-time"))?;
    eventually(PATIENCE, || browser.click("#tab-messages"))?;
    let messages = browser.script(
        "return [...document.querySelectorAll('#detail-messages .preview')].map(one => one.textContent)",
    )?;
    ensure!(
        messages == serde_json::json!([r#"data: {"a":1}"#, "data: two"]),
        "{messages}"
    );
    browser.picture("messages")?;
    browser.click("#tab-response")?;
    browser.click("#detail-response [data-layout=hex]")?;
    let bytes = browser.text("#detail-response pre")?;
    ensure!(
        bytes.starts_with("00000000  64 61 74 61 3a 20 7b"),
        "{bytes}"
    );
    browser.picture("hex")?;
    Ok(())
}
