//! A worker with one thread: while it answers a client, the others wait, in the queue of its listener or on their connections.

use std::collections::HashMap;
use std::io;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use tests::stream::Stream;

use crate::http::{self, AfterAnswer, Service};
use crate::knobs::Single;
use crate::listeners::Listener;

/// The token of the request to stop. Listeners have their numbers, connections the tokens above.
const STOP: u64 = 1 << 16;

/// The number of events that one call takes.
const EVENTS: usize = 64;

/// A connection, what was read of its next request, and the number of its listener.
struct Connection {
    stream: Stream,
    unread: Vec<u8>,
    listener: usize,
}

/// Serves until the worker is asked to stop.
pub(crate) fn run(service: &Service, listeners: &[Listener], single: Single) -> io::Result<()> {
    let ready = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&ready, &service.stop, EventData::new_u64(STOP), EventFlags::IN)?;
    for (number, listener) in listeners.iter().enumerate() {
        listener.set_nonblocking()?;
        // A connection wakes one of the workers that share the listener.
        let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
        epoll::add(&ready, listener, EventData::new_u64(number as u64), flags)?;
    }
    let mut connections = HashMap::new();
    let mut next = STOP + 1;
    let mut events = Vec::with_capacity(EVENTS);
    while !service.stop.is_asked() {
        events.clear();
        match epoll::wait(&ready, rustix::buffer::spare_capacity(&mut events), None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        for event in &events {
            let token = event.data.u64();
            if let Some(Listener::Tcp(listener)) = listeners.get(token as usize) {
                // Another worker may have taken it.
                let Ok((stream, _)) = listener.accept() else { continue };
                let (stream, listener) = (Stream::Tcp(stream), token as usize);
                if single == Single::Connection {
                    // The client may have gone; the next one is served all the same.
                    let _ = http::serve(service, &stream, listener);
                } else {
                    stream.set_nonblocking(false)?;
                    stream.set_nodelay()?;
                    epoll::add(&ready, &stream, EventData::new_u64(next), EventFlags::IN)?;
                    connections.insert(next, Connection { stream, unread: Vec::new(), listener });
                    next += 1;
                }
            } else if let Some(Connection { stream, unread, listener }) = connections.get_mut(&token)
                && !matches!(http::answer_next(service, stream, unread, *listener), Ok(AfterAnswer::Keep))
            {
                // Its end takes it out of epoll.
                connections.remove(&token);
            }
        }
    }
    Ok(())
}
