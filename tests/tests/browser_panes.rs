//! The parts of the page in a real browser: the list of any length, values, charts, queries, health, rules, and whether people who see or
//! point otherwise can use them.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::clients::axe;
use tests::network::{Lab, Namespace};
use tests::nginx::{Nginx, curl};
use tests::process::{PATIENCE, eventually};

use crate::all_in_one::AllInOne;

/// Milliseconds of six hours.
const SPAN: u64 = 6 * 3600 * 1000;

/// Posts lines to the capture URL, as one bundle.
pub(crate) fn post(namespace: &Namespace, lines: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bundle");
    fs::write(&file, lines)?;
    let data = format!("@{}", file.display());
    let arguments = [
        "-f",
        "-H",
        "Content-Type: application/ndjson",
        "--data-binary",
        &data,
        "http://127.0.0.1:7701/message",
    ];
    curl(namespace, &arguments).map(drop)
}

/// A line of NDJSON.
fn line(details: &[(&str, &str)]) -> String {
    format!("{}\n", json!(details))
}

/// Calls over the last six hours, the last one now: of three hosts, every tenth an error.
fn calls(count: u64) -> Result<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let start = u64::try_from(now.as_millis())? - SPAN;
    let mut lines = String::new();
    for number in 0..count {
        let host = ["api.shop", "pay.shop", "img.shop"][(number % 3) as usize];
        let url = format!("http://{host}/v1/orders/{number}");
        let status = if number % 10 == 0 { "503" } else { "200" };
        let time = (start + SPAN * (number + 1) / count).to_string();
        let took = (number % 400 + 1).to_string();
        lines += &line(&[
            (
                "request_method",
                if number % 4 == 0 { "POST" } else { "GET" },
            ),
            ("request_url", &url),
            ("response_code", status),
            ("response_header:content-type", "application/json"),
            ("response_body", "{\"ok\":true}"),
            ("request_header:cookie", "session=secret"),
            (
                "custom_field:client_address",
                &format!("10.0.0.{}", number % 7),
            ),
            ("interval", &took),
            ("now", &time),
        ]);
    }
    Ok(lines)
}

/// Waits until a script returns true.
fn holds(browser: &Browser<'_>, script: &str) -> Result<()> {
    eventually(PATIENCE, || {
        let found = browser.script(script)?;
        ensure!(found == true, "{script}: {found}");
        Ok(())
    })
}

/// Waits until the number of calls in the list is as `condition` has it.
fn lists(browser: &Browser<'_>, condition: &str) -> Result<()> {
    let number = "document.querySelectorAll('#calls tbody tr[data-id]').length";
    holds(browser, &format!("return {number} {condition}"))
}

/// The numbers of the calls of the list, in the order of a walk by the height of the window to the call with the number `last`, which is
/// at an end of it.
fn walk(browser: &Browser<'_>, last: u64) -> Result<Vec<u64>> {
    let script = format!(
        "const scroll = document.getElementById('scroll');
         const last = {last};
         const sign = last === 0 ? 1 : -1;
         const seen = [];
         const known = new Set();
         const deadline = performance.now() + 200000;
         let most = 0;
         while (!known.has(last) && performance.now() < deadline) {{
           for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
           const rows = [...document.querySelectorAll('#calls tbody tr[data-id]')];
           most = Math.max(most, rows.length);
           if (sign < 0) rows.reverse();
           for (const row of rows) {{
             const number = Number(row.querySelector('.path').textContent.split('/').at(-1));
             if (known.has(number)) continue;
             known.add(number);
             seen.push(number);
           }}
           scroll.scrollTop += sign * scroll.clientHeight * 0.8;
         }}
         return {{ seen, most }};"
    );
    let walked = browser.wait_for_script(&script)?;
    let most = walked["most"].as_u64().context("a number")?;
    ensure!(
        (10..150).contains(&most),
        "{most} rows are elements at once"
    );
    Ok(serde_json::from_value(walked["seen"].clone())?)
}

