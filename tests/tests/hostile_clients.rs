//! Nothing that a client of the control socket does hurts the master, its workers or the other clients.

use std::io::{ErrorKind, IoSlice, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use einhorn_proto::{WorkerState, WorkerStatus};
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};
use tests::{Cgroup, Control, Gate, Master, Process, binaries, wait};

tests::trials! {
    each_bad_request_gets_one_reply_that_names_it,
    a_word_that_nobody_knows_is_not_repeated_in_full,
    a_line_of_a_megabyte_is_refused_with_the_limit,
    the_longest_line_that_is_allowed_is_read,
    a_request_in_single_bytes_is_read,
    a_client_that_has_said_all_still_gets_its_answers,
    a_client_that_has_said_all_still_sees_its_upgrade_end,
    of_300_idle_clients_256_are_kept_and_the_others_told,
    an_id_of_a_kilobyte_is_refused,
    of_256_idle_clients_the_oldest_gives_way,
    a_worker_that_leaks_connections_keeps_nobody_out,
    connections_of_a_workers_child_take_nobodys_place,
    connections_that_outlive_their_workers_give_way,
    deaf_followers_are_dropped_before_a_small_memory_is_full,
    clients_that_do_not_read_are_bounded_in_a_small_cgroup needs "memory limit",
    workers_ack_while_every_place_is_taken_by_idle_clients,
    a_client_that_asks_and_does_not_read_costs_nobody_anything,
    a_client_that_is_refused_behind_an_unread_reply_sees_its_end,
    a_follower_of_events_that_never_reads_is_dropped,
    clients_that_come_and_go_leave_nothing_behind,
    an_ack_for_a_stranger_is_refused,
    an_ack_by_a_stranger_is_refused,
    an_ack_for_another_worker_is_refused,
    an_ack_by_a_workers_child_is_taken,
    garbage_to_the_notify_socket_is_ignored,
    a_socket_that_lingers_does_not_make_the_master_wait,
    only_the_owner_may_speak_to_the_master,
    a_frozen_master_is_told_from_a_working_one,
}

/// Clients that a master keeps at a time.
const CLIENTS_MAX: usize = 256;

/// A pool whose workers never ack by themselves.
fn silent() -> (Master, WorkerStatus) {
    let mut master = Master::builder().serve(["ack=none"]).start_unready();
    let worker = master.wait_worker("a starting worker", |worker| worker.state == WorkerState::Starting);
    (master, worker)
}

fn is_starting(master: &mut Master, pid: i32) -> bool {
    let workers = master.status().workers;
    workers.iter().any(|worker| worker.pid == pid && worker.state == WorkerState::Starting)
}

/// One reply, refused, and the connection serves on.
#[track_caller]
fn refused_with(control: &mut Control, line: &[u8], word: &str) {
    control.send_bytes(line);
    control.send_bytes(b"\n");
    let reply = control.reply();
    assert_eq!((reply.ok, reply.wait), (Some(false), false), "{reply:?}");
    assert!(reply.message.contains(word), "no {word:?} in {reply:?}");
    control.status();
}

fn each_bad_request_gets_one_reply_that_names_it() {
    let mut master = Master::builder().start();
    let mut control = master.control();
    for (line, word) in [
        (&b"{\"command\":\"\xff\xfe\"}"[..], "parse"),
        (b"{\xff\xfe\xfd", "parse"),
        (b"{", "parse"),
        (b"[\0\0\0", "parse"),
        (b"[]", "object"),
        (b"{}", "command"),
        (b"{\"command\":7}", "command"),
        (b"{\"command\":\"frobnicate\"}", "frobnicate"),
        (b"{\"command\":\"set_workers\"}", "count"),
        (b"{\"command\":\"set_workers\",\"count\":0}", "count"),
        (b"{\"command\":\"set_workers\",\"count\":1000000}", "count"),
        (b"{\"command\":\"inc\",\"args\":[\"x\"]}", "by"),
        (b"{\"command\":\"signal\",\"args\":[\"NOPE\"]}", "NOPE"),
        (b"{\"command\":\"die\",\"signal\":\"NOPE\"}", "NOPE"),
        (b"{\"command\":\"status\",\"id\":[1]}", "id"),
    ] {
        refused_with(&mut control, line, word);
    }
    master.assert_well(1);
}

