//! The worker that the tests load, kill and replace: a small HTTP/1.1 server with knobs (`knobs.rs`).
//!
//! It stops as a good server does. It accepts no more, finishes what it has, tells each connection with its
//! next answer that there will be no other, and closes an idle one only when it stayed idle for a while: so
//! not one request is lost by its going, and one that is lost is the master's fault.

mod ack;
mod http;
mod knobs;
mod listeners;
mod single;
mod stop;

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use tests::stream::Stream;

use http::Service;
use knobs::Knobs;
use listeners::Listener;
use stop::Stop;

fn main() -> io::Result<()> {
    stop::block_signals()?;
    let knobs = Knobs::from_arguments(std::env::args().skip(1));
    let listeners = Arc::new(listeners::of(&knobs)?);
    let service: &'static Service = Box::leak(Box::new(service(&knobs)?));
    if knobs.park {
        stop::at(Signal::SIGUSR1, || service.stop.park())?;
    }
    if knobs.shutdown {
        let shared = Arc::downgrade(&listeners);
        stop::at(Signal::SIGHUP, move || {
            shared.upgrade().iter().flat_map(|listeners| listeners.iter()).for_each(Listener::shut_down);
            // A master that is being replaced is not this worker's affair.
            let _ = ack::status("shut down");
        })?;
    }
    service.stop.watch(knobs.ignore_stop);
    let held = boot(&knobs);
    if let Some(every) = knobs.ping {
        ack::ping(knobs.ack, every)?;
    }
    ack::ack(knobs.ack)?;
    ack::chatter(knobs.chatter)?;
    if let Some(time) = knobs.exit_after {
        thread::spawn(move || {
            thread::sleep(time);
            process::exit(7);
        });
    }
    if let Some(gate) = knobs.leave_gate.clone() {
        thread::spawn(move || {
            tests::gate::pass(&gate);
            service.stop.ask();
        });
    }
    if let Some(single) = knobs.single {
        return single::run(service, &listeners, single);
    }
    let open = accept(service, &listeners, knobs.greedy)?;
    let kept = service.stop.is_parked().then_some(listeners);
    open.wait_none();
    if service.stop.is_parked() {
        ack::status("parked")?;
        service.stop.wait_end();
    }
    drop((held, kept));
    if knobs.leave_gate.is_some() {
        process::exit(7);
    }
    Ok(())
}

/// Boots, and gives the memory that the worker is to hold.
fn boot(knobs: &Knobs) -> Vec<u8> {
    // Written to, and not with zeros, or the kernel would not give it.
    let held = vec![1; knobs.hold_mb << 20];
    thread::sleep(knobs.boot);
    tests::process::burn(knobs.burn);
    if let Some(gate) = &knobs.gate {
        tests::gate::pass(gate);
    }
    if let Some(status) = knobs.exit_before_ack {
        eprintln!("serve: asked to exit with {status} before its ack");
        process::exit(status);
    }
    if knobs.bad_slot.is_some() && knobs.bad_slot == variable("EINHORN_SLOT") {
        eprintln!("serve: this slot is bad");
        process::exit(3);
    }
    held
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn service(knobs: &Knobs) -> io::Result<Service> {
    let (generation, slot, index) =
        (variable("EINHORN_GENERATION"), variable("EINHORN_SLOT"), variable("EINHORN_CHILD_INDEX"));
    let pid = process::id();
    let is_slow = slot.is_some() && slot == knobs.slow_slot;
    let slow = if is_slow { knobs.slow } else { Duration::ZERO };
    let version =
        knobs.version.as_ref().map_or(String::new(), |version| format!(",\"version\":\"{version}\""));
    let json = |number: Option<u64>| number.map_or("null".to_owned(), |number| number.to_string());
    Ok(Service {
        stop: Stop::new()?,
        status: knobs.status,
        request: knobs.request + slow,
        request_burn: knobs.request_burn,
        request_gate: knobs.request_gate.clone(),
        linger: knobs.linger,
        worker: format!("{pid} {}", generation.unwrap_or(0)),
        facts: format!(
            "\"pid\":{pid},\"generation\":{},\"slot\":{},\"index\":{}{version}",
            json(generation),
            json(slot),
            json(index)
        ),
    })
}

/// Accepts until the worker was asked to stop, or to park; gives what is still open then.
fn accept(service: &'static Service, listeners: &[Listener], greedy: bool) -> io::Result<Arc<Open>> {
    for listener in listeners {
        // Another worker may take the connection first; to wait for the next one would be to miss the stop.
        listener.set_nonblocking()?;
    }
    let open = Arc::new(Open::default());
    let mut ready: Vec<PollFd> =
        listeners.iter().map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN)).collect();
    ready.push(PollFd::new(service.stop.as_fd(), PollFlags::POLLIN));
    while !service.stop.is_asked() {
        match poll(&mut ready, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            result => result?,
        };
        for (number, listener) in listeners.iter().enumerate() {
            if ready[number].any() != Some(true) {
                continue;
            }
            while !service.stop.is_asked() && accept_one(service, listener, number, &open)? && greedy {}
        }
    }
    Ok(open)
}

/// Takes a connection, or answers a packet with the facts that an answer over HTTP has. Whether there was one.
fn accept_one(
    service: &'static Service,
    listener: &Listener,
    number: usize,
    open: &Arc<Open>,
) -> io::Result<bool> {
    let accepted = match listener {
        Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Some(Stream::Tcp(stream))),
        Listener::Unix(listener) => listener.accept().map(|(stream, _)| Some(Stream::Unix(stream))),
        Listener::Udp(socket) => answer_packet(service, socket).map(|()| None),
    };
    let stream = match accepted {
        Ok(Some(stream)) => stream,
        Ok(None) => return Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            return Ok(false);
        }
        // Shut down by whoever shares it; it is the master's to make it listen again.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(false),
        Err(error) => return Err(error),
    };
    open.add();
    let open = Arc::clone(open);
    thread::Builder::new().stack_size(128 * 1024).spawn(move || {
        // A client that goes away is its own affair.
        let _ = http::serve(service, &stream, number);
        open.remove();
    })?;
    Ok(true)
}

fn answer_packet(service: &Service, socket: &UdpSocket) -> io::Result<()> {
    let (_, sender) = socket.recv_from(&mut [0; 2048])?;
    socket.send_to(format!("{{{}}}", service.facts).as_bytes(), sender)?;
    Ok(())
}

/// How many connections are open.
#[derive(Debug, Default)]
struct Open {
    count: Mutex<usize>,
    fell: Condvar,
}

impl Open {
    fn add(&self) {
        *self.count.lock().expect("no thread panics with the lock") += 1;
    }

    fn remove(&self) {
        *self.count.lock().expect("no thread panics with the lock") -= 1;
        self.fell.notify_all();
    }

    fn wait_none(&self) {
        let count = self.count.lock().expect("no thread panics with the lock");
        drop(self.fell.wait_while(count, |count| *count > 0));
    }
}
