//! No source of events keeps the master from the others: under each flood it reaps, respawns, upgrades, and stops in time.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::{Gate, Master, wait};

tests::trials! {
    clients_that_connect_without_pause,
    clients_that_ask_without_pause,
    messages_to_the_notify_socket_without_pause,
    messages_that_have_piled_up_are_read_in_parts needs "root" "network namespace" "strace",
    workers_that_write_without_pause,
    a_worker_that_shuts_its_listener_down_without_pause,
    a_worker_that_acks_behind_a_full_queue_and_ends_has_acked,
}

/// How long a death or a signal may wait. The master needs milliseconds; the machine is as busy as the flood makes it.
const LIMIT: Duration = Duration::from_secs(6);

/// Threads that do something again and again until this is dropped.
struct Flood {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn of(threads: usize, flood: impl Fn(&AtomicBool) + Clone + Send + 'static) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let threads = (0..threads).map(|_| {
            let (flood, is_over) = (flood.clone(), Arc::clone(&is_over));
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    flood(&is_over);
                }
            })
        });
        let threads = threads.collect();
        Self { is_over, threads }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The workers, as the processes show it: whoever asked the master would have to wait.
fn workers(master: &Master) -> Vec<i32> {
    master.process().children().iter().map(tests::Process::pid).collect()
}

#[track_caller]
fn within_limit(master: &Master, what: &str, condition: impl Fn(&[i32]) -> bool) {
    let found = wait::within(LIMIT, || condition(&workers(master)).then_some(()));
    assert!(found.is_some(), "{what}: not within {LIMIT:?}\n{master}");
}

/// Asserts that a master of two workers replaces the first when it dies.
#[track_caller]
fn assert_respawns(master: &Master) {
    let dead = master.process().children()[0];
    assert!(dead.signal(Signal::SIGKILL));
    within_limit(master, "a successor", |now| now.len() == 2 && !now.contains(&dead.pid()));
}

#[track_caller]
fn assert_upgrades(master: &Master) {
    let old = workers(master);
    master.signal(Signal::SIGHUP);
    within_limit(master, "an upgrade", |now| now.len() == 2 && old.iter().all(|pid| !now.contains(pid)));
}

#[track_caller]
fn assert_stops(mut master: Master) {
    let since = Instant::now();
    master.signal(Signal::SIGTERM);
    let _ = master.wait_exit();
    assert!(since.elapsed() < LIMIT, "stopped after {:?}\n{master}", since.elapsed());
}

fn pool() -> tests::MasterBuilder {
    Master::builder().workers(2).options(["-s", "0.01"])
}

fn clients_that_connect_without_pause() {
    let master = pool().serve(["ack=notify"]).start();
    let socket = master.socket().to_owned();
    let _flood = Flood::of(4, move |_| drop(UnixStream::connect(&socket)));
    assert_respawns(&master);
    assert_upgrades(&master);
    assert_stops(master);
}

/// The answers are read, too: a client that does not read them is not read from.
fn clients_that_ask_without_pause() {
    let master = pool().serve(["ack=notify"]).start();
    let socket = master.socket().to_owned();
    let _flood = Flood::of(3, move |is_over| ask(&socket, is_over));
    assert_respawns(&master);
    assert_upgrades(&master);
    assert_stops(master);
}

fn ask(socket: &Path, is_over: &AtomicBool) {
    let Ok(mut stream) = UnixStream::connect(socket) else { return };
    let Ok(mut replies) = stream.try_clone() else { return };
    let reader = thread::spawn(move || while replies.read(&mut [0; 65536]).is_ok_and(|count| count > 0) {});
    let requests = b"{\"command\":\"status\"}\n".repeat(1000);
    while !is_over.load(Ordering::Relaxed) && stream.write_all(&requests).is_ok() {}
    let _ = stream.shutdown(std::net::Shutdown::Both);
    let _ = reader.join();
}

