//! A session with a master, across several connections.

use std::io::ErrorKind;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use einhorn_proto::RequestId;

use crate::ask::Ask;
use crate::connection::{Connection, Fault, Reply};
use crate::error::{Error, note};
use crate::interrupt::Interrupts;
use crate::program::Program;
use crate::trust::{Doubt, Trust, VARIABLE};
use crate::wait::{Ended, Wait};

/// A master, and the connection to it if there is one.
#[derive(Debug)]
pub(crate) struct Session {
    program: Program,
    socket: PathBuf,
    trust: Trust,
    connection: Option<Connection>,
    /// Whether the master closed the last connection, or none could be made: then the next connection is announced.
    is_lost: bool,
    is_in_background: bool,
}

impl Session {
    /// Makes a session; the first request connects. Messages on the way name `program`.
    pub(crate) fn new(program: Program, socket: PathBuf, trust: Trust) -> Self {
        Self { program, socket, trust, connection: None, is_lost: false, is_in_background: false }
    }

    /// The same for a thread of its own, beside what uses the terminal: it prints nothing, and neither Ctrl-C nor a reader of
    /// standard output that has gone ends a request.
    pub(crate) fn in_background(self) -> Self {
        Self { is_in_background: true, ..self }
    }

    /// The control socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whom it trusts there.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// On whose behalf messages are printed.
    pub(crate) fn program(&self) -> Program {
        self.program
    }

    /// The pid of whoever has given the last answer; see [`Connection::peer`].
    pub(crate) fn peer(&self) -> Option<i32> {
        let connection = self.connection.as_ref()?;
        connection.peer().ok().map(|peer| peer.pid())
    }

    /// Sends `ask`, gives each reply that is not the last to `on_progress`, and returns the last.
    ///
    /// Connects again if the master closed the connection between requests. Never sends a request twice of which the
    /// master may have read anything.
    ///
    /// # Errors
    /// [`Error`]. It closes the connection, so that late replies to this request are not taken for replies to the next.
    pub(crate) fn request(
        &mut self,
        ask: &dyn Ask,
        timeout: Option<Duration>,
        on_progress: &mut dyn FnMut(&Reply) -> Result<(), Error>,
    ) -> Result<Reply, Error> {
        self.converse(ask, timeout, None, &mut |reply| {
            reply.map_or(Ok(()), &mut *on_progress).map(|()| Next::Reply)
        })
    }

