//! One listener served over HTTP/1.1 until a stop is requested: bounded in connections, in idle time, and in the time to stop.

use std::net::TcpListener;
use std::sync::Arc;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::limits::{ACCEPT_PAUSE, CONNECTIONS_MAX, HEAD_WAIT, STOP_WAIT};
use crate::sender::Sender;

/// Accepts until `stopped` turns true, then lets running answers finish for [`STOP_WAIT`].
pub(crate) async fn serve(listener: TcpListener, router: Router, stopped: watch::Receiver<bool>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut stop = stopped.clone();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            () = stop_requested(&mut stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                drop(connections.spawn(serve_connection(
                    stream,
                    router.clone().layer(Extension(Sender::of(peer.ip()))),
                    stopped.clone(),
                    permit,
                )));
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    // Connections that have not ended by then are closed when the set is dropped.
    drop(
        timeout(STOP_WAIT, async {
            while connections.join_next().await.is_some() {}
        })
        .await,
    );
}

/// Serves one connection to its end. A peer that violates the protocol gets its answer on the connection; nothing is
/// reported here.
async fn serve_connection(
    stream: TcpStream,
    router: Router,
    mut stopped: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    // An answer is one small write, which must not wait for the ACK of the one before.
    drop(stream.set_nodelay(true));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = stop_requested(&mut stopped) => None,
    };
    if ended.is_none() {
        connection.as_mut().graceful_shutdown();
        drop(connection.await);
    }
}

/// Completes when the store has to stop.
pub(crate) async fn stop_requested(stopped: &mut watch::Receiver<bool>) {
    drop(stopped.wait_for(|stopped| *stopped).await);
}