fn messages_to_the_notify_socket_without_pause() {
    let master = pool().serve(["ack=control"]).start();
    let path = master.socket().with_extension("sock.notify");
    // The queue has room for ten messages, and must not run empty.
    let _flood = Flood::of(16, move |is_over| {
        let sender = UnixDatagram::unbound().expect("a socket");
        while !is_over.load(Ordering::Relaxed) && sender.send_to(b"STATUS=flood", &path).is_ok() {}
    });
    assert_respawns(&master);
    assert_upgrades(&master);
    assert_stops(master);
}

/// The queue of a socket has room for ten messages, so a flood finds it empty now and then. Here it has room for all that senders
/// have memory for, and it is filled while the master is stopped.
fn messages_that_have_piled_up_are_read_in_parts() {
    let builder = pool();
    let trace = builder.file("trace");
    let queue = "echo 100000 >/proc/sys/net/unix/max_dgram_qlen && exec \"$@\"";
    let builder = builder.under(["unshare", "--net", "sh", "-c", queue, "sh"]);
    let calls = "trace=recvmsg,/epoll_p?wait";
    let builder = builder.under(["strace", "-D", "-qq", "-e", calls, "-o"]).under([&trace]);
    let mut master = builder.serve(["ack=control"]).start();
    let path = master.socket().with_extension("sock.notify");
    master.signal(Signal::SIGSTOP);
    master.wait("the master to stop", |master| master.process().is_stopped().then_some(()));
    let senders: Vec<_> = (0..100).map(|_| UnixDatagram::unbound().expect("a socket")).collect();
    let sent = senders.iter().map(|sender| {
        sender.set_nonblocking(true).expect("a socket that does not block");
        std::iter::from_fn(|| sender.send_to(b"STATUS=flood", &path).ok()).take(200).count()
    });
    let sent: usize = sent.sum();
    assert!(sent > 10_000, "{sent} messages found room\n{master}");
    master.signal(Signal::SIGCONT);
    assert_respawns(&master);
    let mut longest = 0;
    master.wait("all messages to be read", |_| {
        let text = std::fs::read_to_string(&trace).unwrap_or_default();
        let rounds = text.split("epoll_").map(|round| round.matches("recvmsg(").count());
        longest = rounds.clone().max().unwrap_or(0);
        (rounds.sum::<usize>() >= sent).then_some(())
    });
    assert!(longest <= 2_000, "{longest} of {sent} messages in one round\n{master}");
    assert_stops(master);
}

fn workers_that_write_without_pause() {
    let builder = pool().option("--capture-startup").timer_acks(0.05).stderr(Stdio::null());
    let master = builder.program(["/bin/sh", "-c", "exec yes >&2"]).start();
    assert_respawns(&master);
    assert_upgrades(&master);
    assert_stops(master);
}

fn a_worker_that_shuts_its_listener_down_without_pause() {
    let builder = pool().without_bind().options(["-b", "127.0.0.1:0,reuseport"]);
    let master = builder.serve(["ack=notify", "shutdown"]).start();
    let worker = master.process().children()[1];
    let _flood = Flood::of(2, move |_| {
        worker.signal(Signal::SIGHUP);
    });
    // An upgrade would fail, and rightly: the new worker of its slot finds a socket that does not listen.
    assert_respawns(&master);
    assert_stops(master);
}

/// More clients wait in front of it than are accepted in a round.
fn a_worker_that_acks_behind_a_full_queue_and_ends_has_acked() {
    let builder = Master::builder().options(["-s", "60"]);
    let mut gate = Gate::closed(builder.file("gate"));
    let mut master = builder.serve(["ack=control", "exit_after_ms=0", &gate.knob()]).start_unready();
    let worker = master.status().workers[0].pid;
    master.signal(Signal::SIGSTOP);
    master.wait("a stopped master", |master| master.process().is_stopped().then_some(()));
    let clients: Vec<_> = (0..200).map(|_| master.control()).collect();
    gate.open();
    master.wait("its end", |master| (master.process().zombies() == 1).then_some(()));
    master.signal(Signal::SIGCONT);
    master.wait_log(&format!("worker {worker} "));
    master.wait("its exit in the log", |master| master.log().contains("exited with status 7").then_some(()));
    assert!(master.log().contains("acked after"), "{master}");
    drop(clients);
}
