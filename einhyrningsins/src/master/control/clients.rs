//! Control clients: what was read of their requests, and what of their replies is still to be sent.
//!
//! A client that does not read its replies is not read from either, so its requests wait with it; and one that
//! lets pushed lines (events, progress) pile up beyond [`OUTPUT_BYTES_MAX`] is dropped. Either way nobody else
//! notices.

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

/// Clients at a time, workers' own connections not counted. Source: this and the next two, einhorn-control(7),
/// "LIMITS", where clients are told of them.
pub(super) const CLIENTS_MAX: usize = 256;

/// A client is dropped when an event or a line of progress would leave more than this unsent.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// A client with more than this unsent is not read from.
const OUTPUT_BYTES_FULL: usize = 256 * 1024;

/// Bytes taken up by one read.
const READ_BYTES: usize = 16 * 1024;

/// How long to leave the control socket alone when there is no descriptor for one more client; twice as long
/// each time that there is still none, up to [`ACCEPT_PAUSE_MAX`], and no longer than until a client leaves.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(3);

/// A client, never reused while the master lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(in crate::master) struct ClientId(pub(in crate::master) usize);

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Peer {
    /// Whoever connected to the socket's path, by its pid at that time; `None` if that is not visible here.
    Connected(#[serde(with = "pid_option")] Option<Pid>),
    /// The worker, or its children, that got this connection from us (-g).
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
    /// The descriptors that it names.
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
    /// How much of `output` was sent.
    sent: usize,
    /// It will send nothing more.
    has_ended: bool,
    /// It gets what is queued for it, and then it is closed.
    is_leaving: bool,
    /// Nothing can be sent to it any more. What it has sent counts all the same: a worker that acks and closes,
    /// or dies, has acked.
    is_deaf: bool,
    /// Nothing more is to be had of it.
    is_broken: bool,
    /// It follows events.
    follows: Option<Follower>,
}

/// How somebody follows events.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Follower {
    id: Option<RequestId>,
    language: Language,
}

/// What a client has said next.
#[derive(Debug)]
pub(super) enum Input {
    /// A whole line.
    Line(Vec<u8>),
    /// A line that is longer than any request may be.
    TooLong(LineTooLong),
    /// Nothing more for now.
    Nothing,
}

/// Every control client.
#[derive(Debug)]
pub(super) struct Clients {
    clients: HashMap<ClientId, Client>,
    next: usize,
    /// Those that have something to send, or are to be looked at for their end.
    dirty: BTreeSet<ClientId>,
    followers: BTreeSet<ClientId>,
    /// Set while the control socket is left alone: until when, and for how long the next time.
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
    /// Accepts one client; `None` if nobody waits.
    ///
    /// # Errors
    /// Whatever `accept4(2)` says, most often that there is no descriptor. The socket is then left alone until
    /// [`Self::accept_again_at`]: its queue gives no new event for those who wait already.
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
                // The client was gone before we came to it.
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

    /// When to try [`Self::accept`] again after an error.
    pub(super) fn accept_again_at(&self) -> Option<Instant> {
        self.pause.map(|(at, _)| at)
    }

    /// Takes in the connection that was made for a worker.
    pub(super) fn adopt(&mut self, registry: &Registry, stream: StdUnixStream, worker: Pid) {
        // Without the registration it would be deaf; the worker then has the socket's path.
        let _ = self.insert(registry, UnixStream::from_std(stream), Peer::Worker(worker));
    }

    fn insert(&mut self, registry: &Registry, mut stream: UnixStream, peer: Peer) -> io::Result<ClientId> {
        let id = ClientId(self.next);
        register(registry, id, &mut stream)?;
        self.next += 1;
        self.clients.insert(id, Client::new(stream, peer));
        Ok(id)
    }

    /// Writes down every client that is still to be heard or told something.
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
    /// If a descriptor is not there. Those that were taken stay open then: the old image needs them.
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

