//! Acks and pings: each way to the master, and none at all.
#![allow(clippy::unwrap_used, reason = "all of it is a test")]

mod common;

use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};

use common::{Control, PATIENCE, Worker, ack_of, readable, role, say};
use einhorn_child::{ack, ping, status, stopping};

/// The worker's side: carries out the steps of `ROLE` and prints the result of each.
#[test]
fn worker() {
    let Some(role) = role() else { return };
    for step in role.split(' ') {
        let told = match step {
            "ack" => ack(),
            "ping" => ping(),
            "status" => status("warm, waiting"),
            "stopping" => stopping(),
            _ => panic!("no such step: {step}"),
        };
        match told {
            Ok(told) => say(format!("{step}: {told:?}")),
            Err(error) => say(error),
        }
    }
}

/// A notify socket, bound at `address`, with a read timeout.
fn notify_socket(address: &SocketAddr) -> UnixDatagram {
    let socket = UnixDatagram::bind_addr(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn datagram(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 100];
    let length = socket.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

#[test]
fn an_ack_over_the_path_arrives_though_the_master_looks_after_the_workers_end() {
    let control = Control::new();
    let worker = Worker::new("ack").supervised().env("EINHORN_SOCK_PATH", control.path()).spawn();
    let pid = worker.pid();
    assert_eq!(worker.finish(), ["ack: Control"]);
    assert_eq!(control.read_next(), ack_of(pid));
}

#[test]
fn an_inherited_connection_is_reused_for_pings() {
    let control = Control::new();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let worker = Worker::new("ack ping ping").fd(&theirs).supervised();
    let worker = worker.env("EINHORN_SOCK_FD", "3").env("EINHORN_SOCK_PATH", control.path()).spawn();
    drop(theirs);
    let pid = worker.pid();
    assert_eq!(worker.finish(), ["ack: Control", "ping: Control", "ping: Control"]);
    let mut said = String::new();
    ours.read_to_string(&mut said).unwrap();
    let ping = ack_of(pid).replace("ack", "ping");
    assert_eq!(said, format!("{}{ping}{ping}", ack_of(pid)));
    assert!(control.is_quiet());
}

#[test]
fn a_connection_that_the_master_has_closed_is_replaced_by_the_path() {
    let control = Control::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    let worker = Worker::new("ack ping").fd(&theirs).supervised();
    let worker = worker.env("EINHORN_SOCK_FD", "3").env("EINHORN_SOCK_PATH", control.path()).spawn();
    let pid = worker.pid();
    assert_eq!(worker.finish(), ["ack: Control", "ping: Control"]);
    assert_eq!(control.read_next(), ack_of(pid));
    assert_eq!(control.read_next(), ack_of(pid).replace("ack", "ping"));
}

#[test]
fn a_descriptor_that_is_no_connection_is_passed_over() {
    let control = Control::new();
    let file = std::fs::File::open("/dev/null").unwrap();
    let worker = Worker::new("ack").fd(&file).supervised().env("EINHORN_SOCK_PATH", control.path());
    assert_eq!(worker.env("EINHORN_SOCK_FD", "3").run(), ["ack: Control"]);
    assert!(control.read_next().contains("worker:ack"));
}

#[test]
fn a_notify_socket_is_reached_by_path_and_by_abstract_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify.sock");
    let name = format!("einhorn-child-{}-notify", std::process::id());
    for (address, variable) in [
        (SocketAddr::from_pathname(&path).unwrap(), path.to_str().unwrap().to_owned()),
        (SocketAddr::from_abstract_name(&name).unwrap(), format!("@{name}")),
    ] {
        let socket = notify_socket(&address);
        let said = Worker::new("ack ping status stopping").env("NOTIFY_SOCKET", variable).run();
        assert_eq!(said, ["ack: Notify", "ping: Notify", "status: Notify", "stopping: Notify"]);
        for message in ["READY=1", "WATCHDOG=1", "STATUS=warm, waiting", "STOPPING=1"] {
            assert_eq!(datagram(&socket), message);
        }
    }
}

#[test]
fn the_control_socket_comes_first_and_the_notify_socket_when_that_fails() {
    let control = Control::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify.sock");
    let socket = notify_socket(&SocketAddr::from_pathname(&path).unwrap());
    let worker = |control: &std::path::Path| {
        Worker::new("ack status").supervised().env("EINHORN_SOCK_PATH", control).env("NOTIFY_SOCKET", &path)
    };
    assert_eq!(worker(&control.path()).run(), ["ack: Control", "status: Notify"]);
    assert!(control.read_next().contains("worker:ack"));
    assert_eq!(datagram(&socket), "STATUS=warm, waiting");
    assert_eq!(worker(&directory.path().join("gone")).run(), ["ack: Notify", "status: Notify"]);
    assert_eq!(datagram(&socket), "READY=1");
}

#[test]
fn a_process_that_is_not_the_masters_child_sends_nothing() {
    let control = Control::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify.sock");
    let socket = notify_socket(&SocketAddr::from_pathname(&path).unwrap());
    let master = std::process::id();
    for (worker, master) in [
        (Worker::new("ack ping").env("EINHORN_MASTER_PID", "1"), 1),
        (Worker::behind_a_wrapper("ack ping").supervised(), master),
    ] {
        let worker = worker.env("EINHORN_SOCK_PATH", control.path()).env("NOTIFY_SOCKET", &path);
        for said in worker.run() {
            let refused =
                format!("process {master} (EINHORN_MASTER_PID) is not the parent of this process, ");
            assert!(said.starts_with(&refused), "{said}");
        }
        assert!(control.is_quiet());
        assert!(!readable(&socket, std::time::Duration::ZERO));
    }
}

#[test]
fn without_a_master_nothing_is_sent_and_that_is_no_error() {
    let said = Worker::new("ack ping status stopping").run();
    assert_eq!(said, ["ack: Nobody", "ping: Nobody", "status: Nobody", "stopping: Nobody"]);
}

#[test]
fn a_master_without_a_notify_socket_has_no_use_for_a_status() {
    let control = Control::new();
    let worker = Worker::new("status stopping").supervised().env("EINHORN_SOCK_PATH", control.path());
    assert_eq!(worker.run(), ["status: Nobody", "stopping: Nobody"]);
    assert!(control.is_quiet());
}

#[test]
fn a_master_that_cannot_be_reached_is_an_error_that_names_each_way() {
    let said = Worker::new("ack")
        .supervised()
        .env("EINHORN_SOCK_FD", "77")
        .env("EINHORN_SOCK_PATH", "/nowhere/control.sock")
        .env("NOTIFY_SOCKET", "vsock:2:1234")
        .run();
    assert_eq!(
        said,
        ["cannot send ack to the master: EINHORN_SOCK_FD 77: the descriptor is not open; EINHORN_SOCK_PATH \
          /nowhere/control.sock: No such file or directory (os error 2); NOTIFY_SOCKET vsock:2:1234: neither an \
          absolute path nor an @name"]
    );
}

#[test]
fn variables_that_say_too_little_or_nonsense_are_named() {
    let master = std::process::id();
    assert_eq!(
        Worker::new("ack").supervised().run(),
        [format!(
            "there is no way to reach the master, process {master}: none of EINHORN_SOCK_FD, EINHORN_SOCK_PATH and \
             NOTIFY_SOCKET is set; does a wrapper clear the environment?"
        )]
    );
    assert_eq!(
        Worker::new("ack").env("EINHORN_MASTER_PID", "me").run(),
        ["cannot determine the master: EINHORN_MASTER_PID is \"me\", which is not a usable number"]
    );
}
