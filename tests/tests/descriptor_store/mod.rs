//! Listeners outlive a master that is killed: the service manager keeps them, and the next master goes on with what
//! waits in their queues. The manager is a stand-in that does what systemd's manual pages say.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use einhorn_proto::Status;
use nix::sys::signal::Signal;
use serde_json::Value;
use socket2::{SockAddr, Socket, Type};
use tests::ask::{Facts, ask_often};
use tests::{Gate, Master, MasterBuilder, Process, wait};

pub(crate) mod slots;

tests::trials! {
    a_killed_masters_queues_are_served_by_the_next_and_nobody_is_refused needs "python3",
    the_listeners_of_slots_are_kept_too_and_their_queues_are_served_by_the_next_master needs "python3",
    the_listener_of_a_slot_that_is_taken_away_is_given_up_and_gets_nothing_more needs "python3",
    without_a_store_those_who_wait_are_cut_off needs "python3",
    a_master_that_replaces_itself_stores_nothing_twice needs "python3",
    what_is_not_wanted_any_more_is_given_up needs "python3",
    a_udp_socket_that_is_not_wanted_any_more_is_not_in_the_way needs "python3",
    unix_sockets_are_served_over_a_crash_and_go_at_an_end needs "python3",
    without_a_store_a_unix_socket_is_bound_anew needs "python3",
    a_unix_socket_whose_path_was_removed_or_replaced_is_bound_anew needs "python3",
    a_unix_socket_that_was_bound_again_is_kept_in_the_place_of_the_one_before needs "python3",
    a_kept_unix_socket_is_given_to_a_new_owner needs "python3" "root",
    a_group_that_another_user_has_bound_is_joined_by_new_slots needs "python3" "root",
}

/// Connections that wait while there is no master.
const WAITING: usize = 50;

/// A master under a manager that keeps so many descriptors and logs to a file of the builder's.
fn kept(fds: u32) -> (MasterBuilder, PathBuf) {
    kept_by(Master::builder().workers(2), fds)
}

pub(crate) fn kept_by(builder: MasterBuilder, fds: u32) -> (MasterBuilder, PathBuf) {
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
pub(crate) fn wait_ready(master: &mut Master, log: &Path, times: usize) -> Vec<String> {
    master.wait("READY=1 at the manager", |_| {
        let lines = manager_log(log);
        let ready: Vec<_> = lines.iter().filter(|line| line["told"]["READY"] == "1").collect();
        let kept = ready.get(times - 1)?["kept"].as_array()?.iter();
        Some(kept.map(|name| name.as_str().expect("a name").to_owned()).collect())
    })
}

/// A request that waits for its answer.
fn ask(address: &SockAddr, kind: Type) -> io::Result<Socket> {
    let mut socket = Socket::new(address.domain(), kind, None)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(wait::patience()))?;
    socket.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    Ok(socket)
}

fn ask_tcp(address: SocketAddr) -> impl Fn() -> io::Result<Socket> {
    move || ask(&address.into(), Type::STREAM)
}

fn is_answered(mut socket: &Socket) -> bool {
    // At once as much as can come: of a packet, what does not fit is lost.
    let mut bytes = [0; 4096];
    socket.read(&mut bytes).is_ok_and(|length| bytes[..length].starts_with(b"HTTP/1.1 200"))
}

fn answered(asked: &[Socket]) -> usize {
    asked.iter().filter(|socket| is_answered(socket)).count()
}

/// Kills the master and its workers. systemd kills what is left of a service before it starts that again; so the master
/// has to stand still until they are gone.
pub(crate) fn crash(master: &mut Master) -> Process {
    crash_after(master, || ())
}

/// The same after something that a master that runs would notice.
#[track_caller]
fn crash_after(master: &mut Master, change: impl FnOnce()) -> Process {
    let before = Process::of(master.status().master.pid).expect("the master");
    let workers = master.workers_up();
    before.signal(Signal::SIGSTOP);
    master.wait("a master that stands still", |_| before.is_stopped().then_some(()));
    change();
    for worker in &workers {
        worker.signal(Signal::SIGKILL);
        worker.wait_gone();
    }
    before.signal(Signal::SIGKILL);
    before.wait_gone();
    before
}

pub(crate) fn wait_next(master: &mut Master, before: Process) {
    wait_next_with(master, before, 2);
}

fn wait_next_with(master: &mut Master, before: Process, workers: u32) {
    master.wait("the next master", |master| {
        let status = tests::Control::try_connect(master.socket()).ok()?.status();
        (status.master.up == workers && status.master.pid != before.pid()).then_some(())
    });
    master.status();
}

/// Has no worker take anything.
fn freeze(master: &mut Master) {
    for worker in master.workers_up() {
        worker.signal(Signal::SIGSTOP);
        master.wait("stopped workers", |_| worker.is_stopped().then_some(()));
    }
}