#[test]
fn a_list_of_any_length_is_walked_without_a_hole() -> Result<()> {
    const CALLS: u64 = 6000;
    let namespace = Namespace::new("long")?;
    let all = AllInOne::start(&namespace, &[])?;
    post(&namespace, &calls(CALLS)?)?;
    let browser = Browser::open(&namespace)?;
    browser.visit(&all.page_link()?)?;
    lists(&browser, "> 10")?;
    let down: Vec<u64> = (0..CALLS).rev().collect();
    ensure!(walk(&browser, 0)? == down, "the way down has a hole");
    // More than is in memory has passed, so the way up fetches the newer ones again.
    let up = walk(&browser, CALLS - 1)?;
    ensure!(
        up == Vec::from_iter(0..CALLS),
        "the way up has a hole: {up:?}"
    );

    // The bar stands for the time: its middle is the middle of the range, and its keys reach both ends.
    let first = "[...document.querySelectorAll('#calls tbody tr[data-id]')].find((row) => row.getBoundingClientRect().top >= document.querySelector('#calls thead').getBoundingClientRect().bottom - 2)";
    let number = || -> Result<u64> {
        let script =
            format!("return Number({first}.querySelector('.path').textContent.split('/').at(-1))");
        browser.script(&script)?.as_u64().context("a number")
    };
    let rail = |part: f64| {
        let script = format!(
            "const rail = document.getElementById('rail'); const box = rail.getBoundingClientRect();
             const at = {{ bubbles: true, button: 0, pointerId: 1, clientX: box.left + 5, clientY: box.top + {part} * box.height }};
             rail.setPointerCapture = () => {{}};
             rail.dispatchEvent(new PointerEvent('pointerdown', at));"
        );
        browser.script(&script)
    };
    rail(0.5)?;
    eventually(PATIENCE, || {
        let shown = number()?;
        ensure!(
            (CALLS * 45 / 100..CALLS * 55 / 100).contains(&shown),
            "{shown} is on top"
        );
        Ok(())
    })?;
    let state =
        browser.script("return document.getElementById('follow').getAttribute('aria-pressed')")?;
    ensure!(state == "false", "a list of another time does not follow");
    let key = |key: &str| {
        browser.script(&format!(
            "document.getElementById('rail').dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true }}))"
        ))
    };
    key("End")?;
    holds(
        &browser,
        "return document.getElementById('tail-text').textContent === 'End of the list.'",
    )?;
    key("Home")?;
    eventually(PATIENCE, || {
        ensure!(number()? == CALLS - 1, "{} is on top", number()?);
        Ok(())
    })?;
    browser.picture("list")?;

    // Live again: new calls appear on top, however many come with ten redraws a second at most.
    browser.script(
        "window.redraws = 0; window.since = performance.now();
         new MutationObserver(() => { window.redraws += 1; }).observe(document.querySelector('#calls tbody'), { childList: true });",
    )?;
    for bundle in 0..40 {
        let number = 10_000 + bundle;
        let url = format!("http://api.shop/v1/orders/{number}");
        let call = line(&[("request_method", "GET"), ("request_url", &url)]);
        post(&namespace, &call.repeat(20))?;
    }
    eventually(PATIENCE, || {
        ensure!(number()? == 10_039, "{} is on top", number()?);
        Ok(())
    })?;
    let rate = browser.script(
        "return { redraws: window.redraws, most: (performance.now() - window.since) / 100 + 1 }",
    )?;
    ensure!(
        rate["redraws"].as_f64() > Some(0.0) && rate["redraws"].as_f64() <= rate["most"].as_f64(),
        "{rate}"
    );
    Ok(())
}

