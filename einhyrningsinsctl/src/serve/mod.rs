//! `serve`: the metrics of a master and a page about its pool, over HTTP.
//!
//! It only shows things. [`listen`] opens the sockets; [`connections`] accepts, within limits; [`routes`] answers, if the
//! host of a request is one of [`hosts`] and, for most, if it has the [`token`]; [`keeper`] asks the master, one question at
//! a time; [`hub`] has the readers of the page, and asks only while there are some.
//!
//! One thread does all of this but asking, so nothing here may wait but as a future. TLS is for a proxy.

mod connections;
mod history;
mod hosts;
mod hub;
mod keeper;
mod listen;
mod reader;
mod routes;
mod token;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

pub(crate) use hosts::parse_host;
pub(crate) use listen::Listen;

use crate::trust::Trust;
use connections::{Acceptor, CONNECTIONS_MAX};
use hosts::Hosts;
use hub::Hub;
use keeper::Keeper;
use listen::{ListenError, Listener};
use token::{Token, TokenError};

/// How long answers that are under way may still take when it ends.
const END_WITHIN: Duration = Duration::from_secs(2);

/// The options of `serve`.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The master's control socket.
    pub(crate) socket: PathBuf,
    /// Whom to trust there.
    pub(crate) trust: Trust,
    pub(crate) listen: Listen,
    /// The names of hosts that requests may give, beside those of loopback addresses.
    pub(crate) hosts: Vec<String>,
    /// The file of the token; `None` to make one.
    pub(crate) token_file: Option<PathBuf>,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(
        "{0} is not an address of this machine alone, so who may read is for you to say: give --token-file, and a proxy \
         for TLS"
    )]
    Open(std::net::SocketAddr),
    #[error("cannot set up HTTP")]
    Runtime(#[source] io::Error),
}

/// What all requests have in common.
#[derive(Debug)]
struct Shared {
    hosts: Hosts,
    token: Token,
    keeper: Keeper,
    hub: Hub,
}

/// A server whose sockets are open, and which answers when it runs.
#[derive(Debug)]
pub(crate) struct Server {
    plan: Plan,
    listeners: Vec<Listener>,
    token: Token,
}

impl Server {
    /// Opens the sockets, and reads or makes the token.
    ///
    /// # Errors
    /// [`ServeError`].
    pub(crate) fn open(plan: Plan) -> Result<Self, ServeError> {
        let open = |address: &std::net::SocketAddr| !listen::is_loopback(address.ip());
        // Before anybody could connect.
        if let (Listen::Tcp(address), None) = (&plan.listen, &plan.token_file)
            && open(address)
        {
            return Err(ServeError::Open(*address));
        }
        let token = match &plan.token_file {
            Some(path) => Token::read(path)?,
            None => Token::make()?,
        };
        let listeners = plan.listen.open()?;
        for listener in &listeners {
            if let (Listener::Tcp(_, address), None) = (listener, &plan.token_file)
                && open(address)
            {
                return Err(ServeError::Open(*address));
            }
        }
        Ok(Self { plan, listeners, token })
    }

    /// Where it listens: addresses as in a browser, or the paths of Unix sockets. With the token, if it was made here.
    pub(crate) fn places(&self) -> Vec<String> {
        let secret = match self.plan.token_file {
            None => format!("#token={}", self.token.reveal()),
            Some(_) => String::new(),
        };
        let place = |listener: &Listener| match listener {
            Listener::Tcp(_, address) => format!("http://{address}/{secret}"),
            Listener::Unix(_, file) => format!("unix:{} http://localhost/{secret}", file.path.display()),
        };
        self.listeners.iter().map(place).collect()
    }

    /// Whether others than the processes of this machine reach it, but no request from them can name its host.
    pub(crate) fn is_nameless(&self) -> bool {
        self.plan.hosts.is_empty() && self.listeners.iter().any(Listener::is_open)
    }

    /// Answers until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// [`ServeError::Runtime`].
    pub(crate) fn run(self) -> Result<(), ServeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(ServeError::Runtime)?;
        let result = runtime.block_on(self.answer());
        // The thread that asks the master may wait for its answer.
        runtime.shutdown_background();
        result.map_err(ServeError::Runtime)
    }

    async fn answer(self) -> io::Result<()> {
        let Self { plan, listeners, token } = self;
        let mut signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
        let acceptors = listeners.into_iter().map(Acceptor::new).collect::<io::Result<Vec<_>>>()?;
        let keeper = Keeper::start(plan.socket.clone(), plan.trust.clone());
        let hosts = Hosts::new(plan.hosts);
        let shared = Arc::new(Shared { hosts, token, keeper, hub: Hub::new() });
        let router = routes::router(Arc::clone(&shared));
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (ending, ended) = watch::channel(false);
        for acceptor in acceptors {
            tokio::spawn(acceptor.run(router.clone(), Arc::clone(&places), ended.clone()));
        }
        select! {
            () = first(&mut signals) => {}
            () = shared.hub.run(&shared.keeper, plan.socket, plan.trust) => {}
        }
        let _ = ending.send(true);
        shared.hub.close();
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        let _ = timeout(END_WITHIN, places.acquire_many(all)).await;
        Ok(())
    }
}

/// Waits for one of two signals.
async fn first([one, other]: &mut [Signal; 2]) {
    select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
