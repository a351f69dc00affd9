//! Connections of control clients: partly read requests and unsent replies.
//!
//! A client that does not read its replies is not read from, so its requests wait too. A client that lets
//! pushed lines (events, progress) pile up beyond [`OUTPUT_BYTES_MAX`] is dropped. Neither affects other
//! clients.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, ErrorKind, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::{Duration, Instant};

use einhorn_proto::{Language, LineBuffer, LineTooLong, Notice, Reply, RequestId};
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::forms::{self, pid, pid_option};
use crate::master::ready::CLIENTS;
use crate::sys::inherit::{Fd, Inherited};
use crate::sys::peer;

/// Clients at a time, not counting workers' own connections. Source: this and the next two, einhorn-control(7),
/// "LIMITS", where clients are told of them.
pub(super) const CLIENTS_MAX: usize = 256;

/// A client is dropped if an event or a line of progress would leave more than this unsent.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// Unsent bytes above which a client is not read from.
const OUTPUT_BYTES_FULL: usize = 256 * 1024;

/// Bytes per read.
const READ_BYTES: usize = 16 * 1024;

/// How long to pause accepting when no descriptor is left for another client. The pause doubles while that
/// lasts, up to [`ACCEPT_PAUSE_MAX`], and ends when a client leaves.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(3);

/// A client. Numbers are never reused while the master lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(in crate::master) struct ClientId(pub(in crate::master) usize);

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Peer {
    /// The process that connected to the socket's path, by its pid at that time; `None` if it is not visible
    /// here.
    Connected(#[serde(with = "pid_option")] Option<Pid>),
    /// The worker that got this connection from us (`-g`), or its descendants.
    Worker(#[serde(with = "pid")] Pid),
}

/// The state of the clients in a handover.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ClientsRecord {
    clients: Vec<ClientRecord>,
    next: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ClientRecord {
    id: usize,
    fd: Fd,
    peer: Peer,
    #[serde(with = "forms::bytes")]
    input: Vec<u8>,
    #[serde(with = "forms::bytes")]
    output: Vec<u8>,
    has_ended: bool,
    is_leaving: bool,
    is_deaf: bool,
    follows: Option<Follower>,
}

impl ClientsRecord {
    pub(super) fn descriptors(&self) -> impl Iterator<Item = Fd> {
        self.clients.iter().map(|client| client.fd)
    }
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    peer: Peer,
    input: LineBuffer,
    output: Vec<u8>,
    /// How much of `output` has been sent.
    sent: usize,
    /// It has closed its sending side.
    has_ended: bool,
    /// It is closed once its queued replies are sent.
    is_leaving: bool,
    /// Nothing can be sent to it any more. Its requests still count: a worker that acks and closes, or dies,
    /// has acked.
    is_deaf: bool,
    /// The connection is broken.
    is_broken: bool,
    /// Set if it follows events.
    follows: Option<Follower>,
}

/// How a client follows events.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Follower {
    id: Option<RequestId>,
    language: Language,
}

/// The next input of a client.
#[derive(Debug)]
pub(super) enum Input {
    Line(Vec<u8>),
    TooLong(LineTooLong),
    /// Nothing for now.
    Nothing,
}

/// All control clients.
#[derive(Debug)]
pub(super) struct Clients {
    clients: HashMap<ClientId, Client>,
    next: usize,
    /// Clients with something to send, or whose end must be checked.
    dirty: BTreeSet<ClientId>,
    followers: BTreeSet<ClientId>,
    /// Set while accepting is paused: the end of the pause, and the length of the next one.
    pause: Option<(Instant, Duration)>,
    buffer: Box<[u8]>,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            clients: HashMap::new(),
            next: 0,
            dirty: BTreeSet::new(),
            followers: BTreeSet::new(),
            pause: None,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        }
    }
}

