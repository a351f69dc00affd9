//! Listeners outlive a master that is killed: the service manager keeps them, and the next master goes on with what
//! waits in their queues. The manager is a stand-in that does what systemd's manual pages say.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use einhorn_proto::Status;
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::ask::{Facts, ask_often};
use tests::{Gate, Master, MasterBuilder, Process, binaries, wait};

/// Connections that wait while there is no master.
const WAITING: usize = 50;

/// A master under a manager that keeps so many descriptors and logs to a file of the builder's.
fn kept(fds: u32) -> (MasterBuilder, PathBuf) {
    binaries::require("python3", "python3");
    let builder = Master::builder().workers(2);
    let log = builder.file("manager.log");
    let manager = concat!(env!("CARGO_MANIFEST_DIR"), "/servers/service_manager.py");
    let builder = builder.under(["python3", manager]).env("FDSTORE", fds.to_string()).env("LOG", &log);
    (builder, log)
}

/// What the manager has logged.
fn manager_log(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter(|line| line.ends_with('}'));
    lines.map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// What the manager keeps, once it was told of a pool that is ready as often as this.
#[track_caller]
fn wait_ready(master: &mut Master, log: &Path, times: usize) -> Vec<String> {
    master.wait("READY=1 at the manager", |_| {
        let lines = manager_log(log);
        let ready: Vec<_> = lines.iter().filter(|line| line["told"]["READY"] == "1").collect();
        let kept = ready.get(times - 1)?["kept"].as_array()?.iter();
        Some(kept.map(|name| name.as_str().expect("a name").to_owned()).collect())
    })
}

/// A request that waits for its answer.
fn ask(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(wait::patience()))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    Ok(stream)
}

fn is_answered(mut stream: TcpStream) -> bool {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}

/// Has requests wait, kills the master and its workers, as systemd kills what is left of a service whose main process
/// has died, and waits for the next master. Returns how many of those who waited, and of those who came when there was
/// no master, were answered.
fn answered_over_a_crash(master: &mut Master) -> (usize, usize) {
    let address = master.address();
    let before = Process::of(master.status().master.pid).expect("the master");
    let workers = master.workers_up();
    for worker in &workers {
        worker.signal(Signal::SIGSTOP);
        master.wait("stopped workers", |_| worker.is_stopped().then_some(()));
    }
    let waiting: Vec<_> = (0..WAITING).map(|_| ask(address).expect("a connection that waits")).collect();
    before.signal(Signal::SIGKILL);
    before.wait_gone();
    for worker in &workers {
        worker.signal(Signal::SIGKILL);
        worker.wait_gone();
    }
    let late: Vec<_> = (0..WAITING).map(|_| ask(address)).collect();
    master.wait("the next master", |master| {
        let status = tests::Control::try_connect(master.socket()).ok()?.status();
        (status.master.up == 2 && status.master.pid != before.pid()).then_some(())
    });
    master.status();
    let late = late.into_iter().flatten().filter_map(|stream| is_answered(stream).then_some(())).count();
    (waiting.into_iter().filter_map(|stream| is_answered(stream).then_some(())).count(), late)
}

#[test]
fn a_killed_masters_queues_are_served_by_the_next_and_nobody_is_refused() {
    let (builder, log) = kept(8);
    let mut master = builder.start();
    let address = master.address();
    for round in 1..=3 {
        assert_eq!(wait_ready(&mut master, &log, round), ["bind-127.0.0.1%3A0"]);
        assert_eq!(answered_over_a_crash(&mut master), (WAITING, WAITING), "round {round}\n{master}");
        assert_eq!(master.address(), address, "the same port, which nobody chose\n{master}");
    }
    assert_eq!(master.log().matches("on a socket that the service manager has kept").count(), 3, "{master}");
    master.assert_well(2);
}

#[test]
fn the_listeners_of_slots_are_kept_too_and_their_queues_are_served_by_the_next_master() {
    let (builder, log) = kept(8);
    let mut master = builder.without_bind().options(["-b", "127.0.0.1:0,reuseport"]).start();
    let address = master.address();
    for round in 1..=3 {
        let kept = wait_ready(&mut master, &log, round);
        assert_eq!(kept.len(), 2, "one for each slot: {kept:?}");
        assert_eq!(answered_over_a_crash(&mut master), (WAITING, WAITING), "round {round}\n{master}");
        assert_eq!(master.address(), address, "the same port, which nobody chose\n{master}");
    }
    master.assert_well(2);
}

