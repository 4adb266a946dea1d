//! The post of a bundle.

use anyhow::Result;
use store::backend::Backend;
use store::bundle::Bundle;
use store::sender::Sender;

/// As the capture URL does with a body that has arrived.
pub(super) async fn post(store: &impl Backend, text: String, sender: Sender) -> Result<usize> {
    let split = tokio::task::spawn_blocking(move || Bundle::split(text.into(), None, sender));
    let bundle = split.await??;
    let calls = bundle.calls();
    store.insert(bundle).await?;
    Ok(calls)
}
