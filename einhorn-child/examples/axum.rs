//! An axum server as a worker.
//!
//! ```text
//! einhyrningsins -n 4 -b 127.0.0.1:8000 -m -- target/release/examples/axum
//! ```
//!
//! axum's own graceful shutdown would be one line, `with_graceful_shutdown(stop.future()?)`. But on that signal
//! hyper closes every connection on which no request has *arrived*, including those on which one is in flight:
//! connections that were just accepted, and kept-alive ones that the client is about to use again. Under load,
//! each upgrade would lose a few requests. So this server stops in two steps:
//! 1. It stops accepting, and answers each request with `Connection: close`.
//! 2. When no connection is left, or the remaining ones have been silent for [`LINGER`], it shuts down.

use std::error::Error;
use std::io::{self, Write};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::response::Response;
use axum::routing::get;
use axum::serve::{IncomingStream, Listener};
use einhorn_child::{Stop, StopFuture};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// How long a stopping server waits for a request on its open connections.
const LINGER: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let stop = Stop::install()?;
    let listener: TcpListener = einhorn_child::inherit_or_bind("127.0.0.1:8000")?;

    let (open, mut all_closed) = mpsc::channel(1);
    let listener = UntilStop { listener, stopped: stop.future()?, open: Some(open) };
    let stopped = stop.future()?;
    let drained = async move {
        stopped.await;
        // Not `eprintln`, which panics if standard error is closed: no reason to drop accepted connections.
        let _ = io::stderr().write_all(b"axum: answering accepted requests, then exiting\n");
        // Returns `None` when the last `Open` is dropped.
        let _ = tokio::time::timeout(LINGER, all_closed.recv()).await;
    };

    let hello = get(|| async { format!("hello from process {}\n", std::process::id()) });
    let app = Router::new().route("/", hello).layer(axum::middleware::map_response(
        move |mut response: Response| async move {
            if stop.is_requested() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        },
    ));
    einhorn_child::ack()?;
    let app = app.into_make_service_with_connect_info::<Open>();
    axum::serve(listener, app).with_graceful_shutdown(drained).await?;
    Ok(())
}

/// A listener that yields no more connections once the worker is asked to stop.
struct UntilStop {
    listener: TcpListener,
    stopped: StopFuture,
    open: Option<mpsc::Sender<()>>,
}

/// Lives as long as a connection; `all_closed` ends when all of them are dropped.
#[derive(Clone, Debug)]
struct Open {
    _sender: Option<mpsc::Sender<()>>,
}

impl Listener for UntilStop {
    type Io = TcpStream;
    type Addr = Open;

    async fn accept(&mut self) -> (TcpStream, Open) {
        tokio::select! {
            biased;
            () = &mut self.stopped => {
                self.open = None;
                std::future::pending().await
            }
            (stream, _) = Listener::accept(&mut self.listener) => (stream, Open { _sender: self.open.clone() }),
        }
    }

    fn local_addr(&self) -> io::Result<Open> {
        Ok(Open { _sender: None })
    }
}

/// Stores the `Open` of a connection with the connection's service.
impl Connected<IncomingStream<'_, UntilStop>> for Open {
    fn connect_info(stream: IncomingStream<'_, UntilStop>) -> Self {
        stream.remote_addr().clone()
    }
}
