//! Connections of control clients: partly read requests and unsent replies.
//!
//! A client that does not read its replies is not read from, so its requests wait too, and it misses progress. A client
//! that lets events pile up beyond [`OUTPUT_BYTES_MAX`] is dropped. Neither affects other clients.

mod quota;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::{Duration, Instant};

use einhorn_proto::{Language, LineBuffer, LineTooLong, Notice, Reply, RequestId, Requester};
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

pub(super) use quota::{Business, CLIENTS_MAX, Quota};

use super::dropped::{Dropped, Why};
use super::observers::{self, OBSERVERS_MAX};
use crate::forms::{self, Bytes, Keyed, Written, values};
use crate::master::ready::CLIENTS;
use crate::sys::ancillary::{Message, Received, receive};
use crate::sys::inherit::Kept;
use crate::sys::memory::memory_max;
use crate::sys::peer::{self, Sender, SinceBoot};

/// Connections of one worker and its descendants that do not count against [`CLIENTS_MAX`].
///
/// Those that outlive the worker are not closed: a descendant that still speaks may be a deploy that the worker has begun. They
/// count as everybody's do from then on, and are the first to give way.
pub(super) const WORKER_CLIENTS_MAX: usize = 16;

/// Unsent bytes of all clients together. Beyond that, the client that has taken nothing for longest is dropped.
const OUTPUT_TOTAL_MAX: usize = 16 * 1024 * 1024;

/// The part of a limit on the master's memory that unsent bytes may take. A queue that grows is copied, so it takes three
/// times as much for a moment.
const OUTPUT_MEMORY_PART: u64 = 16;

/// What the kernel keeps for a client that does not read counts as the master's memory too, 212 KiB for each by default. Where
/// memory is limited, all clients together get as much as may be unsent, but each at least this.
const KERNEL_BYTES_MIN: usize = 8 * 1024;

/// A client is dropped if an event or a reply would leave more than this unsent.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// Unsent bytes above which a client is not read from, and misses progress.
const OUTPUT_BYTES_FULL: usize = 256 * 1024;

/// As long as most replies are.
const LINE_BYTES: usize = 512;

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
    Connected(#[serde(with = "forms::written")] Option<Pid>),
    /// The worker that got this connection from us (`-g`), or its descendants.
    Worker(#[serde(with = "forms::written")] Pid),
}

#[derive(Debug, Serialize, Deserialize)]
struct Client {
    id: ClientId,
    #[serde(rename = "fd")]
    stream: Kept<UnixStream>,
    peer: Peer,
    /// When it was accepted; at the latest, when an older master left it.
    #[serde(default = "SinceBoot::now")]
    since: SinceBoot,
    #[serde(with = "forms::written")]
    input: LineBuffer,
    #[serde(with = "forms::written")]
    output: VecDeque<u8>,
    /// It has closed its sending side.
    has_ended: bool,
    /// It is closed once its queued replies are sent.
    is_leaving: bool,
    /// Nothing can be sent to it any more. Its requests still count: a worker that acks and closes, or dies,
    /// has acked.
    is_deaf: bool,
    /// The connection is broken.
    #[serde(skip)]
    is_broken: bool,
    /// Set if it follows events.
    follows: Option<Follower>,
    /// The worker whose it is, or of whose descendant, if it does not count against [`CLIENTS_MAX`].
    #[serde(default, with = "forms::written")]
    of_worker: Option<Pid>,
    /// Its user, if that may ask questions only. A state of an older master has no observers.
    #[serde(default)]
    observer: Option<u32>,
    /// It is known whether a worker's descendant made it.
    #[serde(skip)]
    is_placed: bool,
    /// It was a worker's, or of its descendant, and that is gone.
    #[serde(default)]
    has_outlived: bool,
    /// Its first line was read, or it had sent none.
    #[serde(skip)]
    was_read: bool,
    /// When it was last heard, as a number that grows with each line and each new client.
    #[serde(skip)]
    heard: u64,
    /// Epoll tells when it takes more. One that takes all is not waited for, or each line that it reads would wake us up.
    #[serde(skip)]
    is_awaited: bool,
    /// Since when it has taken none of what waits for it.
    #[serde(skip, default = "Instant::now")]
    stuck_since: Instant,
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
    /// It brings descriptors, for which there is no room yet.
    NoRoom,
}

/// All control clients.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Clients {
    #[serde(with = "values")]
    clients: BTreeMap<ClientId, Client>,
    next: usize,
    /// Clients with something to send, or whose end must be checked.
    #[serde(skip)]
    dirty: BTreeSet<ClientId>,
    #[serde(skip)]
    followers: BTreeSet<ClientId>,
    /// Unsent bytes of all clients, and how many there may be.
    #[serde(skip)]
    unsent: usize,
    #[serde(skip, default = "unsent_max")]
    unsent_max: usize,
    /// Grows with each line and each new client.
    #[serde(skip)]
    lines: u64,
    /// Those of which the log does not know yet.
    #[serde(skip)]
    dropped: Vec<Dropped>,
    /// Set while accepting is paused: the end of the pause, and the length of the next one.
    #[serde(skip)]
    pause: Option<(Instant, Duration)>,
}