/// The manager's copy keeps a socket open that the master has closed, and would have it go on listening.
#[test]
fn the_listener_of_a_slot_that_is_taken_away_is_given_up_and_gets_nothing_more() {
    const REQUESTS: usize = 200;
    let (builder, log) = kept(8);
    let mut gate = Gate::new(builder.file("gate"));
    let builder = builder.workers(4).without_bind();
    let builder = builder.options(["-b", "127.0.0.1:0,reuseport", "--shrink-grace", "0.1", "-s", "0.01"]);
    let mut master = builder.serve([format!("gate={}", gate.path().display())]).start();
    assert_eq!(wait_ready(&mut master, &log, 1).len(), 4);
    let address = master.address();
    let worker = |status: &Status, slot| {
        let found = status.workers.iter().find(|worker| worker.slot == slot);
        found.and_then(|worker| Process::of(worker.pid)).expect("a worker of the slot")
    };
    // Its successor is the youngest, and the youngest goes.
    let victim = worker(&master.status(), 1);
    master.kill_workers(&[victim]);
    master.wait_up(4);
    assert_eq!(master.control().ask("dec", &[]).ok, Some(true), "{master}");
    let status = master.wait_up(3);
    let slots = |answers: Vec<Facts>| answers.iter().filter_map(|facts| facts.slot).collect::<BTreeSet<_>>();
    assert_eq!(slots(ask_often(address, REQUESTS)), [0, 2, 3].into(), "{master}");
    gate.close();
    master.kill_workers(&[worker(&status, 0)]);
    assert_eq!(slots(ask_often(address, REQUESTS)), [2, 3].into(), "{master}");
    gate.open();
    master.wait("three listeners at the manager", |_| {
        let kept = manager_log(&log).iter().rev().find_map(|line| line["kept"].as_array().map(Vec::len));
        (kept == Some(3)).then_some(())
    });
    master.wait_up(3);
    assert_eq!(slots(ask_often(address, REQUESTS)), [0, 2, 3].into(), "{master}");
}

/// The control: what the manager does not keep is lost.
#[test]
fn without_a_store_those_who_wait_are_cut_off() {
    let (builder, log) = kept(0);
    let mut master = builder.start();
    assert_eq!(wait_ready(&mut master, &log, 1), [""; 0]);
    assert_eq!(answered_over_a_crash(&mut master), (0, 0), "{master}");
}

#[test]
fn a_master_that_replaces_itself_stores_nothing_twice() {
    let (builder, log) = kept(8);
    let mut master = builder.start();
    assert_eq!(master.control().ask("reload", &[]).ok, Some(true), "{master}");
    assert_eq!(wait_ready(&mut master, &log, 2), ["bind-127.0.0.1%3A0"]);
    let stored = manager_log(&log).iter().filter(|line| line["told"]["FDSTORE"] == "1").count();
    assert_eq!(stored, 1, "{master}");
}

/// The listeners of a master that comes back with other `-b`: one is bound anew at an address that the manager still
/// holds, and the manager lets go of both.
#[test]
fn what_is_not_wanted_any_more_is_given_up() {
    let (builder, log) = kept(8);
    let options = builder.file("options");
    fs::write(&options, "-b 127.0.0.1:0 -b localhost:0").expect("a file");
    let script = format!("exec \"$0\" $(cat {}) \"$@\"", options.display());
    let mut master = builder.without_bind().under(["/bin/sh", "-c", &script]).start();
    assert_eq!(wait_ready(&mut master, &log, 1), ["bind-127.0.0.1%3A0", "bind-localhost%3A0"]);
    let address = master.address();
    fs::write(&options, format!("-b {address}")).expect("a file");
    let workers = master.workers_up();
    let before = Process::of(master.status().master.pid).expect("the master");
    before.signal(Signal::SIGKILL);
    for worker in workers {
        worker.signal(Signal::SIGKILL);
    }
    let expected = format!("bind-127.0.0.1%3A{}", address.port());
    assert_eq!(wait_ready(&mut master, &log, 2), [expected]);
    assert_eq!(master.addresses(), [address]);
    master.assert_well(2);
}