#[test]
fn columns_values_and_charts_choose() -> Result<()> {
    let namespace = Namespace::new("charts")?;
    let all = AllInOne::start(&namespace, &[])?;
    post(&namespace, &calls(600)?)?;
    let browser = Browser::open(&namespace)?;
    browser.visit(&all.page_link()?)?;
    let filter = || browser.script("return document.getElementById('filter').value");

    // The strip: values with their number, a click chooses, Shift excludes.
    let value = |field: &str, value: &str| {
        format!("#strip button[data-field='{field}'][data-value='{value}']")
    };
    holds(
        &browser,
        &format!(
            "return document.querySelector(\"{}\")?.querySelector('.count').textContent === '60'",
            value("status", "503")
        ),
    )?;
    holds(
        &browser,
        &format!(
            "return document.querySelector(\"{}\") !== null",
            value("host", "pay.shop")
        ),
    )?;
    browser.picture("strip")?;
    browser.click(&value("status", "503"))?;
    eventually(PATIENCE, || {
        ensure!(filter()? == "status==503", "{}", filter()?);
        Ok(())
    })?;
    holds(
        &browser,
        &format!(
            "return document.querySelector(\"{}\")?.querySelector('.count').textContent === '20'",
            value("host", "pay.shop")
        ),
    )?;
    browser.script(&format!(
        "document.querySelector(\"{}\").dispatchEvent(new MouseEvent('click', {{ bubbles: true, shiftKey: true }}))",
        value("host", "pay.shop")
    ))?;
    ensure!(
        filter()? == "status==503 and host!=pay.shop",
        "{}",
        filter()?
    );

    // Columns are chosen, and stay so when the page is loaded again.
    browser.click("#columns summary")?;
    browser.script("[...document.querySelectorAll('#columns-menu label')].find((one) => one.textContent.trim() === 'client').querySelector('input').click()")?;
    browser.script("[...document.querySelectorAll('#columns-menu label')].find((one) => one.textContent.trim() === 'type').querySelector('input').click()")?;
    let heads = "return [...document.querySelectorAll('#calls thead th')].map((one) => one.textContent).join()";
    let expected = "time,method,url,status,took,response,client,note";
    holds(
        &browser,
        &format!("return (() => {{ {heads} }})() === '{expected}'"),
    )?;
    browser.visit("http://localhost:7700/?pane=calls")?;
    holds(
        &browser,
        &format!("return (() => {{ {heads} }})() === '{expected}'"),
    )?;
    holds(
        &browser,
        "return document.querySelector('#calls tbody .c-client')?.textContent.startsWith('10.0.0.')",
    )?;

    // Proposals: a field, then its values.
    browser.click("#filter")?;
    browser.press("meth")?;
    holds(
        &browser,
        "return [...document.querySelectorAll('#suggestions .option')].some((one) => one.textContent.startsWith('method'))",
    )?;
    browser.press("\u{E004}==P")?;
    holds(
        &browser,
        "return [...document.querySelectorAll('#suggestions .option .mono')].map((one) => one.textContent).join() === 'POST'",
    )?;
    browser.picture("suggest")?;
    browser.press("\u{E015}\u{E007}")?;
    eventually(PATIENCE, || {
        ensure!(filter()? == "method==POST", "{}", filter()?);
        Ok(())
    })?;
    holds(
        &browser,
        "return [...document.querySelectorAll('#calls tbody .method')].every((one) => one.textContent === 'POST')",
    )?;

    // Charts: bars of two classes, three lines, a row for each host. The filter holds here as well.
    browser.press("\u{E00C}2")?;
    holds(&browser, "return location.search.includes('pane=charts')")?;
    holds(
        &browser,
        "return document.querySelectorAll('#charts rect.class-2').length > 10 && document.querySelectorAll('#charts rect.class-5').length > 1",
    )?;
    holds(
        &browser,
        "return document.querySelectorAll('#charts path.line').length === 3",
    )?;
    browser.script("const by = document.getElementById('charts-by'); by.value = 'host'; by.dispatchEvent(new Event('change'))")?;
    holds(
        &browser,
        "return [...document.querySelectorAll('#charts-groups tbody th')].map((one) => one.textContent).sort().join() === 'api.shop,img.shop,pay.shop,together'",
    )?;
    let sum = browser.text("#charts-groups tr.sum td")?;
    ensure!(sum == "150", "every fourth of 600 is a POST: {sum}");
    browser.picture("charts")?;

    // Dragging over the middle third chooses that range, and fewer calls are left.
    browser.script(
        "const chart = document.querySelector('#charts svg'); const box = chart.getBoundingClientRect(); chart.setPointerCapture = () => {};
         const send = (name, part) => chart.dispatchEvent(new PointerEvent(name, { bubbles: true, button: 0, pointerId: 1, clientX: box.left + part * box.width, clientY: box.top + 50 }));
         send('pointerdown', 0.4); send('pointermove', 0.5); send('pointermove', 0.7); send('pointerup', 0.7);",
    )?;
    holds(&browser, "return /from=20.*&to=20/.test(location.search)")?;
    eventually(PATIENCE, || {
        let sum: u64 = browser.text("#charts-groups tr.sum td")?.parse()?;
        ensure!(
            (20..80).contains(&sum),
            "{sum} calls in a third of the range"
        );
        Ok(())
    })?;
    Ok(())
}