/// Has requests wait, crashes the master, and waits for the next. Returns how many of those who waited, and of those who
/// came when there was no master, were answered.
fn answered_over_a_crash(master: &mut Master, ask: impl Fn() -> io::Result<Socket>) -> (usize, usize) {
    freeze(master);
    let waiting: Vec<_> = (0..WAITING).map(|_| ask().expect("a connection that waits")).collect();
    let before = crash(master);
    let late: Vec<_> = (0..WAITING).flat_map(|_| ask()).collect();
    wait_next(master, before);
    let late = answered(&late);
    (answered(&waiting), late)
}

fn a_killed_masters_queues_are_served_by_the_next_and_nobody_is_refused() {
    let (builder, log) = kept(8);
    let mut master = builder.start();
    let address = master.address();
    for round in 1..=3 {
        assert_eq!(wait_ready(&mut master, &log, round), ["bind-127.0.0.1%3A0"]);
        let answered = answered_over_a_crash(&mut master, ask_tcp(address));
        assert_eq!(answered, (WAITING, WAITING), "round {round}\n{master}");
        assert_eq!(master.address(), address, "the same port, which nobody chose\n{master}");
    }
    assert_eq!(master.log().matches("on a socket that the service manager kept").count(), 3, "{master}");
    master.assert_well(2);
}

fn the_listeners_of_slots_are_kept_too_and_their_queues_are_served_by_the_next_master() {
    let (builder, log) = kept(8);
    let mut master = builder.without_bind().options(["-b", "127.0.0.1:0,reuseport"]).start();
    let address = master.address();
    for round in 1..=3 {
        let kept = wait_ready(&mut master, &log, round);
        assert_eq!(kept.len(), 2, "one for each slot: {kept:?}");
        let answered = answered_over_a_crash(&mut master, ask_tcp(address));
        assert_eq!(answered, (WAITING, WAITING), "round {round}\n{master}");
        assert_eq!(master.address(), address, "the same port, which nobody chose\n{master}");
    }
    master.assert_well(2);
}

/// The manager's copy keeps a socket open that the master has closed, and would have it go on listening.
fn the_listener_of_a_slot_that_is_taken_away_is_given_up_and_gets_nothing_more() {
    const REQUESTS: usize = 100;
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
    // Who does not hear now does not close its copy.
    let manager = master.process();
    manager.signal(Signal::SIGSTOP);
    master.wait("a manager that stands still", |_| manager.is_stopped().then_some(()));
    assert_eq!(master.control().ask("dec", &[]).ok, Some(true), "{master}");
    master.wait_up(3);
    let status =
        master.wait_status("listeners of three slots", |status| status.listeners[0].slots.len() == 3);
    let slots = |answers: Vec<Facts>| answers.iter().filter_map(|facts| facts.slot).collect::<BTreeSet<_>>();
    assert_eq!(slots(ask_often(address, REQUESTS)), [0, 2, 3].into(), "{master}");
    gate.close();
    master.kill_workers(&[worker(&status, 2)]);
    assert_eq!(slots(ask_often(address, REQUESTS)), [0, 3].into(), "{master}");
    gate.open();
    manager.signal(Signal::SIGCONT);
    master.wait("three listeners at the manager", |_| {
        let kept = manager_log(&log).iter().rev().find_map(|line| line["kept"].as_array().map(Vec::len));
        (kept == Some(3)).then_some(())
    });
    master.wait_up(3);
    assert_eq!(slots(ask_often(address, REQUESTS)), [0, 2, 3].into(), "{master}");
}

/// The control: what the manager does not keep is lost.
fn without_a_store_those_who_wait_are_cut_off() {
    let (builder, log) = kept(0);
    let mut master = builder.start();
    assert_eq!(wait_ready(&mut master, &log, 1), [""; 0]);
    let ask = ask_tcp(master.address());
    assert_eq!(answered_over_a_crash(&mut master, ask), (0, 0), "{master}");
}

fn a_master_that_replaces_itself_stores_nothing_twice() {
    let (builder, log) = kept(8);
    let mut master = builder.start();
    assert_eq!(master.control().ask("reload", &[]).ok, Some(true), "{master}");
    assert_eq!(wait_ready(&mut master, &log, 2), ["bind-127.0.0.1%3A0"]);
    let stored = manager_log(&log).iter().filter(|line| line["told"]["FDSTORE"] == "1").count();
    assert_eq!(stored, 1, "{master}");
}

/// A master that is kept for, with these options, the log of its manager, and the file that the options of the next are read
/// from.
fn with_options(text: &str) -> (Master, PathBuf, PathBuf) {
    let (builder, log) = kept(8);
    let options = builder.file("options");
    fs::write(&options, text).expect("a file");
    let script = format!("exec \"$0\" $(cat {}) \"$@\"", options.display());
    let master = builder.without_bind().under(["/bin/sh", "-c", &script]).start();
    (master, log, options)
}

