//! A GET request and its answer, over a connection that nothing else uses.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::response::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use super::address::{Address, Place};

/// How much of a body is read; the rest is left.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;

/// The longest head of an answer: four times what the usual servers take of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// What to ask for.
#[derive(Debug, Clone)]
pub(crate) struct Get {
    pub(crate) target: PathAndQuery,
    /// Headers to send, in place of those that every request has.
    pub(crate) headers: HeaderMap,
}

/// What came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Parts,
    /// The body, or its first [`BODY_BYTES_MAX`] bytes.
    pub(crate) body: Vec<u8>,
    /// Whether there was more of the body, or may have been.
    pub(crate) is_cut: bool,
}

/// What a request waits for. Its text says that it did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Connection,
    Head,
    /// The rest of the body, of which so many bytes have come.
    Body(StatusCode, usize),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The connection broke, or what came is not HTTP.
    #[error("{0}")]
    Broken(Wait, #[source] hyper::Error),
    #[error("{wait} within {}s", limit.as_secs_f64())]
    TimedOut { wait: Wait, limit: Duration },
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection => f.write_str("no connection"),
            Self::Head => f.write_str("no answer"),
            Self::Body(status, bytes) => {
                write!(f, "status {status}, but no complete body ({bytes} bytes came)")
            }
        }
    }
}

impl Get {
    /// Asks the server at `address`, within `limit` from before the connection is made until the end of the body.
    ///
    /// # Errors
    /// A [`Fault`] if no answer came. An answer of any status is one.
    pub(crate) async fn ask(&self, address: &Address, limit: Duration) -> Result<Answer, Fault> {
        let wait = Cell::new(Wait::Connection);
        let answer = async {
            match &address.place {
                Place::Tcp(addresses) => {
                    let stream = TcpStream::connect(addresses.as_slice()).await.map_err(Fault::Connect)?;
                    self.converse(stream, address, &wait).await
                }
                Place::Named(host, port) => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(Fault::Connect)?;
                    self.converse(stream, address, &wait).await
                }
                Place::Unix(place) => {
                    let place = place.clone().into();
                    let stream = UnixStream::connect_addr(&place).await.map_err(Fault::Connect)?;
                    self.converse(stream, address, &wait).await
                }
            }
        };
        match tokio::time::timeout(limit, answer).await {
            Ok(result) => result,
            Err(_) => Err(Fault::TimedOut { wait: wait.get(), limit }),
        }
    }

    async fn converse<T>(&self, stream: T, address: &Address, wait: &Cell<Wait>) -> Result<Answer, Fault>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        wait.set(Wait::Head);
        let broken = |error| Fault::Broken(wait.get(), error);
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Dropped, it drops the connection.
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let response = sender.send_request(self.request(address)).await;
        let (head, incoming) = response.map(Response::into_parts).map_err(broken)?;
        let came = |bytes| wait.set(Wait::Body(head.status, bytes));
        let (body, is_cut) = read(incoming, came).await.map_err(broken)?;
        Ok(Answer { head, body, is_cut })
    }

    fn request(&self, address: &Address) -> Request<String> {
        let mut request = Request::new(String::new());
        *request.uri_mut() = self.target.clone().into();
        *request.headers_mut() = self.headers.clone();
        let usual = |value| HeaderValue::from_static(value);
        // An address has only characters that a header may have, unless it is one that was checked as a name.
        let host = HeaderValue::from_str(&address.host()).unwrap_or(usual("localhost"));
        let agent = usual(concat!("einhyrningsinsctl/", env!("CARGO_PKG_VERSION")));
        let usual: [(HeaderName, HeaderValue); 4] = [
            (header::HOST, host),
            (header::USER_AGENT, agent),
            (header::ACCEPT, usual("*/*")),
            (header::CONNECTION, usual("close")),
        ];
        for (name, value) in usual {
            request.headers_mut().entry(name).or_insert(value);
        }
        request
    }
}

/// Reads a body, up to [`BODY_BYTES_MAX`]; and whether there may be more. Reports how many bytes have come.
async fn read(mut incoming: Incoming, came: impl Fn(usize)) -> Result<(Vec<u8>, bool), hyper::Error> {
    let mut body = Vec::new();
    came(0);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut incoming).poll_frame(context)).await {
        if let Ok(data) = frame?.into_data() {
            body.extend_from_slice(&data);
        }
        came(body.len());
        if body.len() >= BODY_BYTES_MAX {
            let is_cut = body.len() > BODY_BYTES_MAX || !incoming.is_end_stream();
            body.truncate(BODY_BYTES_MAX);
            return Ok((body, is_cut));
        }
    }
    Ok((body, false))
}
