//! The deletion of calls beyond the retention while no bundle arrives whose insert would cause it.

use tokio::sync::watch;
use tokio::time::sleep;

use crate::backend::any::AnyBackend;
use crate::backend::{Backend, Expired};
use crate::limits::{EXPIRE_INTERVAL, EXPIRE_ROUND_PAUSE};
use crate::serve::stop_requested;

/// Runs until a stop is requested. What fails is in the backend's health.
pub(crate) async fn run(backend: AnyBackend, mut stopped: watch::Receiver<bool>) {
    loop {
        let pause = match backend.expire().await {
            Ok(Expired { is_more: true, .. }) => EXPIRE_ROUND_PAUSE,
            Ok(_) | Err(_) => EXPIRE_INTERVAL,
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = stop_requested(&mut stopped) => return,
        }
    }
}