    /// Begins to wait for all of them.
    pub(super) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        self.clients.iter_mut().try_for_each(|(id, client)| register(registry, *id, &mut client.stream))
    }

    /// Every client.
    pub(super) fn ids(&self) -> impl Iterator<Item = ClientId> {
        self.clients.keys().copied()
    }

    /// How many there are, workers' own connections not counted.
    pub(super) fn connected(&self) -> usize {
        let is_connected = |client: &&Client| matches!(client.peer, Peer::Connected(_));
        self.clients.values().filter(is_connected).count()
    }

    pub(super) fn peer(&self, id: ClientId) -> Option<Peer> {
        self.clients.get(&id).map(|client| client.peer)
    }

    /// The next line of `id`, reading at most once.
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

    /// Queues a reply.
    pub(super) fn send<D: Serialize>(&mut self, id: ClientId, language: Language, reply: &Reply<D>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.output.len() - client.sent > OUTPUT_BYTES_MAX {
            client.is_broken = true;
        } else if !client.is_deaf {
            reply.write_in(language, &mut client.output);
        }
        self.dirty.insert(id);
    }

    /// Queues a notice for all who follow events.
    pub(super) fn send_to_followers(&mut self, notice: &Notice) {
        for id in self.followers.clone() {
            let follows = self.clients.get(&id).and_then(|client| client.follows.clone());
            if let Some(Follower { id: request_id, language }) = follows {
                self.send(id, language, &Reply::progress(request_id, notice.to_string(), Some(notice)));
            }
        }
    }

    /// From now on `id` gets every notice.
    pub(super) fn follow(&mut self, id: ClientId, request_id: Option<RequestId>, language: Language) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.follows = Some(Follower { id: request_id, language });
            self.followers.insert(id);
        }
    }

    /// Closes `id` once it has what is queued for it.
    pub(super) fn leave(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.is_leaving = true;
            self.dirty.insert(id);
        }
    }

    /// Nothing can be sent to `id` any more; what it has sent is still read.
    pub(super) fn mark_deaf(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.become_deaf();
            self.dirty.insert(id);
        }
    }

    /// Those who have closed their end, as it is at this moment.
    pub(super) fn hung_up(&self) -> Vec<ClientId> {
        let mut waiting: Vec<_> = self
            .clients
            .values()
            .map(|client| PollFd::new(client.stream.as_fd(), PollFlags::empty()))
            .collect();
        // It fails only for want of memory; then nobody is known to have left.
        let _ = poll(&mut waiting, PollTimeout::ZERO);
        let has_left =
            |entry: &PollFd<'_>| entry.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP));
        self.clients.keys().zip(&waiting).filter(|(_, entry)| has_left(entry)).map(|(id, _)| *id).collect()
    }

    /// The connection that was made for the worker `pid`.
    pub(super) fn of_worker(&self, pid: Pid) -> Option<ClientId> {
        self.clients.iter().find(|(_, client)| client.peer == Peer::Worker(pid)).map(|(id, _)| *id)
    }

    /// Whether it is still there.
    pub(super) fn has(&self, id: ClientId) -> bool {
        self.clients.contains_key(&id)
    }

    /// Closes `id` whatever is queued for it.
    pub(super) fn close(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.is_broken = true;
            self.dirty.insert(id);
        }
    }

    pub(super) fn next_dirty(&mut self) -> Option<ClientId> {
        self.dirty.pop_first()
    }

    /// Sends what `id` takes. Returns whether it was full before and is not any more: then it may have requests
    /// that nobody has looked at.
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
            // One long reply must not hold its memory for as long as the client stays.
            client.output.shrink_to(READ_BYTES);
            client.sent = 0;
        } else if client.sent > OUTPUT_BYTES_FULL {
            client.output.drain(..client.sent);
            client.sent = 0;
        }
        was_full && !client.is_full()
    }

    /// Whether `id` can be forgotten: it is gone, or has said all it will and been told all it asked.
    pub(super) fn is_finished(&self, id: ClientId, awaits_replies: bool) -> bool {
        let Some(client) = self.clients.get(&id) else { return false };
        let is_idle = client.output.is_empty() && !awaits_replies && client.follows.is_none();
        client.is_broken
            || (client.is_leaving && client.output.is_empty())
            || (client.has_ended && (is_idle || client.is_deaf) && !client.input.has_line())
    }

    /// Closes `id`.
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