impl Keyed<ClientId> for Client {
    fn key(&self) -> ClientId {
        self.id
    }
}

impl Written for LineBuffer {
    type As = Bytes;

    fn write(&self) -> Result<Bytes, String> {
        Ok(self.rest().into())
    }

    fn read(written: Bytes) -> Result<Self, String> {
        let mut buffer = Self::default();
        buffer.push(&written.into_vec());
        Ok(buffer)
    }
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            clients: BTreeMap::new(),
            next: 0,
            dirty: BTreeSet::new(),
            followers: BTreeSet::new(),
            unsent: 0,
            unsent_max: unsent_max(),
            lines: 0,
            dropped: Vec::new(),
            pause: None,
        }
    }
}

/// How many bytes may be unsent, with the memory that the master may have.
fn unsent_max() -> usize {
    let of_memory = memory_max().map(|max| usize::try_from(max / OUTPUT_MEMORY_PART).unwrap_or(usize::MAX));
    of_memory.map_or(OUTPUT_TOTAL_MAX, |part| part.min(OUTPUT_TOTAL_MAX))
}

impl Clients {
    /// Accepts one client; `None` if none is waiting. With `has_observers`, it is an observer unless it is the owner's or root's.
    ///
    /// # Errors
    /// The error of `accept4(2)`, usually that no descriptor is left. Accepting then pauses until
    /// [`Self::accept_again_at`], because the queue raises no new event for clients that wait already.
    pub(super) fn accept(
        &mut self,
        registry: &Registry,
        listener: &UnixListener,
        has_observers: bool,
    ) -> io::Result<Option<ClientId>> {
        let accepted = loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    let peer = Peer::Connected(peer::credentials(&stream).ok().map(|found| found.pid));
                    let observer = if has_observers { observers::observer(&stream) } else { None };
                    break self.insert(registry, stream, peer, observer).map(Some);
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
        let _ = self.insert(registry, UnixStream::from_std(stream), Peer::Worker(worker), None);
    }

    fn insert(
        &mut self,
        registry: &Registry,
        mut stream: UnixStream,
        peer: Peer,
        observer: Option<u32>,
    ) -> io::Result<ClientId> {
        let id = ClientId(self.next);
        register(registry, id, &mut stream)?;
        if self.unsent_max < OUTPUT_TOTAL_MAX {
            let bytes = (self.unsent_max / (CLIENTS_MAX + OBSERVERS_MAX)).max(KERNEL_BYTES_MIN);
            // The kernel keeps more if that fails, which it does for no socket.
            let _ = setsockopt(&stream, sockopt::SndBuf, &bytes);
        }
        self.next += 1;
        self.lines += 1;
        self.clients.insert(id, Client { heard: self.lines, observer, ..Client::new(id, stream, peer) });
        Ok(id)
    }

    /// Registers all of them with epoll. Those of an earlier image may have something to send.
    pub(super) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        self.dirty.extend(self.clients.keys());
        self.unsent = self.clients.values().map(|client| client.output.len()).sum();
        let following = self.clients.values().filter(|client| client.follows.is_some());
        self.followers.extend(following.map(|client| client.id));
        self.clients.iter_mut().try_for_each(|(id, client)| register(registry, *id, &mut client.stream))
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ClientId> {
        self.clients.keys().copied()
    }

