//! Talking to a master for longer than one connection lives.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use einhorn_proto::{Command, RequestId};

use crate::connection::{Connection, Fault, Reply};
use crate::error::{Error, note};
use crate::interrupt::Interrupts;
use crate::wait::{Ended, Wait};

/// A master, and the connection to it while there is one.
#[derive(Debug)]
pub(crate) struct Session {
    socket: PathBuf,
    connection: Option<Connection>,
}

impl Session {
    /// Names the master; the first request connects.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket, connection: None }
    }

    /// Sends `command`, gives each reply that is not the last to `on_progress`, and returns the last.
    ///
    /// A connection that the master closed while nothing was asked is made anew. A request of which the
    /// master may have read anything is never sent twice.
    ///
    /// # Errors
    /// [`Error`]. The connection is given up with it, so that what may still come to this request is not
    /// taken for the answer to the next.
    pub(crate) fn request(
        &mut self,
        command: &Command,
        timeout: Option<Duration>,
        on_progress: &mut dyn FnMut(&Reply) -> Result<(), Error>,
    ) -> Result<Reply, Error> {
        let interrupts = Interrupts::watch().map_err(Error::Watch)?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let wait = Wait { deadline, interrupts: &interrupts };
        let taken = self.connection.take();
        match self.exchange(taken, command, &wait, on_progress) {
            Ok((connection, reply)) => {
                self.connection = Some(connection);
                Ok(reply)
            }
            Err(failure) => Err(self.explain(failure, command, timeout)),
        }
    }

    /// Asks on the connection that was `taken` over from the request before, or on a new one.
    fn exchange(
        &self,
        taken: Option<Connection>,
        command: &Command,
        wait: &Wait<'_>,
        on_progress: &mut dyn FnMut(&Reply) -> Result<(), Error>,
    ) -> Result<(Connection, Reply), Failure> {
        let (mut connection, id) = self.begin(taken, command, wait)?;
        loop {
            let reply = connection.next_reply(&id, wait)?;
            if !reply.wait {
                return Ok((connection, reply));
            }
            on_progress(&reply).map_err(Failure::Told)?;
        }
    }

    fn begin(
        &self,
        taken: Option<Connection>,
        command: &Command,
        wait: &Wait<'_>,
    ) -> Result<(Connection, RequestId), Failure> {
        let is_again = taken.is_some();
        if let Some(mut connection) = taken
            && !connection.is_closed()
        {
            let id = connection.next_id();
            if connection.send(&id, command, wait)? > 0 {
                return Ok((connection, id));
            }
        }
        let mut connection = Connection::open(&self.socket, wait).map_err(Failure::Connect)?;
        if is_again {
            note(&format!("einhyrningsinsctl: connected again to {}", self.socket.display()));
        }
        let id = connection.next_id();
        connection.send(&id, command, wait)?;
        Ok((connection, id))
    }

    fn explain(&self, failure: Failure, command: &Command, timeout: Option<Duration>) -> Error {
        let (command, path) = (command.name(), self.socket.clone());
        let fault = match failure {
            Failure::Told(error) => return error,
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

/// At what a request failed.
enum Failure {
    Connect(Fault),
    Answer(Fault),
    /// At showing a reply.
    Told(Error),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Answer(fault)
    }
}