#[test]
fn capture_health_rules_and_queries() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let all = AllInOne::start(&lab.server, &[])?;
    let browser = Browser::open(&lab.server)?;
    browser.visit(&all.page_link()?)?;

    // The empty page states why it is empty, and its button turns the capture on.
    eventually(PATIENCE, || {
        let words = browser.text("#empty-findings")?;
        ensure!(words.contains("Capture is off"), "{words}");
        Ok(())
    })?;
    browser.picture("empty")?;
    browser.click("#empty-on")?;
    holds(
        &browser,
        "return document.getElementById('capture').dataset.state === 'on'",
    )?;
    all.wait_for_running()?;
    eventually(PATIENCE, || {
        let words = browser.text("#empty-findings")?;
        ensure!(words.contains("packet"), "{words}");
        Ok(())
    })?;

    // Two calls on one connection, and another: each leads to its neighbours.
    curl(
        &lab.client,
        &[
            "-H",
            "Cookie: session=secret",
            "http://10.77.0.1/first",
            "http://10.77.0.1/second",
        ],
    )?;
    curl(&lab.client, &["http://10.77.0.1/third"])?;
    let urls = "[...document.querySelectorAll('#calls tbody tr[data-id] .path')].map((one) => one.textContent)";
    holds(&browser, &format!("return {urls}.length === 3"))?;
    let open = |word: &str| {
        browser.script(&format!(
            "[...document.querySelectorAll('#calls tbody tr[data-id]')].find((row) => row.textContent.includes('{word}')).querySelector('.c-time').click()"
        ))
    };
    let title = |word: &str| {
        holds(
            &browser,
            &format!(
                "return document.getElementById('detail-title').textContent.includes('{word}')"
            ),
        )
    };
    open("second")?;
    title("second")?;
    holds(
        &browser,
        "return !document.getElementById('detail-before').disabled && document.getElementById('detail-after').disabled",
    )?;
    browser.press("[")?;
    title("first")?;
    holds(
        &browser,
        "return document.getElementById('detail-before').disabled && !document.getElementById('detail-after').disabled",
    )?;
    browser.click("#detail-after")?;
    title("second")?;
    open("third")?;
    title("third")?;
    holds(
        &browser,
        "return document.getElementById('detail-before').disabled && document.getElementById('detail-after').disabled",
    )?;

    // Health: the ledger balances, and the counts are those of the capture.
    browser.press("4")?;
    eventually(PATIENCE, || {
        let words = browser.text("#health-cards")?;
        ensure!(
            words.contains("Balanced: 3 calls are counted, each exactly once."),
            "{words}"
        );
        ensure!(words.contains("80 http 2"), "{words}");
        Ok(())
    })?;
    browser.picture("health")?;

    // Rules: those in force, and others on the stored calls.
    browser.press("5")?;
    holds(
        &browser,
        "return document.querySelectorAll('#rules-force-rows tr').length > 0 || document.getElementById('rules-name').textContent !== ''",
    )?;
    browser.replace(
        "#rules-text",
        "/request_header:cookie/ remove\n/request_url/ stop_if /.*third.*/",
    )?;
    browser.click("#rules-run")?;
    eventually(PATIENCE, || {
        let words = browser.text("#rules-state")?;
        ensure!(
            words.starts_with("3 stored calls tried · 2 would be changed · 1 would not be sent"),
            "{words}"
        );
        Ok(())
    })?;
    browser.script(
        "document.querySelectorAll('#rules-calls details').forEach((one) => { one.open = true; })",
    )?;
    let shown = browser.text("#rules-calls")?;
    for words in [
        "would not be sent",
        "request_header:cookie",
        "session=secret",
        "removed",
    ] {
        ensure!(shown.contains(words), "{words}: {shown}");
    }
    browser.picture("rules")?;
    browser.replace("#rules-text", "# one\n/request_url/ remvoe")?;
    browser.click("#rules-run")?;
    eventually(PATIENCE, || {
        let words = browser.text("#rules-error")?;
        ensure!(
            words.contains("line 2") || words.contains("/request_url/ remvoe"),
            "{words}"
        );
        Ok(())
    })?;
    browser.replace("#rules-text", "file:///etc/passwd")?;
    browser.click("#rules-run")?;
    eventually(PATIENCE, || {
        let words = browser.text("#rules-error")?;
        ensure!(words.contains("reads no file"), "{words}");
        Ok(())
    })?;

    // Queries: rows, and an error in words.
    browser.script("document.activeElement.blur()")?;
    browser.press("3")?;
    browser.replace("#sql", "SELECT path, status FROM calls ORDER BY time")?;
    browser.click("#query-run")?;
    eventually(PATIENCE, || {
        let words = browser.text("#query-rows")?;
        ensure!(words.contains("/first "), "{words}");
        Ok(())
    })?;
    browser.picture("query")?;
    browser.replace("#sql", "DROP TABLE calls")?;
    browser.click("#query-run")?;
    eventually(PATIENCE, || {
        let words = browser.text("#query-error")?;
        ensure!(!words.is_empty(), "no error");
        Ok(())
    })?;

    // Off needs a second click.
    browser.click("#capture-switch")?;
    let words = browser.text("#capture-switch")?;
    ensure!(words == "Really turn off?", "{words}");
    browser.click("#capture-switch")?;
    holds(
        &browser,
        "return document.getElementById('capture').dataset.state === 'off'",
    )?;
    let status = all.control(&["status"])?;
    ensure!(status.stdout.contains("STOPPED"), "{status:?}");
    Ok(())
}