    /// Notes that `id` comes from a worker, or a descendant of it. Beyond [`WORKER_CLIENTS_MAX`], the one of its connections
    /// that was silent for longest is closed; an ack that waits in it is read first.
    pub(super) fn belongs_to(&mut self, id: ClientId, worker: Pid) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.of_worker = Some(worker);
        let is_its = |client: &&Client| client.of_worker == Some(worker) && client.is_staying();
        let its = || self.clients.values().filter(is_its);
        let surplus = its().count().saturating_sub(WORKER_CLIENTS_MAX);
        let mut read: Vec<_> =
            its().filter(|client| client.was_read).map(|client| (client.heard, client.id)).collect();
        read.sort_unstable();
        read.into_iter().take(surplus).for_each(|(_, silent)| self.drop_client(silent, Why::Surplus(worker)));
    }

    /// The clients that count against [`CLIENTS_MAX`], and of which it is not known whether a worker's descendant made them; it
    /// is by now.
    pub(super) fn take_unplaced(&mut self) -> Vec<ClientId> {
        let is_among = |client: &Client| client.counts(Quota::Clients) && !client.is_placed;
        let unplaced = self.clients.values_mut().filter(|client| is_among(client));
        unplaced
            .map(|client| {
                client.is_placed = true;
                client.id
            })
            .collect()
    }

    /// Whether `id` was made by the owner of the master, or root.
    pub(super) fn is_owners(&self, id: ClientId) -> bool {
        self.clients.get(&id).is_some_and(|client| observers::is_owner(&*client.stream))
    }

    /// The user of an observer; `None` if `id` is none.
    pub(super) fn observer(&self, id: ClientId) -> Option<u32> {
        self.clients.get(&id)?.observer
    }

    pub(super) fn peer(&self, id: ClientId) -> Option<Peer> {
        self.clients.get(&id).map(|client| client.peer)
    }

    /// The process that made the connection; `None` if that is nobody's any more, or was made for a worker.
    pub(super) fn sender(&self, id: ClientId) -> Option<Sender> {
        let client = self.clients.get(&id)?;
        let Peer::Connected(Some(_)) = client.peer else { return None };
        Sender::of_connection(&*client.stream, client.since).ok()
    }

    /// Who made the connection, for the history of rollouts.
    pub(super) fn requester(&self, id: ClientId) -> Requester {
        let client = self.clients.get(&id);
        client.map_or_else(Requester::default, |client| peer::requester(&*client.stream, client.since))
    }

    /// The next line of `id`; reads at most once.
    pub(super) fn next_input(&mut self, id: ClientId) -> Input {
        let Some(client) = self.clients.get_mut(&id).filter(|client| client.is_listened_to()) else {
            return Input::Nothing;
        };
        loop {
            match client.input.next_line() {
                Ok(Some(line)) => {
                    self.lines += 1;
                    (client.heard, client.was_read) = (self.lines, true);
                    return Input::Line(line);
                }
                Ok(None) => {}
                Err(error) => return Input::TooLong(error),
            }
            if client.has_ended {
                let rest = client.input.take_rest();
                self.dirty.insert(id);
                return rest.map_or(Input::Nothing, Input::Line);
            }
            let mut buffer = [0; READ_BYTES];
            match receive(&client.stream, &mut buffer) {
                Ok(Received::Message(Message { bytes: 0, .. })) => client.has_ended = true,
                Ok(Received::Message(message)) => client.input.push(&buffer[..message.bytes]),
                Ok(Received::Nothing) => {
                    client.was_read = true;
                    return Input::Nothing;
                }
                Ok(Received::NoRoom) => return Input::NoRoom,
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
        if client.output.len() > OUTPUT_BYTES_MAX {
            // It may have read, and nobody has looked since.
            self.unsent -= client.flush();
        }
        if client.output.len() > OUTPUT_BYTES_MAX {
            let why = Why::Deaf(client.output.len());
            self.drop_client(id, why);
        } else if !client.is_deaf && !client.is_broken {
            if client.output.is_empty() {
                client.stuck_since = Instant::now();
            }
            let mut line = Vec::with_capacity(LINE_BYTES);
            reply.write_in(language, &mut line);
            self.unsent += line.len();
            client.output.extend(line);
        }
        self.dirty.insert(id);
        if self.unsent > self.unsent_max {
            self.shed();
        }
    }

    /// Drops clients until no more is unsent than may be: observers first, and then those that have taken nothing for longest.
    /// Others may have read, and nobody has looked since.
    fn shed(&mut self) {
        self.unsent -= self.clients.values_mut().map(Client::flush).sum::<usize>();
        while self.unsent > self.unsent_max {
            let stuck = self.clients.values().filter(|client| !client.output.is_empty());
            let first = stuck.min_by_key(|client| (client.observer.is_none(), client.stuck_since));
            let Some(id) = first.map(|client| client.id) else { return };
            self.drop_client(id, Why::Deafest(self.unsent));
        }
    }

    /// Drops a client, with what waits for it.
    fn drop_client(&mut self, id: ClientId, why: Why) {
        self.note_dropped(id, why);
        if let Some(client) = self.clients.get_mut(&id) {
            self.unsent -= client.forget_output();
            self.close(id);
        }
    }

    /// Notes, for the log, that a client is dropped.
    pub(super) fn note_dropped(&mut self, id: ClientId, why: Why) {
        if let Some(client) = self.clients.get(&id) {
            let user = peer::user(&*client.stream).ok();
            self.dropped.push(Dropped { peer: client.peer, user, why });
        }
    }

    /// Those that were dropped since the last call.
    pub(super) fn take_dropped(&mut self) -> Vec<Dropped> {
        std::mem::take(&mut self.dropped)
    }

    /// Whether `id` reads what it is sent.
    pub(super) fn keeps_up(&mut self, id: ClientId) -> bool {
        let Some(client) = self.clients.get_mut(&id) else { return false };
        if client.is_full() {
            self.unsent -= client.flush();
        }
        !client.is_full()
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
            client.is_deaf = true;
            self.unsent -= client.forget_output();
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

    /// The connection that was created for the worker `pid`, and those that it or its descendants made.
    pub(super) fn of_process(&self, pid: Pid) -> Vec<ClientId> {
        let of_it = [Peer::Worker(pid), Peer::Connected(Some(pid))];
        let is_its = |client: &&Client| of_it.contains(&client.peer) || client.of_worker == Some(pid);
        self.clients.values().filter(is_its).map(|client| client.id).collect()
    }

    /// A process of `id` is gone, and its pid may be reused: a connection that was created for it is closed, and one
    /// that it made, and perhaps passed on, speaks for no worker any more.
    pub(super) fn disown(&mut self, id: ClientId, gone: Pid) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.of_worker == Some(gone) {
            (client.of_worker, client.has_outlived) = (None, true);
        }
        match client.peer {
            Peer::Worker(_) => self.close(id),
            Peer::Connected(Some(pid)) if pid == gone => client.peer = Peer::Connected(None),
            Peer::Connected(_) => {}
        }
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

    pub(super) fn has_unsent(&self) -> bool {
        self.unsent > 0
    }

    pub(super) fn next_dirty(&mut self) -> Option<ClientId> {
        self.dirty.pop_first()
    }

    /// Sends what `id` takes. Returns whether it was full before and is not any more; it may then have unread
    /// requests.
    pub(super) fn flush(&mut self, id: ClientId) -> bool {
        let Some(client) = self.clients.get_mut(&id) else { return false };
        let was_full = client.is_full();
        let sent = client.flush();
        self.unsent -= sent;
        if sent > 0 && client.output.is_empty() {
            // It may have waited for no more than this.
            self.dirty.insert(id);
        }
        was_full && !client.is_full()
    }

    /// Has epoll tell when `id` takes more, if something is left for it. Call it after each [`Self::flush`] that is the last one
    /// for now.
    pub(super) fn await_room(&mut self, registry: &Registry, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let is_behind = !client.output.is_empty();
        if client.is_awaited == is_behind {
            return;
        }
        let room = is_behind.then_some(Interest::WRITABLE);
        let interests = room.map_or(Interest::READABLE, |room| Interest::READABLE | room);
        match registry.reregister(&mut *client.stream, Token(CLIENTS + id.0), interests) {
            Ok(()) => client.is_awaited = is_behind,
            // It would hear no more.
            Err(_) => self.close(id),
        }
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
        self.unsent -= self.clients.remove(&id).map_or(0, |client| client.output.len());
        self.followers.remove(&id);
        if let Some((at, _)) = &mut self.pause {
            *at = Instant::now();
        }
    }
}

fn register(registry: &Registry, id: ClientId, stream: &mut UnixStream) -> io::Result<()> {
    registry.register(stream, Token(CLIENTS + id.0), Interest::READABLE)
}

impl Client {
    fn new(id: ClientId, stream: UnixStream, peer: Peer) -> Self {
        Self {
            id,
            stream: Kept::Open(stream),
            peer,
            since: SinceBoot::now(),
            input: LineBuffer::default(),
            output: VecDeque::new(),
            has_ended: false,
            is_leaving: false,
            is_deaf: false,
            is_broken: false,
            follows: None,
            of_worker: None,
            observer: None,
            is_placed: false,
            has_outlived: false,
            was_read: false,
            heard: 0,
            is_awaited: false,
            stuck_since: Instant::now(),
        }
    }

    /// Sends what it takes. Returns how many bytes fewer wait.
    fn flush(&mut self) -> usize {
        let before = self.output.len();
        while !self.output.is_empty() {
            match self.stream.write(self.output.as_slices().0) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.is_deaf = true;
                    self.forget_output();
                }
            }
        }
        if self.output.is_empty() {
            // One long reply must not keep its memory for as long as the client stays.
            self.output.shrink_to(READ_BYTES);
        } else if self.output.len() < before {
            self.stuck_since = Instant::now();
        }
        before - self.output.len()
    }

    /// Returns how many bytes that were.
    fn forget_output(&mut self) -> usize {
        std::mem::take(&mut self.output).len()
    }

    /// Whether it is not on its way out.
    fn is_staying(&self) -> bool {
        !self.is_broken && !self.is_leaving
    }

    fn is_full(&self) -> bool {
        self.output.len() > OUTPUT_BYTES_FULL
    }

    fn is_listened_to(&self) -> bool {
        !self.is_broken && !self.is_leaving && !self.is_full()
    }
}
