//! Serving an axum application until the worker is asked to stop.

use std::convert::Infallible;
use std::fmt;
use std::future::{self, Future, IntoFuture};
use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::response::Response;
use axum::serve::{IncomingStream, Listener, ListenerExt, TapIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tower::Service;
use tower::util::MapResponse;

use crate::{Stop, StopFuture};

/// How long a stopping server waits for a request on connections without one, unless [`Serve::linger`] says
/// otherwise. Shorter than the 10 s that `docker stop` allows.
const LINGER: Duration = Duration::from_secs(5);

/// How often a stopping server checks for a second request to stop.
const IMPATIENCE_CHECK: Duration = Duration::from_millis(100);

/// Serves `app` on `listener` until the worker is asked to stop, and loses no request then.
///
/// It is [`axum::serve()`], with another end. axum's own graceful shutdown, and hyper's below it, closes each
/// connection on which no request has *arrived*. One may be on its way: on a connection that was just accepted,
/// and on one that is kept alive. Under load, each stop loses a few. `serve` stops in these steps instead:
///
/// 1. It closes the listener. Connections that it has not accepted stay in the queue for the other workers.
/// 2. It answers the next request of each connection, and those in progress, with `Connection: close`.
/// 3. Connections on which no request comes for [five seconds](Serve::linger) are closed.
/// 4. It returns when the last connection is closed. WebSockets and other upgraded connections count: their
///    handlers must watch `stop`, for instance with [`Stop::future`].
///
/// A second request to stop ends the third step at once and the fourth without the upgraded connections. Requests
/// are answered even then.
///
/// HTTP has no way to close an idle connection so that a request cannot cross it. A client that sends one in the
/// instant in which step 3 closes the connection gets no answer, as with any server's idle timeout, and HTTP
/// clients send such a request again. To avoid it, let `app` set the header `Keep-Alive: timeout=4`: clients that
/// follow it close idle connections first.
///
/// `listener` is a [`TcpListener`](tokio::net::TcpListener) or [`UnixListener`](tokio::net::UnixListener) of tokio,
/// or any other [`Listener`]. `app` is a [`Router`](axum::Router), or anything else that [`axum::serve()`] accepts;
/// handlers that need the client's address get it by `into_make_service_with_connect_info::<SocketAddr>()`.
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use einhorn_child::Stop;
/// use tokio::net::TcpListener;
///
/// #[tokio::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let stop = Stop::install()?;
///     let listener: TcpListener = einhorn_child::inherit_or_bind("127.0.0.1:8000")?;
///     let app = Router::new().route("/", get(|| async { "hello\n" }));
///     einhorn_child::ack()?;
///     einhorn_child::serve(listener, app, stop).await?;
///     Ok(())
/// }
/// ```
///
/// # Errors
/// When it is awaited: no descriptor is left for the [future](Stop::future) of the stop.
///
/// # Panics
/// When it is awaited: outside a tokio runtime, or in one without I/O and time (`enable_all`).
pub fn serve<L, M, S>(listener: L, app: M, stop: Stop) -> Serve<L, M, S>
where
    L: Listener,
    M: for<'a> Service<IncomingStream<'a, StoppingListener<L>>, Error = Infallible, Response = S>,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    Serve { listener, app, stop, linger: LINGER, service: PhantomData }
}

/// A server to be awaited: see [`serve`].
///
/// ```
/// use axum::Router;
/// use einhorn_child::{Serve, Stop};
/// use tokio::net::TcpListener;
///
/// fn server(listener: TcpListener, stop: Stop) -> Serve<TcpListener, Router, Router> {
///     einhorn_child::serve(listener, Router::new(), stop)
/// }
/// ```
#[must_use = "a server does nothing unless it is awaited"]
pub struct Serve<L, M, S> {
    listener: L,
    app: M,
    stop: Stop,
    linger: Duration,
    service: PhantomData<fn() -> S>,
}