#[test]
fn messages_of_streams_are_listed_one_by_one() -> Result<()> {
    let namespace = Namespace::new("messages")?;
    let all = AllInOne::start(&namespace, &[])?;
    let call = |path: &str, details: &[(&str, &str)]| {
        let url = format!("http://api.shop/{path}");
        let mut all = vec![("request_method", "POST"), ("request_url", url.as_str())];
        all.extend(details);
        line(&all)
    };
    let lines = [
        call(
            "websocket",
            &[
                ("custom_field:stream", "websocket"),
                ("request_body", r#"["ping",{"a":[1,2]}]"#),
                ("response_body", r#"["pong"]"#),
            ],
        ),
        call(
            "grpc",
            &[
                ("request_header:content-type", "application/grpc"),
                ("request_body", r#"[{"1":"x"}]"#),
                ("response_header:content-type", "application/grpc+proto"),
                // The last one was cut.
                ("response_body", r#"[{"1":"<b>y</b>"},{"1":"z"},{"1":"cu"#),
            ],
        ),
        call(
            "lines",
            &[
                ("response_header:content-type", "application/x-ndjson"),
                ("response_body", "{\"n\":1}\n{\"n\":2}\n"),
            ],
        ),
    ];
    post(&namespace, &lines.concat())?;
    let browser = Browser::open(&namespace)?;
    browser.visit(&all.page_link()?)?;
    lists(&browser, "=== 3")?;
    for (path, expected) in [
        (
            "websocket",
            json!([["ping\"", "{\"a\":[1,2]}"], ["pong\""]]),
        ),
        (
            "grpc",
            json!([
                ["{\"1\":\"x\"}"],
                ["{\"1\":\"<b>y</b>\"}", "{\"1\":\"z\"}", "{\"1\":\"cu"]
            ]),
        ),
        ("lines", json!([["{\"n\":1}", "{\"n\":2}"]])),
    ] {
        browser.script(&format!(
            "[...document.querySelectorAll('#calls tbody tr[data-id]')].find((row) => row.textContent.includes('/{path}')).querySelector('.c-time').click()"
        ))?;
        holds(
            &browser,
            &format!(
                "return document.getElementById('detail-title').textContent.includes('/{path}')"
            ),
        )?;
        eventually(PATIENCE, || {
            let shown = browser.script(
                "return [...document.querySelectorAll('#detail-messages .messages')]
                   .map((side) => [...side.querySelectorAll('.preview')].map((one) => one.textContent.replace(/^\"/, '')))",
            )?;
            ensure!(shown == expected, "{path}: {shown}");
            Ok(())
        })?;
    }
    Ok(())
}

/// A filter is kept under a name, chosen again, and removed; what the browser has kept of another program does no harm.
#[test]
fn filters_are_kept_under_a_name() -> Result<()> {
    let namespace = Namespace::new("saved")?;
    let all = AllInOne::start(&namespace, &[])?;
    post(&namespace, &calls(60)?)?;
    let browser = Browser::open(&namespace)?;
    browser.visit(&all.page_link()?)?;
    lists(&browser, "> 10")?;
    let names =
        "[...document.querySelectorAll('#saved-list b')].map((one) => one.textContent).join()";
    let shows = |expected: &str| holds(&browser, &format!("return {names} === '{expected}'"));
    let keep = |filter: &str, name: &str| -> Result<()> {
        browser.replace("#filter", filter)?;
        browser.press("\u{E007}")?;
        browser.script("document.getElementById('saved').open = true")?;
        holds(
            &browser,
            "return !document.getElementById('saved-form').hidden",
        )?;
        browser.replace("#saved-name", name)?;
        browser.press("\u{E007}")
    };
    browser.click("#saved summary")?;
    holds(
        &browser,
        "return document.getElementById('saved-form').hidden && !document.getElementById('saved-nothing').hidden",
    )?;
    keep("status>=500", "errors")?;
    shows("errors")?;
    keep("method==POST", "<b>posts</b>")?;
    shows("<b>posts</b>,errors")?;
    browser.picture("saved")?;

    // After the page was loaded again, one is chosen: its calls are listed, and the address has it.
    browser.visit("http://localhost:7700/")?;
    lists(&browser, "> 10")?;
    browser.click("#saved summary")?;
    shows("<b>posts</b>,errors")?;
    browser.script("[...document.querySelectorAll('#saved-list .saved-one')].at(-1).querySelector('button').click()")?;
    holds(
        &browser,
        "return new URLSearchParams(location.search).get('filter') === 'status>=500'",
    )?;
    lists(&browser, "=== 6")?;

    // The same name again replaces it, and the button beside it removes it.
    keep("status==503", "errors")?;
    shows("errors,<b>posts</b>")?;
    browser.script(
        "document.querySelector('#saved-list button[aria-label=\"Remove errors\"]').click()",
    )?;
    shows("<b>posts</b>")?;
    for kept in ["not JSON", "{}", "[[1,2],[\"a\"],null]"] {
        browser.script(&format!("localStorage.setItem('filters', {})", json!(kept)))?;
        browser.visit("http://localhost:7700/?filter=status%3E%3D500")?;
        lists(&browser, "=== 6")?;
        browser.click("#saved summary")?;
        shows("")?;
    }
    Ok(())
}

/// What the strip counts: the calls that the filter chooses, and what is missing among them.
#[test]
fn the_strip_states_what_it_counts() -> Result<()> {
    let namespace = Namespace::new("coverage")?;
    let all = AllInOne::start(&namespace, &["--keep-calls", "500"])?;
    post(&namespace, &calls(400)?)?;
    let browser = Browser::open(&namespace)?;
    browser.visit(&all.page_link()?)?;
    let states = |words: &str| {
        eventually(PATIENCE, || {
            let shown = browser.text("#strip-coverage")?;
            ensure!(shown.starts_with(words), "{shown}");
            Ok(shown)
        })
    };
    states("Of 400 calls")?;
    browser.visit("http://localhost:7700/?filter=status%3E%3D500")?;
    let whole = states("Of 40 calls")?;
    ensure!(whole == "Of 40 calls", "{whole}");
    // More than are kept: the oldest are deleted, and the strip states so.
    for _ in 0..3 {
        post(&namespace, &calls(400)?)?;
    }
    eventually(PATIENCE, || {
        browser.visit("http://localhost:7700/")?;
        let shown = states("Of ")?;
        ensure!(
            shown.contains(" · missing: ") && shown.contains(" expired"),
            "{shown}"
        );
        Ok(())
    })
}

/// Texts that would change what stands beside them, or would be markup or code.
const HOSTILE: [&str; 7] = [
    "<img src=x onerror=\"document.title='executed'\">",
    "</textarea><script>document.title='executed'</script>",
    "invoice\u{202e}gnp.exe",
    "\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{645}\u{631}\u{62d}\u{628}\u{627}",
    "a\u{0}b\u{1b}[2Jc\u{7}\u{9b}31m",
    "\u{2066}\u{2069}\u{200b}\u{feff}\u{e0041}",
    "javascript:document.title='executed'//${7*7}{{7*7}}",
];

#[test]
fn whatever_is_captured_stays_text() -> Result<()> {
    let namespace = Namespace::new("hostile")?;
    let all = AllInOne::start(&namespace, &[])?;
    let mut lines = String::new();
    for text in HOSTILE {
        let mut details: Vec<(&str, &str)> = [
            "request_method",
            "request_body",
            "response_body",
            "request_header:x",
            "request_param:x",
            "session_field:x",
            "custom_field:client_address",
            "custom_field:server_address",
            "custom_field:vni",
            "custom_field:connection_id",
            "custom_field:operation",
            "custom_field:protocol",
            "response_header:content-type",
            "host",
        ]
        .map(|key| (key, text))
        .to_vec();
        let url = format!("http://api.shop/{text}");
        let key = format!("request_header:{text}");
        details.extend([
            ("request_url", url.as_str()),
            (&key, "1"),
            ("response_code", "200"),
        ]);
        lines += &line(&details);
    }
    post(&namespace, &lines)?;
    let browser = Browser::open(&namespace)?;
    browser.visit(&all.page_link()?)?;
    lists(&browser, &format!("=== {}", HOSTILE.len()))?;
    browser.script("for (const box of document.querySelectorAll('#columns-menu input')) if (!box.checked) box.click()")?;
    browser.script("if (document.getElementById('strip').hidden) document.getElementById('strip-toggle').click()")?;
    holds(
        &browser,
        "return document.querySelectorAll('#strip li').length > 10",
    )?;
    // Nothing that changes the direction of others, or has no shape, is in the document; nothing was made of the texts.
    let check = || -> Result<()> {
        let found = browser.script(
            "const hidden = /[\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f\\u200b\\u202a-\\u202e\\u2066-\\u2069\\ufeff\\u{e0000}-\\u{e007f}]/u;
             const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
             const found = [];
             while (texts.nextNode()) if (hidden.test(texts.currentNode.data)) found.push(texts.currentNode.parentElement.outerHTML.slice(0, 200));
             if (document.querySelector('main img, main script, .pane img, .pane script')) found.push('an element was made');
             if (document.title === 'executed') found.push('a script was executed');
             return found;",
        )?;
        ensure!(found == json!([]), "{found}");
        Ok(())
    };
    check()?;
    browser.picture("hostile")?;
    for (index, text) in HOSTILE.iter().rev().enumerate() {
        browser.script(&format!(
            "document.querySelectorAll('#calls tbody tr[data-id]')[{index}].click()"
        ))?;
        let clear: String = text
            .chars()
            .take_while(char::is_ascii_graphic)
            .take(8)
            .collect();
        let path = json!(format!("/{clear}"));
        holds(
            &browser,
            &format!("return document.getElementById('detail-title').textContent.includes({path})"),
        )?;
        for tab in ["request", "response", "timing", "connection", "as-sent"] {
            browser.script(&format!("document.getElementById('tab-{tab}')?.click()"))?;
            check().with_context(|| format!("{text:?}, {tab}"))?;
        }
    }
    // What a value is in a filter, it is as it was sent.
    let marks = browser.script("return document.querySelectorAll('#calls .mark').length")?;
    ensure!(marks.as_u64() > Some(3), "{marks} marks");
    browser.script("document.querySelector('#strip button[data-field=method]').click()")?;
    holds(
        &browser,
        "return document.getElementById('filter').value.startsWith('method==')",
    )?;
    lists(&browser, "=== 1")?;
    check()?;
    // The other panes have them as well.
    browser.script("document.getElementById('clear').click()")?;
    for (pane, ready) in [
        (
            "charts",
            "document.querySelectorAll('#charts-groups tbody tr').length > 3",
        ),
        ("query", "!document.getElementById('query-result').hidden"),
        (
            "rules",
            "document.querySelectorAll('#rules-calls details').length > 3",
        ),
    ] {
        browser.script(&format!(
            "document.querySelector('#panes [data-pane={pane}]').click()"
        ))?;
        match pane {
            "query" => browser.script("document.getElementById('sql').value = 'SELECT * FROM calls'; document.getElementById('query-run').click()")?,
            "rules" => browser.script("document.getElementById('rules-text').value = '/.*/ replace /[a-z]/, /x/'; document.getElementById('rules-run').click()")?,
            _ => Value::Null,
        };
        holds(&browser, &format!("return {ready}"))
            .with_context(|| browser.text("body").unwrap_or_default())?;
        check().with_context(|| pane.to_owned())?;
    }
    Ok(())
}

/// axe-core finds nothing serious in any part of the page, in light and dark colours, on a desk and on a telephone.
#[test]
fn the_page_has_no_serious_barrier() -> Result<()> {
    let axe = axe()?;
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let all = AllInOne::start(&lab.server, &["--on"])?;
    all.wait_for_running()?;
    let browser = Browser::open(&lab.server)?;
    let link = all.page_link()?;
    let mut found = String::new();
    let mut check = |name: &str, is_narrow: bool| -> Result<()> {
        for is_dark in [false, true] {
            let size = if is_narrow { [390, 844] } else { [1280, 900] };
            browser.emulate(size, is_narrow, is_dark)?;
            let theme = if is_dark { "dark" } else { "light" };
            let width = if is_narrow { "narrow" } else { "wide" };
            browser.picture(&format!("axe-{name}-{theme}-{width}"))?;
            let script = format!(
                "if (!window.axe) {{ {axe} }}
                 const result = await axe.run(document, {{ resultTypes: ['violations'] }});
                 return result.violations.filter((one) => ['serious', 'critical'].includes(one.impact))
                   .map((one) => `${{one.id}}: ${{one.help}}: ${{one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(' | ')}}`);"
            );
            let violations = browser.wait_for_script(&script)?;
            for violation in violations.as_array().context("a list")? {
                let _ = writeln!(found, "{name}, {theme}, {width}: {violation}");
            }
            let wider =
                browser.script("return document.documentElement.scrollWidth > innerWidth + 1")?;
            if wider == true {
                let _ = writeln!(found, "{name}, {width}: the page is wider than the window");
            }
        }
        Ok(())
    };
    browser.visit(&link)?;
    holds(&browser, "return !document.getElementById('empty').hidden")?;
    check("empty", false)?;
    check("empty", true)?;
    post(&lab.server, &calls(300)?)?;
    curl(&lab.client, &["http://10.77.0.1/hello?first=1"])?;
    for is_narrow in [false, true] {
        browser.emulate(
            if is_narrow { [390, 844] } else { [1280, 900] },
            is_narrow,
            false,
        )?;
        browser.visit("http://localhost:7700/")?;
        lists(&browser, "> 5")?;
        check("calls", is_narrow)?;
        browser.script("document.getElementById('strip-toggle').getAttribute('aria-pressed') === 'true' || document.getElementById('strip-toggle').click()")?;
        holds(
            &browser,
            "return document.querySelectorAll('#strip li').length > 8",
        )?;
        check("strip", is_narrow)?;
        browser.script("document.getElementById('strip-toggle').click()")?;
        browser.script("document.querySelector('#calls tbody tr[data-id] .c-time').click()")?;
        holds(
            &browser,
            "return document.querySelector('#detail .tab-list') !== null",
        )?;
        for tab in ["request", "timing"] {
            browser.script(&format!("document.getElementById('tab-{tab}').click()"))?;
            check(&format!("detail-{tab}"), is_narrow)?;
        }
        for (pane, ready) in [
            (
                "charts",
                "document.querySelectorAll('#charts-groups tbody tr').length > 1",
            ),
            ("query", "true"),
            (
                "health",
                "document.querySelectorAll('#health-cards .card').length > 3",
            ),
            ("rules", "!document.getElementById('rules-force').hidden"),
        ] {
            browser.visit(&format!("http://localhost:7700/?pane={pane}"))?;
            match pane {
                "query" => browser.script("document.getElementById('query-run').click()")?,
                "rules" => browser.script("document.getElementById('rules-text').value = '/request_header:cookie/ remove'; document.getElementById('rules-run').click()")?,
                _ => Value::Null,
            };
            holds(&browser, &format!("return {ready}"))?;
            if pane == "query" {
                holds(
                    &browser,
                    "return !document.getElementById('query-result').hidden",
                )?;
            }
            if pane == "rules" {
                holds(
                    &browser,
                    "return document.querySelectorAll('#rules-calls details').length > 0",
                )?;
            }
            check(pane, is_narrow)?;
        }
    }
    browser.visit("http://localhost:7700/")?;
    lists(&browser, "> 5")?;
    browser.script("document.getElementById('help-open').click()")?;
    check("help", true)?;
    check("help", false)?;
    ensure!(found.is_empty(), "{found}");
    Ok(())
}
