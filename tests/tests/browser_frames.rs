//! Frames of the page in a real browser while its list is scrolled: counted and printed, since a duration is no condition of a test on a
//! loaded machine. What is asserted is that no frame is without rows.
//!
//! `cargo test -p tests --test integration browser_frames:: -- --nocapture` on a machine that does nothing else; `FRAMES_CALLS=100000` for
//! a longer list.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::browser::Browser;
use tests::network::Namespace;
use tests::process::{PATIENCE, eventually};

use crate::all_in_one::AllInOne;
use crate::browser_panes::post;

/// Calls of a bundle.
const BUNDLE: u64 = 5000;

fn calls(count: u64) -> Result<u64> {
    match std::env::var("FRAMES_CALLS") {
        Ok(given) => given.parse().context("FRAMES_CALLS is a number"),
        Err(_) => Ok(count),
    }
}

#[test]
fn no_frame_of_a_list_that_is_scrolled_is_empty() -> Result<()> {
    let calls = calls(10_000)?;
    let namespace = Namespace::new("frames")?;
    let all = AllInOne::start(&namespace, &["--keep-bytes", "2G"])?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    for first in (0..calls).step_by(BUNDLE as usize) {
        let lines = (first..calls.min(first + BUNDLE)).map(|number| {
            let url = format!("http://api.shop/v1/orders/{number}");
            let time = (now - u128::from(calls - number) * 100).to_string();
            let line = json!([
                ["request_method", "GET"],
                ["request_url", url],
                ["response_code", "200"],
                ["now", time]
            ]);
            format!("{line}\n")
        });
        post(&namespace, &lines.collect::<String>())?;
    }
    let browser = Browser::open(&namespace)?;
    browser.visit(&all.page_link()?)?;
    eventually(PATIENCE, || {
        let rows = browser
            .script("return document.querySelectorAll('#calls tbody tr[data-id]').length")?;
        ensure!(rows.as_u64() > Some(10), "{rows} rows");
        Ok(())
    })?;
    // Three windows a second, down and up again; then as fast as a wheel that is spun.
    for (name, step) in [("reading", 40), ("spinning", 400)] {
        let found = browser.wait_for_script(&format!(
            "const scroll = document.getElementById('scroll');
             const frames = [];
             let empty = 0;
             const start = performance.now();
             let last = start;
             while (frames.length < 300) {{
               await new Promise(requestAnimationFrame);
               const now = performance.now();
               frames.push(now - last);
               last = now;
               const box = scroll.getBoundingClientRect();
               const at = document.elementFromPoint(box.left + 40, box.top + box.height / 2);
               empty += Number(!at?.closest('#calls tbody tr[data-id]'));
               scroll.scrollTop += (frames.length < 200 ? 1 : -1) * {step};
             }}
             frames.sort((a, b) => a - b);
             const at = (part) => Number(frames[Math.floor(part * (frames.length - 1))].toFixed(1));
             return {{ frames: frames.length, a_second: Number((1000 * frames.length / (last - start)).toFixed(1)), median_ms: at(0.5), p95_ms: at(0.95), longest_ms: at(1), empty }};"
        ))?;
        println!("{name}, {calls} calls: {found}");
        ensure!(found["frames"] == 300, "{found}");
        if name == "reading" {
            ensure!(found["empty"] == 0, "{found}");
        }
    }
    Ok(())
}