    /// As [`Self::request`]; `on_progress` is also called, without a reply, each time that none has come for `every`.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub(crate) fn request_with_ticks(
        &mut self,
        ask: &dyn Ask,
        timeout: Option<Duration>,
        every: Duration,
        on_progress: &mut dyn FnMut(Option<&Reply>) -> Result<(), Error>,
    ) -> Result<Reply, Error> {
        self.converse(ask, timeout, Some(every), &mut |reply| on_progress(reply).map(|()| Next::Reply))
    }

    /// Sends `ask` and returns the first reply, last or not. If more would follow, it closes the connection.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub(crate) fn begin_request(&mut self, ask: &dyn Ask, timeout: Option<Duration>) -> Result<Reply, Error> {
        self.converse(ask, timeout, None, &mut |_| Ok(Next::Leave))
    }

    /// Waits until the master that answered `ask` has closed the connection, as it does when it exits.
    ///
    /// # Errors
    /// [`Error::TimedOut`] or [`Error::Interrupted`].
    pub(crate) fn await_end(&mut self, ask: &dyn Ask, timeout: Option<Duration>) -> Result<(), Error> {
        let interrupts = self.interrupts()?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let wait = Wait { deadline, interrupts: &interrupts, is_for_reader: !self.is_in_background };
        let Some(mut connection) = self.connection.take() else { return Ok(()) };
        let id = connection.next_id();
        self.is_lost = true;
        loop {
            match connection.next_reply(&id, &wait) {
                Ok(_) => {}
                Err(Fault::Closed | Fault::Broken(_)) => return Ok(()),
                Err(fault) => return Err(self.explain(Failure::Answer(fault), ask, timeout)),
            }
        }
    }

    fn converse(
        &mut self,
        ask: &dyn Ask,
        timeout: Option<Duration>,
        every: Option<Duration>,
        on_progress: &mut OnProgress<'_>,
    ) -> Result<Reply, Error> {
        let timeout = timeout.or_else(|| ask.patience());
        let interrupts = self.interrupts()?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let wait = Wait { deadline, interrupts: &interrupts, is_for_reader: !self.is_in_background };
        match self.exchange(ask, &wait, every, on_progress) {
            Ok((connection, reply)) => {
                self.connection = Some(connection).filter(|_| !reply.wait);
                Ok(reply)
            }
            Err(failure) => {
                self.is_lost |= failure.is_of_the_master();
                Err(self.explain(failure, ask, timeout))
            }
        }
    }

    fn exchange(
        &mut self,
        ask: &dyn Ask,
        wait: &Wait<'_>,
        every: Option<Duration>,
        on_progress: &mut OnProgress<'_>,
    ) -> Result<(Connection, Reply), Failure> {
        let (mut connection, id) = self.begin(ask, wait)?;
        loop {
            let tick = every.and_then(|every| Instant::now().checked_add(every));
            let tick = tick.filter(|tick| wait.deadline.is_none_or(|deadline| *tick < deadline));
            let slice = Wait { deadline: tick.or(wait.deadline), ..*wait };
            let reply = match connection.next_reply(&id, &slice) {
                Err(Fault::Ended(Ended::Deadline)) if tick.is_some() => None,
                reply => Some(reply?),
            };
            let is_last = reply.as_ref().is_some_and(|reply| !reply.wait);
            let next =
                if is_last { Next::Leave } else { on_progress(reply.as_ref()).map_err(Failure::Told)? };
            if let (Next::Leave, Some(reply)) = (next, reply) {
                return Ok((connection, reply));
            }
        }
    }

    /// Sends `ask` on the previous request's connection, or on a new one.
    fn begin(&mut self, ask: &dyn Ask, wait: &Wait<'_>) -> Result<(Connection, RequestId), Failure> {
        if let Some(mut connection) = self.connection.take() {
            let id = connection.next_id();
            if connection.send(&id, ask, wait)? > 0 {
                return Ok((connection, id));
            }
            self.is_lost = true;
        }
        let mut connection = Connection::open(&self.socket, wait).map_err(Failure::Connect)?;
        self.check_owner(&connection)?;
        if mem::take(&mut self.is_lost) {
            self.note(&format!("connected again to {}", self.socket.display()));
        }
        let id = connection.next_id();
        connection.send(&id, ask, wait)?;
        Ok((connection, id))
    }

    /// Checks who listens, before anything is sent. einhornsh only warns, because einhorn's own shell trusts anybody.
    fn check_owner(&self, connection: &Connection) -> Result<(), Failure> {
        let peer = connection.peer().map_err(|errno| Failure::Connect(Fault::Broken(errno.into())))?.uid();
        let Some(doubt) = self.trust.doubt(peer, &self.socket) else { return Ok(()) };
        if self.program == Program::Ctl && !doubt.is_slight() {
            return Err(Failure::Doubted(doubt));
        }
        let (path, owner) = (self.socket.display(), doubt.owner.name());
        self.note(&format!("warning: the master at {path} {doubt}; {VARIABLE}={owner} accepts it"));
        Ok(())
    }

    fn note(&self, text: &str) {
        if !self.is_in_background {
            note(self.program, text);
        }
    }

    fn interrupts(&self) -> Result<Interrupts, Error> {
        if self.is_in_background { Ok(Interrupts::none()) } else { Interrupts::watch().map_err(Error::Watch) }
    }

    fn explain(&self, failure: Failure, ask: &dyn Ask, timeout: Option<Duration>) -> Error {
        let (command, path) = (ask.name().to_owned(), self.socket.clone());
        let fault = match failure {
            Failure::Told(error) => return error,
            Failure::Doubted(doubt) => return Error::Doubted { path, doubt },
            Failure::Connect(Fault::Broken(source)) => return Error::Connect { path, source },
            Failure::Connect(fault) | Failure::Answer(fault) => fault,
        };
        match fault {
            Fault::Closed => Error::Closed { command, path },
            Fault::Broken(source) | Fault::Ended(Ended::Failed(source)) => {
                Error::Broken { command, path, source }
            }
            Fault::Garbage(why) => Error::Garbage { command, path, why },
            Fault::Ended(Ended::Interrupt) => Error::Interrupted { command },
            Fault::Ended(Ended::ReaderGone) => Error::Output(ErrorKind::BrokenPipe.into()),
            Fault::Ended(Ended::Deadline) => {
                Error::TimedOut { command, path, timeout: timeout.unwrap_or_default() }
            }
        }
    }
}

/// Handles a reply that is not the last, or that none has come for a while.
type OnProgress<'a> = dyn FnMut(Option<&Reply>) -> Result<Next, Error> + 'a;

/// What to do after a reply that is not the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Wait for the next.
    Reply,
    /// Return.
    Leave,
}

/// Where a request failed.
enum Failure {
    Connect(Fault),
    /// Whoever listens may be an impostor.
    Doubted(Doubt),
    Answer(Fault),
    /// In showing a reply.
    Told(Error),
}

impl Failure {
    /// Whether the master is the cause, rather than the user, the clock or the terminal.
    fn is_of_the_master(&self) -> bool {
        match self {
            Self::Connect(fault) | Self::Answer(fault) => !matches!(fault, Fault::Ended(_)),
            Self::Doubted(_) | Self::Told(_) => false,
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Answer(fault)
    }
}