fn a_word_that_nobody_knows_is_not_repeated_in_full() {
    let master = Master::builder().start();
    let mut control = master.control();
    let word = "x".repeat(30_000);
    for line in [
        format!(r#"{{"command":"{word}"}}"#),
        format!(r#"{{"command":"config","{word}":1}}"#),
        format!(r#"{{"command":"signal","args":["{word}"]}}"#),
        format!(r#"{{"command":"status","{word}":1,"{word}":1}}"#),
    ] {
        control.send(&line);
        let reply = control.line().expect("a reply");
        assert!(
            reply.to_lowercase().contains("xxx") && reply.len() < 2048,
            "{} bytes: {:.200}",
            reply.len(),
            reply
        );
    }
}

fn a_line_of_a_megabyte_is_refused_with_the_limit() {
    let mut master = Master::builder().start();
    for end in [&b""[..], b"\n"] {
        let mut control = master.control();
        // The master may hang up before it has all of it.
        let _ = control.try_send_bytes(&[&vec![b'x'; 1 << 20], end].concat());
        let answer = control.read_to_end();
        assert!(answer.contains("65536"), "{answer:?}");
        assert_eq!(answer.lines().count(), 1, "{answer:?}");
    }
    master.assert_well(1);
}

fn the_longest_line_that_is_allowed_is_read() {
    let master = Master::builder().start();
    let mut control = master.control();
    let padding = "x".repeat(einhorn_proto::LINE_BYTES_MAX - r#"{"command":"ehlo","user":""}"#.len());
    control.send(&format!(r#"{{"command":"ehlo","user":"{padding}"}}"#));
    assert_eq!(control.reply().ok, Some(true));
}

fn a_request_in_single_bytes_is_read() {
    let master = Master::builder().start();
    let mut control = master.control();
    for byte in b"{\"command\":\"version\"}\r\n" {
        control.send_bytes(&[*byte]);
    }
    assert_eq!(control.reply().ok, Some(true));
}

fn a_client_that_has_said_all_still_gets_its_answers() {
    let master = Master::builder().start();
    let mut control = master.control();
    control.send(r#"{"command":"status","id":1}"#);
    // The last line lacks its newline.
    control.send_bytes(br#"{"command":"version","id":2}"#);
    control.finish_sending();
    assert_eq!(control.reply().request_id, Some(1.into()));
    assert_eq!(control.reply().request_id, Some(2.into()));
    assert_eq!(control.read_to_end(), "");
}

/// An upgrade takes a while; who asked for it may have nothing more to say.
fn a_client_that_has_said_all_still_sees_its_upgrade_end() {
    let mut master = Master::builder().serve(["boot_ms=100"]).start();
    let mut control = master.control();
    control.send(r#"{"command":"upgrade"}"#);
    control.finish_sending();
    let last = control.replies().pop().expect("a last reply");
    assert_eq!(last.ok, Some(true), "{last:?}");
    assert_eq!(control.read_to_end(), "");
    master.assert_well(1);
}

fn of_300_idle_clients_256_are_kept_and_the_others_told() {
    let mut master = Master::builder().start();
    let mut clients: Vec<_> = (0..300).map(|_| master.control()).collect();
    // Answered, so all of them are accepted.
    assert_eq!(clients[299].ask("version", &[]).ok, Some(true));
    let mut served = 1;
    for client in &mut clients[..299] {
        // One that is not kept may be closed already.
        let _ = client.try_send_bytes(b"{\"command\":\"version\"}\n");
        let reply = client.reply();
        if reply.ok == Some(true) {
            served += 1;
        } else {
            assert!(reply.message.contains("256"), "{reply:?}");
            assert_eq!(client.read_to_end(), "");
        }
    }
    assert_eq!(served, CLIENTS_MAX);
    drop(clients);
    master.wait("room for a client", |master| {
        let mut control = Control::try_connect(master.socket()).ok()?;
        control.try_send_bytes(b"{\"command\":\"version\"}\n").ok()?;
        (control.reply().ok == Some(true)).then_some(())
    });
    master.assert_well(1);
}

/// An id is kept with its request, and repeated in each line of its progress.
fn an_id_of_a_kilobyte_is_refused() {
    let mut master = Master::builder().start();
    let mut control = master.control();
    let request = |id: &str| format!(r#"{{"command":"events","id":"{id}"}}"#).into_bytes();
    refused_with(&mut control, &request(&"x".repeat(1024)), "longer than 256 bytes");
    refused_with(&mut control, &request(&"x".repeat(257)), "longer than 256 bytes");
    control.send_bytes(&[request(&"x".repeat(256)), b"\n".to_vec()].concat());
    assert!(control.reply().wait);
    master.assert_well(1);
}

fn of_256_idle_clients_the_oldest_gives_way() {
    let mut master = Master::builder().start();
    let mut clients: Vec<_> = (0..CLIENTS_MAX).map(|_| master.control()).collect();
    // Answered, so accepted; the second has been silent for longest.
    for client in clients.iter_mut().skip(1) {
        assert_eq!(client.ask("version", &[]).ok, Some(true));
    }
    assert_eq!(clients[0].ask("version", &[]).ok, Some(true));
    assert_eq!(master.control().ask("version", &[]).ok, Some(true));
    let farewell = clients[1].read_to_end();
    assert!(farewell.contains("closed: another one came"), "{farewell:?}");
    master.wait_log(&format!("control client dropped: process {} of user", std::process::id()));
    master.wait_log("was the idlest when one more than 256 clients came; hint: ");
    assert_eq!(clients[0].ask("version", &[]).ok, Some(true));
    // Followers give way to the owner of the master, too.
    let follow = |client: &mut Control| {
        client.send(r#"{"command":"events","id":1}"#);
        assert!(client.reply().wait);
    };
    clients[2..].iter_mut().for_each(follow);
    // One takes the free place, one that of the client that does not follow, and one that of a follower.
    let mut more = Vec::new();
    for _ in 0..3 {
        let mut client = master.control();
        assert_eq!(client.ask("version", &[]).ok, Some(true));
        follow(&mut client);
        more.push(client);
    }
    master.assert_well(1);
}

fn a_worker_that_leaks_connections_keeps_nobody_out() {
    const WORKERS: u32 = 2;
    let builder = Master::builder().workers(WORKERS).env("TINY_CONNECTIONS", "600");
    let mut master = builder.program([binaries::worker("tiny")]).start();
    let count = master.process().descriptors().len();
    assert!(count < 150, "{count} descriptors\n{master}");
    assert_eq!(master.control().ask("version", &[]).ok, Some(true));
    assert_eq!(master.ctl(["upgrade"]).code(), 0, "{master}");
    master.wait_up(WORKERS);
    master.wait_log("made one more than 16; hint: ");
}

/// A worker whose child, [`LEAKED`] times connected, keeps its connections.
const LEAKED: &str = "200";

fn connections_of_a_workers_child_take_nobodys_place() {
    let builder = Master::builder().env("TINY_CONNECTIONS", LEAKED);
    let gate = builder.file("gate");
    let script = format!(
        "until [ -e '{}' ]; do sleep 0.01; done; {}; exit 0",
        gate.display(),
        binaries::worker("tiny").display()
    );
    let mut master = builder.program(["/bin/sh", "-c", &script]).start_unready();
    let mut clients: Vec<_> = (0..CLIENTS_MAX - 6).map(|_| master.control()).collect();
    // Answered, so accepted. They have been silent for longer than those of the child.
    for client in &mut clients {
        assert_eq!(client.ask("version", &[]).ok, Some(true));
    }
    std::fs::write(gate, "").expect("a file");
    master.wait_up(1);
    clients.extend((0..4).map(|_| master.control()));
    assert!(clients.iter_mut().rev().all(|client| client.ask("version", &[]).ok == Some(true)), "{master}");
}

/// Each worker that dies leaves a child behind, with the 16 connections that it may have.
fn connections_that_outlive_their_workers_give_way() {
    const DEATHS: usize = 30;
    let script = format!("{}; exit 0", binaries::worker("tiny").display());
    let builder = Master::builder().env("TINY_CONNECTIONS", LEAKED).options(["-s", "0.01"]);
    let mut master = builder.program(["/bin/sh", "-c", &script]).start();
    let before = master.process().descriptors().len();
    let mut left = Vec::new();
    for _ in 0..DEATHS {
        let worker = master.workers_up()[0];
        left.extend(worker.children());
        assert!(worker.signal(Signal::SIGKILL));
        master.wait_status("a successor", |status| {
            status.master.up == 1 && status.workers.iter().all(|other| other.pid != worker.pid())
        });
    }
    let count = master.process().descriptors().len();
    assert_eq!(master.control().ask("version", &[]).ok, Some(true));
    for child in left {
        child.signal(Signal::SIGKILL);
    }
    assert!(count < before + CLIENTS_MAX + 16, "{count} descriptors, {before} before\n{master}");
}

/// Sixty times the megabyte that each may leave unread is more than there is.
fn deaf_followers_are_dropped_before_a_small_memory_is_full() {
    const MEMORY_KIB: u64 = 64 << 10;
    let limit = format!("ulimit -v {MEMORY_KIB}; exec \"$@\"");
    let builder = Master::builder().workers(2).under(["/bin/sh", "-c", &limit, "sh"]);
    let mut gate = Gate::new(builder.file("gate"));
    let knobs = ["ack=notify".into(), "chatter=10000".into(), gate.knob()];
    gate.close();
    let mut master = builder.serve(knobs).start_unready();
    let mut deaf: Vec<_> = (0..60).map(|_| master.control()).collect();
    for follower in &mut deaf {
        follower.send(r#"{"command":"events","id":1}"#);
        assert!(follower.reply().wait);
    }
    gate.open();
    // How much of it the kernel keeps for each, and how much is said in one line, varies.
    master.wait("a follower that is dropped", |master| {
        let state = master.control().ask("state", &[]).data.expect("the state");
        state["control"]["clients"].as_u64().is_some_and(|clients| clients < 60).then_some(())
    });
    master.wait_log("read nothing for longest when all clients together left ");
    master.assert_well(2);
}

/// What the kernel keeps for each of them counts as the master's: 250 times 212 KiB are more than there is.
fn clients_that_do_not_read_are_bounded_in_a_small_cgroup() {
    let group = Cgroup::with_memory("clients", 32);
    // `status` has the command, and each of these characters as six.
    let program = [binaries::worker("tiny").into_os_string(), "%".repeat(18_000).into()];
    let mut master = Master::builder().workers(2).under(group.enter()).program(program).start();
    let deaf: Vec<_> = (0..250)
        .map(|_| {
            let mut client = master.control();
            let _ = client.try_send_bytes(&b"{\"command\":\"status\"}\n".repeat(10));
            client
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(master.control().ask("version", &[]).ok, Some(true), "{master}");
    }
    drop(deaf);
    master.wait_up(2);
}

fn workers_ack_while_every_place_is_taken_by_idle_clients() {
    for ack in ["ack=notify", "ack=control"] {
        let mut master = Master::builder().options(["-s", "0.01"]).serve([ack]).start();
        let worker = master.workers_up()[0];
        let mut clients: Vec<_> = (0..CLIENTS_MAX).map(|_| master.control()).collect();
        // Answered, so accepted.
        for client in &mut clients {
            assert_eq!(client.ask("version", &[]).ok, Some(true));
        }
        worker.signal(Signal::SIGKILL);
        let first = &mut clients[0];
        wait::wait_for("a successor that is up", || {
            let status = first.status();
            (status.master.up == 1 && status.workers[0].pid != worker.pid()).then_some(())
        });
    }
}

/// A flood of requests whose answers nobody reads: the master stops taking them before the answers cost it
/// memory, and goes on when they are read after all.
fn a_client_that_asks_and_does_not_read_costs_nobody_anything() {
    /// Answered, these would make some fifty megabytes.
    const REQUESTS: usize = 50_000;
    const MEMORY_KIB_MAX: u64 = 16 << 10;
    let mut master = Master::builder().workers(2).start();
    let mut deaf = master.control();
    deaf.stream().set_nonblocking(true).expect("a socket option");
    let request = b"{\"command\":\"status\"}\n";
    let requests = request.repeat(REQUESTS);
    let (mut sent, mut has_slept) = (0, false);
    while sent < requests.len() {
        match (&mut deaf.stream()).write(&requests[sent..]) {
            Ok(count) => (sent, has_slept) = (sent + count, false),
            // It went to sleep over a full socket: it takes no more.
            Err(error) if error.kind() == ErrorKind::WouldBlock && has_slept => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                master.wait("it to sleep", |master| master.process().is_asleep().then_some(()));
                has_slept = true;
            }
            Err(error) => panic!("it has dropped the client: {error}\n{master}"),
        }
    }
    assert!(sent < requests.len(), "it took every request\n{master}");
    let peak = master.process().status("VmHWM").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    assert!(peak.is_some_and(|kib| kib < MEMORY_KIB_MAX), "{peak:?} KiB");
    master.assert_well(2);

    deaf.stream().set_nonblocking(false).expect("a socket option");
    for number in 0..sent / request.len() {
        assert!(deaf.line().is_some(), "no answer to request {number}\n{master}");
    }
}

/// A reply of 300 kB, more than fits into a socket, waits for it when it breaks the rules.
fn a_client_that_is_refused_behind_an_unread_reply_sees_its_end() {
    // `status` has the command, and each of these characters as six.
    let program = [binaries::worker("tiny").into_os_string(), "%".repeat(50_000).into()];
    let mut master = Master::builder().program(program).start();
    let mut deaf = master.control();
    deaf.send(r#"{"command":"status"}"#);
    // Answered after the other.
    master.status();
    // The master may stop reading before it has all of it.
    let _ = deaf.try_send_bytes(&vec![b'x'; 1 << 17]);
    master.status();
    let read = deaf.read_to_end();
    assert!(read.len() > 300_000 && read.contains("65536 bytes"), "{} bytes", read.len());
    master.status();
}

/// What is pushed to a client piles up without its asking.
fn a_follower_of_events_that_never_reads_is_dropped() {
    let builder = Master::builder().workers(2);
    let mut gate = Gate::new(builder.file("gate"));
    let knobs = ["ack=notify".into(), "chatter=3000".into(), gate.knob()];
    gate.close();
    let mut master = builder.serve(knobs).start_unready();
    let mut deaf = master.control();
    deaf.send(r#"{"command":"events"}"#);
    // Answered after the other, so that one follows by now.
    master.status();
    gate.open();
    master.assert_well(2);
    master.wait("the last chatter", |master| {
        let said =
            |worker: &WorkerStatus| worker.text.as_deref().is_some_and(|text| text.starts_with("2999"));
        master.status().workers.iter().all(said).then_some(())
    });
    let read = deaf.read_to_end().len();
    assert!(read < 2 << 20, "{read} bytes had piled up");
    let me = std::process::id();
    master.wait_log(&format!("control client dropped: process {me} of user"));
    master.wait_log("bytes unread; hint: a client must read what it asks for");
}

fn clients_that_come_and_go_leave_nothing_behind() {
    let mut master = Master::builder().start();
    let before = master.process().descriptors().len();
    for round in 0..1000 {
        let mut control = master.control();
        if round % 2 == 0 {
            // Half a request, never finished.
            let _ = control.try_send_bytes(b"{\"command\":\"stat");
        }
    }
    master.wait("the clients' descriptors to be closed", |master| {
        (master.process().descriptors().len() <= before).then_some(())
    });
    master.assert_well(1);
}

fn an_ack_for_a_stranger_is_refused() {
    let (mut master, worker) = silent();
    for pid in [1, std::process::id() as i32, i32::MAX] {
        let mut control = master.control();
        control.send(&format!(r#"{{"command":"worker:ack","pid":{pid}}}"#));
        assert_eq!(control.read_to_end(), "");
        master.wait_log(&pid.to_string());
    }
    assert!(is_starting(&mut master, worker.pid), "{master}");
}

fn an_ack_by_a_stranger_is_refused() {
    let (mut master, worker) = silent();
    let mut control = master.control();
    control.send(&format!(r#"{{"command":"worker:ack","pid":{}}}"#, worker.pid));
    assert_eq!(control.read_to_end(), "");
    // The log names who tried.
    master.wait_log(&std::process::id().to_string());
    assert!(is_starting(&mut master, worker.pid), "{master}");

    let socket = notify_socket(&worker);
    socket.send(b"READY=1").expect("room for a datagram");
    // Two lines that name this process: the second refusal.
    master.wait("the refusal in the log", |master| {
        let me = std::process::id().to_string();
        (master.log().lines().filter(|line| line.contains(&me)).count() >= 2).then_some(())
    });
    assert!(is_starting(&mut master, worker.pid), "{master}");
}

/// The connection that a worker was given is known to be its own.
fn an_ack_for_another_worker_is_refused() {
    let builder = Master::builder().workers(2).option("-g");
    let other = builder.file("other");
    let script = r#"until [ -e "$0" ]; do sleep 0.01; done
        read pid <"$0"
        [ $EINHORN_SLOT = 1 ] || echo "{\"command\":\"worker:ack\",\"pid\":$pid}" >&$EINHORN_SOCK_FD
        exec sleep 1000"#;
    let program = ["/bin/sh".into(), "-c".into(), script.into(), other.clone().into_os_string()];
    let mut master = builder.program(program).start_unready();
    let status = master.wait_status("both workers", |status| status.workers.len() == 2);
    let [first, second] = [0, 1].map(|slot| status.workers[slot].pid);
    std::fs::write(other.with_extension("new"), format!("{second}\n")).expect("a file");
    std::fs::rename(other.with_extension("new"), &other).expect("its name");
    master.wait_log(&format!("worker:ack for {second} refused: it came from worker {first}"));
    assert!(is_starting(&mut master, second) && is_starting(&mut master, first), "{master}");
}

/// A server behind a wrapper speaks for it.
fn an_ack_by_a_workers_child_is_taken() {
    let tiny = binaries::worker("tiny").display().to_string();
    let mut master = Master::builder().program(["/bin/sh", "-c", &format!("{tiny}; exit 0")]).start();
    let worker = master.workers_up()[0];
    assert_eq!(worker.children().len(), 1, "the shell does not stand between");
    assert_eq!(master.status().workers[0].pid, worker.pid());
}

fn garbage_to_the_notify_socket_is_ignored() {
    let (mut master, worker) = silent();
    let socket = notify_socket(&worker);
    for datagram in [&b""[..], b"\0", b"\xff\xfe", b"READY", b"=", b"\n\n\n", &[b'x'; 60_000]] {
        // One that is larger than the master would ever take may be refused here.
        let _ = socket.send(datagram);
    }
    assert!(is_starting(&mut master, worker.pid), "{master}");
    assert!(master.process().is_alive());
}

fn notify_socket(worker: &WorkerStatus) -> UnixDatagram {
    let process = Process::of(worker.pid).expect("a live worker");
    process.wait_executed();
    let environment = process.environment();
    let name = environment.get("NOTIFY_SOCKET").expect("NOTIFY_SOCKET is set");
    let socket = UnixDatagram::unbound().expect("a socket");
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    };
    socket.connect_addr(&address.expect("an address")).expect("a listener");
    socket
}

/// `close(2)` of the last descriptor of such a socket waits for a minute. Whoever may send to the notify socket could pass
/// it.
fn a_socket_that_lingers_does_not_make_the_master_wait() {
    const LIMIT: Duration = Duration::from_secs(10);
    let (mut master, worker) = silent();
    let notify = notify_socket(&worker);
    let before = master.process().descriptors().len();
    let since = Instant::now();
    for count in [1, 30] {
        let (lingering, _readers): (Vec<_>, Vec<_>) = (0..count).map(|_| lingering()).unzip();
        send_rights(&notify, &lingering).expect("room for a datagram");
        // A kernel that lets a socket refuse descriptors answers with EPERM.
        let _ = send_rights(master.control().stream(), &lingering);
        drop(lingering);
        master.status();
        assert_eq!(master.control().ask("reload", &[]).ok, Some(true), "{master}");
        master.wait("the descriptors to be closed", |master| {
            (master.process().descriptors().len() <= before).then_some(())
        });
    }
    master.signal(Signal::SIGTERM);
    let _ = master.wait_exit();
    assert!(since.elapsed() < LIMIT, "after {:?}\n{master}", since.elapsed());
}

/// A TCP socket with `SO_LINGER` and bytes that its peer does not read, and the peer.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let stream = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
    let (peer, _) = listener.accept().expect("a connection");
    stream.set_nonblocking(true).expect("a socket option");
    while (&stream).write(&[0; 1 << 16]).is_ok() {}
    let linger = libc::linger { l_onoff: 1, l_linger: 60 };
    setsockopt(&stream, sockopt::Linger, &linger).expect("a socket option");
    (stream, peer)
}

fn send_rights(socket: &impl AsRawFd, passed: &[TcpStream]) -> nix::Result<usize> {
    let passed: Vec<_> = passed.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&passed)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b"X=1\n")], &rights, MsgFlags::empty(), None)
}

fn only_the_owner_may_speak_to_the_master() {
    use std::os::unix::fs::MetadataExt;
    let master = Master::builder().start();
    let mode = std::fs::metadata(master.socket()).expect("the control socket").mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// The control client at the same place finds a broken master out, rather than hang.
fn a_frozen_master_is_told_from_a_working_one() {
    let master = Master::builder().start();
    master.signal(Signal::SIGSTOP);
    let finished = master.ctl(["--timeout", "0.2", "status"]);
    finished.assert_code(4);
    master.signal(Signal::SIGCONT);
    master.ctl(["status"]).assert_code(0);
}
