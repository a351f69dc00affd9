//! The notify socket of the real master: where it is, who reaches it, and when its file goes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use tests::{Master, MasterBuilder, Process, binaries, place_worker};

tests::trials! {
    it_is_a_file_beside_the_control_socket_until_the_master_ends,
    einhorns_default_socket_has_one_too,
    a_master_that_replaces_itself_keeps_it,
    the_file_of_a_dead_master_is_replaced,
    a_stranger_is_refused_as_often_as_it_comes_and_logged_once,
    a_second_master_does_not_touch_it,
    without_a_path_workers_ack_at_an_abstract_name,
    a_listener_that_is_asked_for_there_has_it,
    it_belongs_to_the_user_of_the_workers_and_nobody_else_may_send needs "root" "util-linux",
    workers_of_root_reach_it_whatever_user_they_become needs "root" "util-linux",
    its_mode_can_be_chosen needs "root" "util-linux",
    it_is_open_to_all_where_it_cannot_be_given_away needs "root" "util-linux",
    workers_of_another_user_reach_it_where_they_may_enter_its_directory needs "root",
    a_worker_in_another_network_namespace_reaches_it needs "network namespace",
}

/// What the log says of a socket without a file.
const NO_PATH: &str = "NOTIFY_SOCKET is an abstract name, which some servers do not know, and no path: ";

/// A master whose workers ack over the notify socket alone.
fn notifying() -> MasterBuilder {
    Master::builder().options(["-s", "0.1"]).serve(["ack=notify"])
}

fn beside(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".notify");
    name.into()
}

/// Where the workers of a master notify.
#[track_caller]
fn told(master: &mut Master) -> String {
    let mut told: Vec<_> = master
        .workers_up()
        .iter()
        .map(|worker| worker.environment().remove("NOTIFY_SOCKET").expect("NOTIFY_SOCKET is set"))
        .collect();
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}\n{master}");
    told.remove(0)
}

/// Asserts that workers ack over the file, those that are spawned now too.
#[track_caller]
fn assert_acks_at(master: &mut Master, path: &Path) {
    assert_eq!(told(master), path.display().to_string(), "{master}");
    assert!(fs::metadata(path).expect("the file").file_type().is_socket());
    let workers = master.workers_up();
    master.kill_workers(&workers);
    master.wait_up(workers.len() as u32);
    assert!(master.log().contains("acked by READY=1") && !master.log().contains(NO_PATH), "{master}");
}

/// A master that some tests start beside another, in the directory of that.
fn at(socket: &Path) -> MasterBuilder {
    notifying().without_socket().option("-d").option(socket)
}

fn it_is_a_file_beside_the_control_socket_until_the_master_ends() {
    for (signal, code) in [(Signal::SIGTERM, 0), (Signal::SIGINT, 0), (Signal::SIGQUIT, 1)] {
        for options in [&[][..], &["-k"]] {
            let mut master = notifying().workers(2).options(options).start();
            let path = beside(master.socket());
            assert_acks_at(&mut master, &path);
            master.signal(signal);
            master.wait_exit_code(code);
            assert!(!path.exists(), "{signal} with {options:?}\n{master}");
        }
    }
}

fn einhorns_default_socket_has_one_too() {
    let builder = Master::builder().einhorn().without_socket().serve(["ack=notify"]);
    let socket = builder.file("einhorn.sock");
    let mut master = builder.start_unready();
    master.at_socket(&socket);
    master.wait_up(1);
    assert_eq!(told(&mut master), beside(&socket).display().to_string());
}

fn a_master_that_replaces_itself_keeps_it() {
    let mut master = notifying().workers(2).start();
    let path = beside(master.socket());
    let workers = master.workers_up();
    for _ in 0..2 {
        let reply = master.control().ask("reload", &[]);
        assert_eq!(reply.ok, Some(true), "{}\n{master}", reply.message);
    }
    assert_eq!(master.workers_up(), workers);
    assert_acks_at(&mut master, &path);
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    assert!(!path.exists(), "{master}");
}

fn the_file_of_a_dead_master_is_replaced() {
    let mut first = notifying().start();
    let path = beside(first.socket());
    let workers = first.workers_up();
    first.signal(Signal::SIGKILL);
    first.wait_exit();
    assert!(path.exists(), "it has gone by itself");
    let mut second = at(first.socket()).start_unready();
    second.at_socket(first.socket());
    second.wait_up(1);
    assert_acks_at(&mut second, &path);
    // An orphan of the first is no worker of the second, whatever it sends there.
    assert!(workers.iter().all(Process::is_alive));
}