/// The listeners of a master that comes back with other `-b`: one is bound anew at an address that the manager still
/// holds, and the manager lets go of both.
fn what_is_not_wanted_any_more_is_given_up() {
    let (mut master, log, options) = with_options("-b 127.0.0.1:0 -b localhost:0");
    assert_eq!(wait_ready(&mut master, &log, 1), ["bind-127.0.0.1%3A0", "bind-localhost%3A0"]);
    let address = master.address();
    fs::write(&options, format!("-b {address}")).expect("a file");
    crash(&mut master);
    let expected = format!("bind-127.0.0.1%3A{}", address.port());
    assert_eq!(wait_ready(&mut master, &log, 2), [expected]);
    assert_eq!(master.addresses(), [address]);
    master.assert_well(2);
}

/// Its address is taken for as long as the manager has it, too.
fn a_udp_socket_that_is_not_wanted_any_more_is_not_in_the_way() {
    let (mut master, log, options) = with_options("-b udp:127.0.0.1:0");
    assert_eq!(wait_ready(&mut master, &log, 1), ["bind-udp%3A127.0.0.1%3A0"]);
    let address = master.status().listeners[0].address.clone();
    fs::write(&options, format!("-b {address},reuseport")).expect("a file");
    crash(&mut master);
    let name = format!("bind-{}", address.replace(':', "%3A"));
    let expected = [0, 1].map(|slot| format!("{name},slot={slot},at={slot}"));
    assert_eq!(wait_ready(&mut master, &log, 2), expected);
    assert_eq!(master.status().listeners[0].address, address);
    // And taken back as a group, whatever slot has to wait.
    crash(&mut master);
    assert_eq!(wait_ready(&mut master, &log, 3), expected);
    master.wait_up(2);
}

/// What the manager keeps at the end of its log.
#[track_caller]
fn kept_last(log: &Path) -> Value {
    let lines = manager_log(log);
    lines.iter().rev().find(|line| line["kept"].is_array()).expect("something was told")["kept"].clone()
}

fn unix_address(text: &str) -> (SockAddr, Type) {
    let (kind, name) = text.split_once(':').expect("a kind");
    let kind = if kind == "seqpacket" { Type::SEQPACKET } else { Type::STREAM };
    let name = name.replacen('@', "\0", 1);
    (SockAddr::unix(name).expect("a name"), kind)
}

fn unix_sockets_are_served_over_a_crash_and_go_at_an_end() {
    let (builder, log) = kept(8);
    let [path, packets] = ["a.sock", "b.sock"].map(|name| builder.file(name).display().to_string());
    let binds = [format!("unix:{path},mode=666"), format!("unix:@{path}"), format!("seqpacket:{packets}")];
    let builder = builder.without_bind().options(["-b", "127.0.0.1:0"]);
    let builder = binds.iter().fold(builder, |builder, bind| builder.options(["-b", bind]));
    let mut master = builder.start();
    let names = [
        "bind-127.0.0.1%3A0".to_owned(),
        format!("bind-unix%3A{path}"),
        format!("bind-unix%3A@{path}"),
        format!("bind-seqpacket%3A{packets}"),
    ];
    let mut inode = None;
    for (round, bind) in binds.iter().enumerate() {
        assert_eq!(wait_ready(&mut master, &log, round + 1), names, "{master}");
        let (address, kind) = unix_address(bind.trim_end_matches(",mode=666"));
        let answered = answered_over_a_crash(&mut master, || ask(&address, kind));
        assert_eq!(answered, (WAITING, WAITING), "{bind}\n{master}");
        let found = fs::metadata(&path).expect("the file");
        assert_eq!(*inode.get_or_insert(found.ino()), found.ino(), "it is another file\n{master}");
        assert_eq!(found.mode() & 0o777, 0o666, "{master}");
    }
    wait_ready(&mut master, &log, binds.len() + 1);
    master.control().ask("die", &[]);
    master.wait_exit_code(0);
    for path in [&path, &packets] {
        assert!(!Path::new(path).exists() && !PathBuf::from(format!("{path}.lock")).exists(), "{master}");
    }
    // What has no file may be kept for a restart.
    assert_eq!(kept_last(&log), serde_json::json!([names[0], names[2]]), "{master}");
}

/// The control: what the manager does not keep is lost, and the path is had all the same.
fn without_a_store_a_unix_socket_is_bound_anew() {
    let (builder, log) = kept(0);
    let path = builder.file("a.sock");
    let builder = builder.without_bind().options(["-b", &format!("unix:{}", path.display())]);
    let mut master = builder.start();
    wait_ready(&mut master, &log, 1);
    let (address, kind) = unix_address(&format!("unix:{}", path.display()));
    let (waiting, _) = answered_over_a_crash(&mut master, || ask(&address, kind));
    assert_eq!(waiting, 0, "{master}");
    assert!(is_answered(&ask(&address, kind).expect("a connection")), "{master}");
}

