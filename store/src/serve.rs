//! One listener served over HTTP/1.1 until a stop is requested: bounded in connections (`places`), in idle time, and in the time to
//! stop.

use std::net::TcpListener;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::limits::{ACCEPT_PAUSE, HEAD_BYTES_MAX, HEAD_WAIT, STOP_WAIT};
use crate::places::{Connection, Place, Places};
use crate::sender::Sender;

/// Accepts until `stopped` turns true, then lets running answers finish for [`STOP_WAIT`].
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    places: Arc<Places>,
    stopped: watch::Receiver<bool>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let mut connections = JoinSet::new();
    let mut stop = stopped.clone();
    loop {
        let accepted = tokio::select! {
            () = stop_requested(&mut stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Without a place the connection is closed by dropping it.
                if let Some(place) = places.take(Sender::of(peer.ip())) {
                    let connection = serve_connection(stream, &router, place, stopped.clone());
                    drop(connections.spawn(connection));
                }
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
fn serve_connection(
    stream: TcpStream,
    router: &Router,
    place: Place,
    mut stopped: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + use<> {
    let state = Arc::clone(place.connection());
    let router = router
        .clone()
        .layer(middleware::from_fn_with_state(state, track));
    async move {
        // An answer is one small write, which must not wait for the ACK of the one before.
        drop(stream.set_nodelay(true));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WAIT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => {}
            () = place.connection().closing() => {}
            () = stop_requested(&mut stopped) => {
                connection.as_mut().graceful_shutdown();
                drop(connection.await);
            }
        }
    }
}

/// Notes what the connection does; handlers find it among the extensions of the request.
async fn track(
    State(connection): State<Arc<Connection>>,
    mut request: Request,
    next: Next,
) -> Response {
    connection.answers();
    request.extensions_mut().insert(Arc::clone(&connection));
    let response = next.run(request).await;
    connection.waits();
    response
}

/// Completes when the store has to stop.
pub(crate) async fn stop_requested(stopped: &mut watch::Receiver<bool>) {
    drop(stopped.wait_for(|stopped| *stopped).await);
}