/// An orphan of a dead master may ping its successor for ever.
fn a_stranger_is_refused_as_often_as_it_comes_and_logged_once() {
    let mut master = notifying().start();
    let path = beside(master.socket());
    let stranger = UnixDatagram::unbound().expect("a socket");
    for _ in 0..5 {
        stranger.send_to(b"WATCHDOG=1", &path).expect("room for a datagram");
    }
    // What the next worker says comes behind it.
    let worker = master.workers_up()[0];
    master.kill_worker(worker);
    master.wait_up(1);
    let refusal = format!("it came from process {}, which is neither a worker", std::process::id());
    assert_eq!(master.log().matches(&refusal).count(), 1, "{master}");
}

fn a_second_master_does_not_touch_it() {
    let mut first = notifying().start();
    let path = beside(first.socket());
    let finished = at(first.socket()).run_to_end();
    finished.assert_code(1).assert_says("cannot open the control socket");
    assert_acks_at(&mut first, &path);
    // Another control socket, another file.
    let socket = first.file("other.sock");
    let mut second = at(&socket).start_unready();
    second.at_socket(&socket);
    second.wait_up(1);
    assert_acks_at(&mut second, &beside(&socket));
    second.signal(Signal::SIGTERM);
    second.wait_exit_code(0);
    assert!(!beside(&socket).exists() && path.exists());
    assert_acks_at(&mut first, &path);
}

/// A path that is too long, and one where something else is.
fn without_a_path_workers_ack_at_an_abstract_name() {
    let builder = notifying().without_socket();
    let root = builder.file("");
    let room = 107 - root.as_os_str().len();
    let long = builder.file(&"x".repeat(room));
    let taken = builder.file("taken");
    fs::write(beside(&taken), "precious").expect("a file");
    for (socket, why) in [(&long, "the path has 114 bytes"), (&taken, "it is not a socket")] {
        let mut master = at(socket).workers(2).start_unready();
        master.at_socket(socket);
        master.wait_up(2);
        assert!(told(&mut master).starts_with('@'), "{master}");
        let expected = format!("{NO_PATH}cannot bind {}: {why}", beside(socket).display());
        assert_eq!(master.log().matches(&expected).count(), 1, "{master}");
        let address = told(&mut master);
        assert_eq!(master.control().ask("reload", &[]).ok, Some(true), "{master}");
        let workers = master.workers_up();
        master.kill_workers(&workers);
        master.wait_up(2);
        assert_eq!(told(&mut master), address, "{master}");
        master.signal(Signal::SIGTERM);
        master.wait_exit_code(0);
    }
    assert_eq!(fs::read_to_string(beside(&taken)).expect("the file"), "precious");
}

/// It takes the path before the notify socket could.
fn a_listener_that_is_asked_for_there_has_it() {
    let builder = notifying().without_bind();
    let path = beside(&builder.file("einhorn.sock"));
    let mut master = builder.options(["-b", &format!("unix:{}", path.display())]).start();
    assert!(told(&mut master).starts_with('@'), "{master}");
    assert!(master.log().contains(NO_PATH), "{master}");
    assert!(UnixDatagram::unbound().expect("a socket").connect(&path).is_err(), "it is not the listener");
}

/// The mode, the user and the group of the notify socket's file.
fn access(path: &Path) -> (u32, u32, u32) {
    let found = fs::metadata(path).expect("the file");
    (found.mode() & 0o7777, found.uid(), found.gid())
}

/// Whether processes of this user and group may send to the file at `path`.
fn may_send(path: &Path, user: u32, group: u32) -> bool {
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        &user.to_string(),
        "--regid",
        &group.to_string(),
        "--clear-groups",
        "test",
        "-w",
    ]);
    command.arg(path).status().expect("setpriv").success()
}

/// A builder whose directory and worker any user may reach.
fn reachable(builder: MasterBuilder, before: &[&str]) -> MasterBuilder {
    let directory = builder.file("serve").parent().expect("a directory").to_owned();
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).expect("its mode");
    place_worker(&directory.join("serve"));
    let builder = builder.options(["-s", "0.1"]).option("--chdir").option(directory);
    builder.program(before.iter().copied().chain(["./serve", "ack=notify"]))
}

/// Runs the program behind it as a user without an entry in /etc/passwd.
const AS_ANOTHER_USER: [&str; 6] = ["setpriv", "--reuid", "54321", "--regid", "54322", "--clear-groups"];

fn it_belongs_to_the_user_of_the_workers_and_nobody_else_may_send() {
    let builder = reachable(Master::builder().workers(2).options(["--user", "54321:54322"]), &[]);
    let mut master = builder.start();
    let path = beside(master.socket());
    for _ in 0..2 {
        assert_eq!(access(&path), (0o600, 54_321, 54_322), "{master}");
        assert!(may_send(&path, 54_321, 54_322) && !may_send(&path, 54_323, 54_322), "{master}");
        assert_acks_at(&mut master, &path);
        assert_eq!(master.control().ask("reload", &[]).ok, Some(true), "{master}");
    }
    assert!(!master.log().contains("every user may send"), "{master}");
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    assert!(!path.exists(), "{master}");
}