fn a_unix_socket_whose_path_was_removed_or_replaced_is_bound_anew() {
    let (builder, log) = kept(8);
    let path = builder.file("a.sock");
    let builder = builder.without_bind().options(["-b", &format!("unix:{}", path.display())]);
    let mut master = builder.start();
    let (address, kind) = unix_address(&format!("unix:{}", path.display()));
    let name = format!("bind-unix%3A{}", path.display());
    for round in 1..=2 {
        assert_eq!(wait_ready(&mut master, &log, round), std::slice::from_ref(&name));
        let before = crash_after(&mut master, || {
            fs::remove_file(&path).expect("it is there");
            if round == 2 {
                drop(UnixListener::bind(&path).expect("another socket"));
                // What another test is starting just now has a copy of it until its exec.
                wait::wait_for("it to be stale", || UnixStream::connect(&path).is_err().then_some(()));
            }
        });
        wait_next(&mut master, before);
        assert!(is_answered(&ask(&address, kind).expect("a connection")), "round {round}\n{master}");
    }
    assert!(!master.log().contains("that the service manager has kept"), "{master}");
    assert_eq!(wait_ready(&mut master, &log, 3), [name]);
    // What is another's now is left to it, and the next master says so.
    let mut other = None;
    crash_after(&mut master, || {
        fs::remove_file(&path).expect("it is there");
        other = Some(UnixListener::bind(&path).expect("another socket"));
    });
    master.wait_exit_code(1);
    assert!(master.log().contains(&format!("process {} is listening there", std::process::id())), "{master}");
    ask(&address, kind).expect("the other still has it");
    drop(other);
}

fn a_unix_socket_that_was_bound_again_is_kept_in_the_place_of_the_one_before() {
    let (builder, log) = kept(8);
    let path = builder.file("a.sock");
    let bind = format!("unix:{}", path.display());
    let mut master = builder.without_bind().options(["-b", &bind]).start();
    let name = format!("bind-unix%3A{}", path.display());
    assert_eq!(wait_ready(&mut master, &log, 1), std::slice::from_ref(&name));
    fs::remove_file(&path).expect("it is there");
    master.wait_status("workers with the new socket", |status| status.recycled.lost_socket == 2);
    let inode = fs::metadata(&path).expect("the file").ino();
    assert_eq!(kept_last(&log), serde_json::json!([name]), "one, in the place of the other\n{master}");
    let (address, kind) = unix_address(&bind);
    let answered = answered_over_a_crash(&mut master, || ask(&address, kind));
    assert_eq!(answered, (WAITING, WAITING), "{master}");
    assert_eq!(fs::metadata(&path).expect("the file").ino(), inode, "it is another file\n{master}");
}

fn a_kept_unix_socket_is_given_to_a_new_owner() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.sock");
    let (mut master, log, options) = with_options(&format!("-b unix:{}", path.display()));
    wait_ready(&mut master, &log, 1);
    let inode = fs::metadata(&path).expect("the socket").ino();
    fs::write(&options, format!("-b unix:{},user=54321,group=54322", path.display())).expect("a file");
    crash(&mut master);
    wait_ready(&mut master, &log, 2);
    let found = fs::metadata(&path).expect("the socket");
    assert_eq!((found.ino(), found.uid(), found.gid()), (inode, 54_321, 54_322), "{master}");
}

/// Passes on a socket of one slot that user 54321 has bound: what is kept when `User=` of a service has changed.
const BOUND_BY_ANOTHER: &str = r#"
import os, socket, sys
kept = socket.socket()
os.fchown(kept.fileno(), 54321, -1)
kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
kept.bind(("127.0.0.1", 0))
kept.listen()
os.dup2(os.dup2(kept.fileno(), 100), 3, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="bind-127.0.0.1%3A0,slot=0,at=0")
os.execvp(sys.argv[1], sys.argv[1:])
"#;

/// The kernel lets only sockets of one user share a port.
fn a_group_that_another_user_has_bound_is_joined_by_new_slots() {
    let builder = Master::builder().workers(2).without_bind().options(["-b", "127.0.0.1:0,reuseport"]);
    let mut master = builder.under(["python3", "-c", BOUND_BY_ANOTHER]).start();
    assert!(master.log().contains("on a socket that the service manager kept"), "{master}");
    let slots: BTreeSet<_> = ask_often(master.address(), 200).into_iter().map(|facts| facts.slot).collect();
    assert_eq!(slots, [Some(0), Some(1)].into(), "{master}");
    master.assert_well(2);
}
