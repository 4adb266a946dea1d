//! A store to try by hand: `cargo run -p store --example serve -- DATA_FOLDER [PAGE_ADDRESS [CAPTURE_ADDRESS]]`.

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut config = store::Config::new(arguments.next().unwrap_or_else(|| "data".into()));
    if let Some(page) = arguments.next() {
        config.page = page.parse()?;
    }
    if let Some(capture) = arguments.next() {
        config.capture = capture.parse()?;
    }
    let print = |ready: &store::Ready| println!("{} {}", ready.capture_url(), ready.page_url());
    store::run_until(config, print, store::termination())
}
