//! One listener served over HTTP/1.1 until a stop is requested: bounded in connections (`places`), in idle time, and in the time to
//! stop. Connections that a supervisor passes are served in the same way.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::limits::{ACCEPT_PAUSE, HEAD_BYTES_MAX, HEAD_WAIT, STOP_WAIT};
use crate::passed::Passed;
use crate::places::{Connection, Place, Places};
use crate::sender::Sender;

/// Where connections come from.
pub(crate) trait Listener: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, and who is at its other end; `None` when there will be no more.
    fn next(&mut self) -> impl Future<Output = io::Result<Option<(Self::Stream, Sender)>>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&mut self) -> io::Result<Option<(TcpStream, Sender)>> {
        let (stream, peer) = self.accept().await?;
        // An answer is one small write, which must not wait for the ACK of the one before.
        drop(stream.set_nodelay(true));
        Ok(Some((stream, Sender::of(peer.ip()))))
    }
}

impl Listener for Passed {
    type Stream = UnixStream;

    async fn next(&mut self) -> io::Result<Option<(UnixStream, Sender)>> {
        let Some(stream) = self.0.recv().await else {
            return Ok(None);
        };
        stream.set_nonblocking(true)?;
        Ok(Some((UnixStream::from_std(stream)?, Sender::Capture)))
    }
}

/// Accepts until `stopped` turns true, then lets running answers finish for [`STOP_WAIT`].
pub(crate) async fn serve(
    mut listener: impl Listener,
    router: Router,
    places: Arc<Places>,
    stopped: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut stop = stopped.clone();
    loop {
        let accepted = tokio::select! {
            () = stop_requested(&mut stop) => break,
            accepted = listener.next() => accepted,
        };
        match accepted {
            Ok(None) => stop_requested(&mut stop).await,
            Ok(Some((stream, sender))) => {
                // Without a place the connection is closed by dropping it.
                if let Some(place) = places.take(sender) {
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
fn serve_connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: &Router,
    place: Place,
    mut stopped: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + use<S> {
    let state = Arc::clone(place.connection());
    let router = router
        .clone()
        .layer(middleware::from_fn_with_state(state, track));
    async move {
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
