//! The connections of `serve`: how many there are, and how long they may keep this server waiting.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::select;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Sleep, sleep};
use tower::ServiceExt;

use super::listen::{File, Listener};
use super::reader::Cut;

/// How many connections there may be.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// How long a request's head may take, from the connection or the answer before it.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// How long a reader may take nothing of an answer that waits.
const STALL_MAX: Duration = Duration::from_secs(60);

/// The longest head of a request, and how much of an answer the connection itself keeps.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long to wait for a descriptor, if there are none.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one connection too many gets.
const FULL: &str = "this server has all the connections that it takes; try again later\n";

/// A listening socket of the runtime.
#[derive(Debug)]
pub(super) enum Acceptor {
    Tcp(TcpListener),
    /// And its file, which goes with it.
    Unix(UnixListener, #[expect(dead_code, reason = "it is only dropped")] File),
}

impl Acceptor {
    /// # Errors
    /// The system's.
    pub(super) fn new(listener: Listener) -> io::Result<Self> {
        match listener {
            Listener::Tcp(listener, _) => {
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(TcpListener::from_std(listener)?))
            }
            Listener::Unix(listener, file) => {
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(UnixListener::from_std(listener)?, file))
            }
        }
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }

    /// Accepts connections until `ending` says so.
    pub(super) async fn run(self, router: Router, places: Arc<Semaphore>, mut ending: watch::Receiver<bool>) {
        loop {
            let accepted = select! {
                accepted = self.accept() => accepted,
                _ = ending.changed() => return,
            };
            match (accepted, Arc::clone(&places).try_acquire_owned()) {
                (Ok(stream), Ok(place)) => {
                    tokio::spawn(converse(stream, router.clone(), place, ending.clone()));
                }
                (Ok(stream), Err(_)) => stream.refuse(),
                (Err(_), _) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

/// A connection that was accepted.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Says that there is no room, if the client takes that at once, and closes the connection.
    fn refuse(self) {
        let length = FULL.len();
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{FULL}"
        );
        let _ = match &self {
            Self::Tcp(stream) => stream.try_write(answer.as_bytes()),
            Self::Unix(stream) => stream.try_write(answer.as_bytes()),
        };
    }
}

/// Answers the requests of a connection, until it ends, is cut, or this server ends.
async fn converse(
    stream: Stream,
    router: Router,
    place: OwnedSemaphorePermit,
    ending: watch::Receiver<bool>,
) {
    match stream {
        Stream::Tcp(stream) => {
            let _ = stream.set_nodelay(true);
            answer(stream, router, ending).await;
        }
        Stream::Unix(stream) => answer(stream, router, ending).await,
    }
    drop(place);
}

async fn answer<S>(stream: S, router: Router, mut ending: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let cut = Cut::default();
    let own = cut.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(own.clone());
        router.clone().oneshot(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_BYTES_MAX);
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(Patient::new(stream, STALL_MAX)), service));
    select! {
        _ = connection.as_mut() => return,
        () = cut.wait() => return,
        _ = ending.changed() => connection.as_mut().graceful_shutdown(),
    }
    select! {
        _ = connection => {}
        () = cut.wait() => {}
    }
}

/// A stream whose reader must take something of what is written once in a while.
struct Patient<S> {
    stream: S,
    limit: Duration,
    /// Runs while the reader takes nothing.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, patience: None }
    }

    /// Passes on what has become of a write, unless it has waited for too long.
    fn judge<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.patience = None;
            return written;
        }
        let limit = self.limit;
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(patience.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Writes until it fails, as it does when the reader, which takes nothing, has used up the patience.
    async fn write_all_that_fits(limit: Duration) -> io::ErrorKind {
        let (stream, _reader) = UnixStream::pair().unwrap();
        let mut patient = Patient::new(stream, limit);
        loop {
            let written = poll_fn(|context| Pin::new(&mut patient).poll_write(context, &[0; 4096])).await;
            if let Err(error) = written {
                return error.kind();
            }
        }
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_given_up() {
        assert_eq!(write_all_that_fits(Duration::from_millis(10)).await, io::ErrorKind::TimedOut);
    }
}