fn workers_of_root_reach_it_whatever_user_they_become() {
    let mut master = reachable(Master::builder(), &AS_ANOTHER_USER).start();
    let path = beside(master.socket());
    assert_eq!(access(&path), (0o666, 0, 0), "{master}");
    assert_acks_at(&mut master, &path);
    // Workers of root that were asked for stay root.
    let master = reachable(Master::builder().options(["--user", "0:0"]), &[]).start();
    assert_eq!(access(&beside(master.socket())), (0o600, 0, 0), "{master}");
}

/// As for a program that the set-user-ID bit makes another user's, under a master that is not root.
fn its_mode_can_be_chosen() {
    let mut master = reachable(Master::builder().options(["--notify-mode", "666"]), &AS_ANOTHER_USER).start();
    let path = beside(master.socket());
    assert_eq!(access(&path), (0o666, 0, 0), "{master}");
    assert_acks_at(&mut master, &path);
    let options = ["--notify-mode", "660", "--user", "54321:54322"];
    let master = reachable(Master::builder().options(options), &[]).start();
    let path = beside(master.socket());
    assert_eq!(access(&path), (0o660, 54_321, 54_322), "{master}");
    assert!(may_send(&path, 54_323, 54_322) && !may_send(&path, 54_323, 54_323), "{master}");
    for bad in ["066", "rw"] {
        let refused = Master::builder().options(["--notify-mode", bad]).run_to_end();
        refused.assert_code(2).assert_says("must be octal, such as 660 or 666; the owner needs 6");
    }
}

/// The workers would otherwise never be heard.
fn it_is_open_to_all_where_it_cannot_be_given_away() {
    let without = |builder: MasterBuilder| builder.under(["setpriv", "--bounding-set", "-chown"]);
    let user = || Master::builder().options(["--user", "54321:54322"]);
    let mut master = without(reachable(user(), &[])).start();
    let path = beside(master.socket());
    assert_eq!(access(&path), (0o666, 0, 0), "{master}");
    assert_acks_at(&mut master, &path);
    let warning = "every user may send to the notify socket, since it cannot be given to that of the workers";
    assert_eq!(master.log().matches(warning).count(), 1, "{master}");
    let mut master = without(reachable(user().options(["--notify-mode", "666"]), &[])).start();
    let path = beside(master.socket());
    assert_acks_at(&mut master, &path);
    assert!(!master.log().contains(warning), "it was asked for\n{master}");
    let refused = without(reachable(user().options(["--notify-mode", "600"]), &[])).run_to_end();
    refused
        .assert_code(1)
        .assert_says("cannot give the notify socket to the user of the workers (--notify-mode)");
}

fn workers_of_another_user_reach_it_where_they_may_enter_its_directory() {
    for mode in [0o711, 0o700] {
        let builder = Master::builder().workers(2).options(["--user", "54321:54322"]);
        // The program lies elsewhere: the control socket's directory is to be closed.
        let release = tempfile::tempdir().expect("a directory");
        fs::set_permissions(release.path(), Permissions::from_mode(0o755)).expect("its mode");
        place_worker(&release.path().join("serve"));
        let root = builder.file("serve").parent().expect("a directory").to_owned();
        fs::set_permissions(&root, Permissions::from_mode(mode)).expect("its mode");
        let builder = builder.option("--chdir").option(release.path()).program(["./serve", "ack=notify"]);
        let mut master = builder.start();
        let path = beside(master.socket());
        if mode == 0o711 {
            assert_acks_at(&mut master, &path);
            continue;
        }
        assert!(told(&mut master).starts_with('@'), "{master}");
        let why = format!("workers (--user, --group) may not reach {}: Permission denied", path.display());
        assert_eq!(master.log().matches(&format!("{NO_PATH}{why}")).count(), 1, "{master}");
        assert!(!path.exists(), "it is of no use");
        master.upgrade();
        assert!(told(&mut master).starts_with('@'), "{master}");
    }
}

/// What an abstract name cannot do.
fn a_worker_in_another_network_namespace_reaches_it() {
    let tiny = binaries::worker("tiny");
    let master = Master::builder()
        .without_bind()
        .option("--")
        .program(["unshare", "-n"].map(Into::into).into_iter().chain([tiny]));
    let master = master.start();
    assert!(master.log().contains("acked by READY=1"), "{master}");
}