impl<L, M, S> Serve<L, M, S> {
    /// Waits for `linger` after the request to stop before it closes connections without a request [default: 5 s].
    ///
    /// Choose less than the master's `--signal-timeout`, and more than a `Keep-Alive: timeout=` that `app` sets.
    ///
    /// ```no_run
    /// # async fn run(listener: tokio::net::TcpListener, app: axum::Router, stop: einhorn_child::Stop)
    /// # -> std::io::Result<()> {
    /// use std::time::Duration;
    ///
    /// einhorn_child::serve(listener, app, stop).linger(Duration::from_secs(60)).await
    /// # }
    /// ```
    pub fn linger(self, linger: Duration) -> Self {
        Self { linger, ..self }
    }
}

impl<L, M, S> IntoFuture for Serve<L, M, S>
where
    L: Listener,
    L::Addr: fmt::Debug,
    M: for<'a> Service<IncomingStream<'a, StoppingListener<L>>, Error = Infallible, Response = S>,
    M: Send + 'static,
    for<'a> <M as Service<IncomingStream<'a, StoppingListener<L>>>>::Future: Send,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { listener, app, stop, linger, .. } = self;
        Box::pin(async move {
            // Each ends (`closed`) when the last of its receivers is dropped.
            let (listening, open) = (watch::Sender::new(()), Arc::new(watch::Sender::new(())));
            let accepting = Accepting { listener, _listening: listening.subscribe(), open: open.subscribe() };
            let listener = UntilStop { accepting: Some(accepting), stopped: stop.future()? };
            let listener: StoppingListener<L> = listener.tap_io(|_| ());
            let app = MapResponse::new(app, move |service: S| {
                MapResponse::new(service, move |answer| last_if_stopping(answer, stop))
            });
            let connections = Arc::clone(&open);
            let quiet = async move {
                // Not before: axum would close a connection that is being accepted at this very moment.
                listening.closed().await;
                tokio::select! {
                    () = connections.closed() => {}
                    () = tokio::time::sleep(linger) => {}
                    () = asked_again(stop) => {}
                }
            };
            axum::serve(listener, app).with_graceful_shutdown(quiet).await?;
            tokio::select! {
                () = open.closed() => {}
                () = asked_again(stop) => {}
            }
            Ok(())
        })
    }
}

impl<L: fmt::Debug, M, S> fmt::Debug for Serve<L, M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listener, stop, linger, .. } = self;
        let mut fields = f.debug_struct("Serve");
        fields.field("listener", listener).field("stop", stop).field("linger", linger);
        fields.finish_non_exhaustive()
    }
}

async fn asked_again(stop: Stop) {
    while stop.requests() < 2 {
        tokio::time::sleep(IMPATIENCE_CHECK).await;
    }
}

/// Makes `answer` the last one of its connection if the worker is stopping. With HTTP/2, hyper removes the header.
fn last_if_stopping(mut answer: Response, stop: Stop) -> Response {
    // `Connection: upgrade` is part of a switch of protocols.
    if stop.is_requested() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// The listener as axum sees it. `TapIo` does nothing, except that axum implements `Connected` for the addresses of
/// such a listener, and nobody but axum could for `SocketAddr`.
type StoppingListener<L> = TapIo<UntilStop<L>, fn(&mut Open<<L as Listener>::Io>)>;

/// A listener that is closed, and yields no more connections, once the worker is asked to stop.
#[derive(Debug)]
pub struct UntilStop<L> {
    accepting: Option<Accepting<L>>,
    stopped: StopFuture,
}

#[derive(Debug)]
struct Accepting<L> {
    listener: L,
    _listening: watch::Receiver<()>,
    open: watch::Receiver<()>,
}

impl<L: Listener> Listener for UntilStop<L> {
    type Io = Open<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, L::Addr) {
        if let Some(Accepting { listener, open, .. }) = &mut self.accepting {
            tokio::select! {
                biased;
                () = &mut self.stopped => self.accepting = None,
                (io, address) = listener.accept() => return (Open { io, _open: open.clone() }, address),
            }
        }
        future::pending().await
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        match &self.accepting {
            Some(accepting) => accepting.listener.local_addr(),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// A connection that counts as open until it is dropped.
#[derive(Debug)]
pub struct Open<T> {
    io: T,
    _open: watch::Receiver<()>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Open<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Open<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