impl Clients {
    /// Accepts one client; `None` if none is waiting.
    ///
    /// # Errors
    /// The error of `accept4(2)`, usually that no descriptor is left. Accepting then pauses until
    /// [`Self::accept_again_at`], because the queue raises no new event for clients that wait already.
    pub(super) fn accept(
        &mut self,
        registry: &Registry,
        listener: &UnixListener,
    ) -> io::Result<Option<ClientId>> {
        let accepted = loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    let peer = Peer::Connected(peer::credentials(&stream).ok().map(|found| found.pid));
                    break self.insert(registry, stream, peer).map(Some);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(None),
                // The client was gone before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.pause = accepted.is_err().then(|| {
            let pause = self.pause.map_or(ACCEPT_PAUSE, |(_, next)| next);
            (Instant::now() + pause, (pause * 2).min(ACCEPT_PAUSE_MAX))
        });
        accepted
    }

    /// When to call [`Self::accept`] again after an error.
    pub(super) fn accept_again_at(&self) -> Option<Instant> {
        self.pause.map(|(at, _)| at)
    }

    /// Adds the connection that was created for a worker.
    pub(super) fn adopt(&mut self, registry: &Registry, stream: StdUnixStream, worker: Pid) {
        // An unregistered connection would never be read; the worker still has the socket's path.
        let _ = self.insert(registry, UnixStream::from_std(stream), Peer::Worker(worker));
    }

    fn insert(&mut self, registry: &Registry, mut stream: UnixStream, peer: Peer) -> io::Result<ClientId> {
        let id = ClientId(self.next);
        register(registry, id, &mut stream)?;
        self.next += 1;
        self.clients.insert(id, Client::new(stream, peer));
        Ok(id)
    }

    /// The state of every client that still has something to send or to receive.
    pub(super) fn record(&self) -> ClientsRecord {
        let left = self.clients.iter().filter(|(_, client)| !client.is_broken);
        let clients = left.map(|(id, client)| ClientRecord {
            id: id.0,
            fd: Fd::of(&client.stream),
            peer: client.peer,
            input: client.input.rest().to_vec(),
            output: client.output[client.sent..].to_vec(),
            has_ended: client.has_ended,
            is_leaving: client.is_leaving,
            is_deaf: client.is_deaf,
            follows: client.follows.clone(),
        });
        ClientsRecord { clients: clients.collect(), next: self.next }
    }

    /// Continues from a handover.
    ///
    /// # Errors
    /// If a descriptor was not inherited. Those that were taken stay open: the old image needs them.
    pub(super) fn resume(record: ClientsRecord, inherited: &mut Inherited) -> io::Result<Self> {
        let mut clients = ManuallyDrop::new(Self { next: record.next, ..Self::default() });
        for record in record.clients {
            let id = ClientId(record.id);
            let fd = inherited.take(record.fd.0).map_err(io::Error::other)?;
            let mut client = Client::new(UnixStream::from_std(StdUnixStream::from(fd)), record.peer);
            client.input.push(&record.input);
            client.output = record.output;
            client.has_ended = record.has_ended;
            client.is_leaving = record.is_leaving;
            client.is_deaf = record.is_deaf;
            client.follows = record.follows;
            clients.followers.extend(client.follows.is_some().then_some(id));
            clients.dirty.insert(id);
            clients.clients.insert(id, client);
        }
        Ok(ManuallyDrop::into_inner(clients))
    }

    /// Registers all of them with epoll.
    pub(super) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        self.clients.iter_mut().try_for_each(|(id, client)| register(registry, *id, &mut client.stream))
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ClientId> {
        self.clients.keys().copied()
    }

    /// The number of clients, not counting workers' own connections.
    pub(super) fn connected(&self) -> usize {
        let is_connected = |client: &&Client| matches!(client.peer, Peer::Connected(_));
        self.clients.values().filter(is_connected).count()
    }

    pub(super) fn peer(&self, id: ClientId) -> Option<Peer> {
        self.clients.get(&id).map(|client| client.peer)
    }

    /// The next line of `id`; reads at most once.
    pub(super) fn next_input(&mut self, id: ClientId) -> Input {
        let Some(client) = self.clients.get_mut(&id).filter(|client| client.is_listened_to()) else {
            return Input::Nothing;
        };
        loop {
            match client.input.next_line() {
                Ok(Some(line)) => return Input::Line(line),
                Ok(None) => {}
                Err(error) => return Input::TooLong(error),
            }
            if client.has_ended {
                let rest = client.input.take_rest();
                self.dirty.insert(id);
                return rest.map_or(Input::Nothing, Input::Line);
            }
            match client.stream.read(&mut self.buffer) {
                Ok(0) => client.has_ended = true,
                Ok(count) => client.input.push(&self.buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Input::Nothing,
                Err(_) => {
                    client.is_broken = true;
                    self.dirty.insert(id);
                    return Input::Nothing;
                }
            }
        }
    }

    pub(super) fn send<D: Serialize>(&mut self, id: ClientId, language: Language, reply: &Reply<D>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.output.len() - client.sent > OUTPUT_BYTES_MAX {
            client.is_broken = true;
        } else if !client.is_deaf {
            reply.write_in(language, &mut client.output);
        }
        self.dirty.insert(id);
    }

    /// Queues a notice for every client that follows events.
    pub(super) fn send_to_followers(&mut self, notice: &Notice) {
        for id in self.followers.clone() {
            let follows = self.clients.get(&id).and_then(|client| client.follows.clone());
            if let Some(Follower { id: request_id, language }) = follows {
                self.send(id, language, &Reply::progress(request_id, notice.to_string(), Some(notice)));
            }
        }
    }

    /// From now on, `id` gets every notice.
    pub(super) fn follow(&mut self, id: ClientId, request_id: Option<RequestId>, language: Language) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.follows = Some(Follower { id: request_id, language });
            self.followers.insert(id);
        }
    }

    /// Closes `id` once its queued replies are sent.
    pub(super) fn leave(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.is_leaving = true;
            self.dirty.insert(id);
        }
    }

    /// Nothing can be sent to `id` any more; its requests are still read.
    pub(super) fn mark_deaf(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.become_deaf();
            self.dirty.insert(id);
        }
    }

    /// Clients that have closed their end by now.
    pub(super) fn hung_up(&self) -> Vec<ClientId> {
        let mut waiting: Vec<_> = self
            .clients
            .values()
            .map(|client| PollFd::new(client.stream.as_fd(), PollFlags::empty()))
            .collect();
        // Fails only for lack of memory; then nobody is known to have left.
        let _ = poll(&mut waiting, PollTimeout::ZERO);
        let has_left =
            |entry: &PollFd<'_>| entry.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP));
        self.clients.keys().zip(&waiting).filter(|(_, entry)| has_left(entry)).map(|(id, _)| *id).collect()
    }

    /// The connection that was created for the worker `pid`.
    pub(super) fn of_worker(&self, pid: Pid) -> Option<ClientId> {
        self.clients.iter().find(|(_, client)| client.peer == Peer::Worker(pid)).map(|(id, _)| *id)
    }

    pub(super) fn has(&self, id: ClientId) -> bool {
        self.clients.contains_key(&id)
    }

    /// Closes `id` and drops its queued replies.
    pub(super) fn close(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.is_broken = true;
            self.dirty.insert(id);
        }
    }

    pub(super) fn next_dirty(&mut self) -> Option<ClientId> {
        self.dirty.pop_first()
    }

    /// Sends what `id` takes. Returns whether it was full before and is not any more; it may then have unread
    /// requests.
    pub(super) fn flush(&mut self, id: ClientId) -> bool {
        let Some(client) = self.clients.get_mut(&id) else { return false };
        let was_full = client.is_full();
        while client.sent < client.output.len() {
            match client.stream.write(&client.output[client.sent..]) {
                Ok(count) => client.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => client.become_deaf(),
            }
        }
        if client.sent == client.output.len() {
            client.output.clear();
            // One long reply must not keep its memory for as long as the client stays.
            client.output.shrink_to(READ_BYTES);
            client.sent = 0;
        } else if client.sent > OUTPUT_BYTES_FULL {
            client.output.drain(..client.sent);
            client.sent = 0;
        }
        was_full && !client.is_full()
    }

    /// Whether `id` can be dropped: it is gone, or has sent all its requests and received all its replies.
    pub(super) fn is_finished(&self, id: ClientId, awaits_replies: bool) -> bool {
        let Some(client) = self.clients.get(&id) else { return false };
        let is_idle = client.output.is_empty() && !awaits_replies && client.follows.is_none();
        client.is_broken
            || (client.is_leaving && client.output.is_empty())
            || (client.has_ended && (is_idle || client.is_deaf) && !client.input.has_line())
    }

    pub(super) fn remove(&mut self, id: ClientId) {
        self.clients.remove(&id);
        self.followers.remove(&id);
        if let Some((at, _)) = &mut self.pause {
            *at = Instant::now();
        }
    }
}

fn register(registry: &Registry, id: ClientId, stream: &mut UnixStream) -> io::Result<()> {
    registry.register(stream, Token(CLIENTS + id.0), Interest::READABLE | Interest::WRITABLE)
}

impl Client {
    fn new(stream: UnixStream, peer: Peer) -> Self {
        Self {
            stream,
            peer,
            input: LineBuffer::default(),
            output: Vec::new(),
            sent: 0,
            has_ended: false,
            is_leaving: false,
            is_deaf: false,
            is_broken: false,
            follows: None,
        }
    }

    fn become_deaf(&mut self) {
        self.is_deaf = true;
        self.output = Vec::new();
        self.sent = 0;
    }

    fn is_full(&self) -> bool {
        self.output.len() - self.sent > OUTPUT_BYTES_FULL
    }

    fn is_listened_to(&self) -> bool {
        !self.is_broken && !self.is_leaving && !self.is_full()
    }
}
