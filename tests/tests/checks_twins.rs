//! What a trial worker and the command of its check have: private twins of the sockets, wherever those came from, and the
//! workers' user. And a program that does not use its twin, and a client that may not name a command.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tests::load::Plan;
use tests::{Master, MasterBuilder, Process, Releases, binaries, place_worker, process, wait};

use crate::checks::{probe, trial_directory};
use crate::checks_ends::Command;
use crate::descriptor_store::{crash, kept_by, wait_next, wait_ready};

tests::trials! {
    every_kind_of_socket_has_a_twin,
    a_socket_that_the_parent_has_left_open_has_a_twin,
    a_socket_that_a_service_manager_has_kept_has_a_twin needs "python3",
    a_socket_of_socket_activation_has_a_twin needs "systemd",
    another_user_runs_the_trial_worker_and_the_command needs "root",
    a_program_that_binds_the_port_by_itself_fails_the_check,
    another_user_cannot_name_a_command needs "root" "util-linux",
}

/// An upgrade of one worker, whose check runs: what its command and the workers have.
struct Checked {
    trial: Process,
    command: Process,
    /// Addresses of the twins.
    addresses: Vec<String>,
}

/// Upgrades, looks at the trial with `look` while the check runs, and lets it pass.
#[track_caller]
fn while_checked(
    builder: MasterBuilder,
    command: &mut Command,
    activate: impl FnOnce(),
    look: impl FnOnce(&mut Master, &Checked),
) {
    let socket = builder.file("control.sock");
    let builder = builder.without_bind().without_socket().option("-d").option(&socket);
    let mut master = builder.options(["--check", &command.line()]).start_unready();
    activate();
    master.at_socket(&socket);
    master.wait_up(1);
    let real: Vec<_> = master.status().listeners.into_iter().map(|listener| listener.address).collect();
    let worker = master.workers_up()[0];
    let upgrade = master.ctl_command(["upgrade"]);
    let upgrade = thread::spawn(|| process::run(upgrade));
    let running = command.wait_running(&mut master);
    let environment = running.environment();
    let trial = environment["EINHORN_CHECK_PID"].parse().ok().and_then(Process::of).expect("a trial worker");
    let numbers = 0..;
    let addresses =
        numbers.map_while(|number| environment.get(&format!("EINHORN_CHECK_ADDR_{number}")).cloned());
    let addresses: Vec<_> = addresses.collect();
    assert_eq!(addresses.len(), real.len(), "{addresses:?} {real:?}");
    assert!(addresses.iter().all(|address| !real.contains(address)), "{addresses:?} {real:?}");
    assert_eq!(environment["EINHORN_GENERATION"], "2");
    for name in ["EINHORN_FD_0", "LISTEN_FDS", "NOTIFY_SOCKET", "SERVER_STARTER_PORT", "EINHORN_SLOT"] {
        assert!(!environment.contains_key(name), "{name}: {environment:?}");
    }

    let (tried, served) = (trial.environment(), worker.environment());
    assert_eq!((tried.get("EINHORN_TRIAL"), served.get("EINHORN_TRIAL")), (Some(&"1".to_owned()), None));
    assert_eq!((tried.get("EINHORN_SLOT"), served["EINHORN_SLOT"].as_str()), (None, "0"));
    assert_eq!(tried["EINHORN_CHILD_INDEX"], "1");
    for name in ["LISTEN_FDS", "LISTEN_FDNAMES", "EINHORN_FD_COUNT", "EINHORN_FD_FAMILY_0", "EINHORN_FDS"] {
        assert_eq!(tried.get(name), served.get(name), "{name}");
    }
    assert_eq!(server_starter_port(&tried), described(&addresses));
    assert_eq!(server_starter_port(&served), described(&real));

    let checked = Checked { trial, command: running, addresses };
    look(&mut master, &checked);
    command.ends_with(0);
    upgrade.join().expect("the control client ends").assert_code(0);
    trial.wait_gone();
    let trials = trial_directory(&master);
    wait::wait_for("the twins to go", || (!trials.exists()).then_some(()));
    let now = master.status().listeners.into_iter().map(|listener| listener.address);
    assert_eq!(now.collect::<Vec<_>>(), real, "the sockets are where they were");
}

fn server_starter_port(environment: &BTreeMap<String, String>) -> Vec<String> {
    environment["SERVER_STARTER_PORT"].split(';').map(str::to_owned).collect()
}

/// These addresses as `SERVER_STARTER_PORT` has them, without those that it cannot have.
fn described(addresses: &[String]) -> Vec<String> {
    let numbered = addresses.iter().zip(3..);
    let described = numbered.filter_map(|(address, fd)| {
        if let Some(packets) = address.strip_prefix("udp:") {
            let (host, port) = packets.rsplit_once(':')?;
            return Some(format!("{host}:u{port}={fd}"));
        }
        let address = match address.strip_prefix("unix:") {
            Some(path) if path.starts_with('@') => return None,
            Some(path) => path,
            None if address.starts_with("seqpacket:") => return None,
            None => address,
        };
        Some(format!("{address}={fd}"))
    });
    described.collect()
}

/// Asserts that the trial worker answers at this address.
#[track_caller]
fn assert_tried(address: &str) {
    assert_tried_by(address, "\"generation\":2,\"slot\":null,\"index\":1");
}

#[track_caller]
fn assert_tried_by(address: &str, answer: &str) {
    let mut command = std::process::Command::new(binaries::einhyrningsinsctl());
    command.args(["probe", "http:/", "--addr", address, "--contains", answer]);
    process::run(command).assert_code(0);
}

fn every_kind_of_socket_has_a_twin() {
    let builder = Master::builder();
    let mut command = Command::new(builder.file("command"));
    let (path, packets) =
        (builder.file("web").display().to_string(), builder.file("seq").display().to_string());
    let builder =
        builder.options(["-b", "127.0.0.1:0,name=web", "-b", "[::1]:0", "-b", "0.0.0.0:0,reuseport"]);
    let builder = builder.options(["-b", &format!("unix:{path}"), "-b", &format!("seqpacket:{packets}")]);
    let builder = builder.options(["-b", "udp:127.0.0.1:0"]);
    while_checked(
        builder,
        &mut command,
        || (),
        |master, checked| {
            let [web, six, any, unix, seqpacket, udp] = &checked.addresses[..] else { panic!() };
            for (address, prefix) in [(web, "127.0.0.1:"), (six, "[::1]:"), (any, "127.0.0.1:")] {
                assert!(address.starts_with(prefix), "{address}");
                assert_tried(address);
            }
            let directory = trial_directory(master);
            assert_eq!(fs::metadata(&directory).expect("a directory").mode() & 0o7777, 0o700);
            for (address, prefix) in [(unix, "unix:"), (seqpacket, "seqpacket:")] {
                let found = address.strip_prefix(prefix).map(Path::new).and_then(Path::parent);
                assert_eq!(found, Some(&*directory), "{address}");
            }
            assert!(udp.starts_with("udp:127.0.0.1:"), "{udp}");
            assert_tried(unix);
            // At the pool's own address it does not answer.
            let address = master.addresses_of_tcp()[0];
            let plan = Plan { fresh: 1, keep_alive: 0, requests_max: 20, ..Plan::new(address) };
            assert_eq!(plan.start().run_to_end().generations(), [1].into());
        },
    );
}

fn a_socket_that_the_parent_has_left_open_has_a_twin() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty())).expect("its flags");
    let builder = Master::builder();
    let mut command = Command::new(builder.file("command"));
    let builder = builder.options(["-b", &format!("fd:{}", listener.as_raw_fd())]);
    while_checked(builder, &mut command, || drop(listener), |_, checked| assert_tried(&checked.addresses[0]));
}

fn a_socket_of_socket_activation_has_a_twin() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("its address");
    drop(free);
    let builder = Master::builder();
    let mut command = Command::new(builder.file("command"));
    let path = builder.file("web").display().to_string();
    let tool = ["systemd-socket-activate", "-l", &address.to_string(), "-l", &path, "--fdname=tcp:unix"];
    let builder = builder.under(tool).options(["-b", "systemd:tcp", "-b", "systemd:unix"]);
    // The tool becomes the master at the first connection.
    let activate = || {
        wait::wait_for("the tool to listen", || TcpStream::connect(address).ok().map(drop));
    };
    while_checked(builder, &mut command, activate, |_, checked| {
        checked.addresses.iter().for_each(|address| assert_tried(address));
    });
}

/// The manager keeps the sockets of a master that was killed, and gives them to the next one.
fn a_socket_that_a_service_manager_has_kept_has_a_twin() {
    let builder = Master::builder().workers(2).without_bind();
    let mut command = Command::new(builder.file("command"));
    let path = builder.file("web").display().to_string();
    let releases = Releases::new(builder.file("app"));
    releases.add(2, "");
    let builder =
        builder.options(["-b", "127.0.0.1:0", "-b", &format!("unix:{path}"), "--check", &command.line()]);
    let (builder, log) = kept_by(releases.run_by(builder.options(["-s", "0.01"])), 100);
    let mut master = builder.start();
    wait_ready(&mut master, &log, 1);
    let real: Vec<_> = master.status().listeners.into_iter().map(|listener| listener.address).collect();
    let before = crash(&mut master);
    wait_next(&mut master, before);
    let now: Vec<_> = master.status().listeners.into_iter().map(|listener| listener.address).collect();
    assert_eq!(now, real, "kept");

    releases.link(2);
    let upgrade = master.ctl_command(["upgrade"]);
    let upgrade = thread::spawn(|| process::run(upgrade));
    let pid = master.status().master.pid;
    let environment = command.wait_running_under(&mut master, pid).environment();
    for (number, real) in real.iter().enumerate() {
        let twin = &environment[&format!("EINHORN_CHECK_ADDR_{number}")];
        assert_ne!(twin, real);
        assert_tried_by(twin, "\"generation\":2,\"slot\":null");
    }
    command.ends_with(0);
    upgrade.join().expect("the control client ends").assert_code(0);
    assert_eq!(master.wait_up(2).master.generation, 2);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode");
}

/// A builder whose directory any user may enter, with a program there that any user may run.
fn open_to_all() -> MasterBuilder {
    let builder = Master::builder();
    let directory = builder.file("serve").parent().expect("a directory").to_owned();
    set_mode(&directory, 0o755);
    place_worker(&directory.join("serve"));
    builder.option("--chdir").option(&directory).program(["./serve"])
}

fn another_user_runs_the_trial_worker_and_the_command() {
    let builder = open_to_all();
    let mut command = Command::new(builder.file("command"));
    set_mode(&builder.file("command"), 0o666);
    let (path, directory) = (builder.file("web").display().to_string(), builder.file(""));
    let builder = builder.program(["./serve", "ack=notify"]);
    let builder = builder.options(["--user", "54321:54322", "-b", &format!("unix:{path}")]);
    while_checked(
        builder,
        &mut command,
        || (),
        |master, checked| {
            for process in [checked.trial, checked.command] {
                let ids = ["Uid", "Gid"].map(|field| process.status(field).unwrap_or_default());
                assert_eq!(ids, ["54321\t54321\t54321\t54321", "54322\t54322\t54322\t54322"], "{process:?}");
                assert_eq!(process.directory(), Some(directory.canonicalize().expect("a directory")));
            }
            let found = fs::metadata(trial_directory(master)).expect("a directory");
            assert_eq!((found.mode() & 0o7777, found.uid()), (0o700, 54_321));
            assert_tried(&checked.addresses[0]);
        },
    );
}

/// Its listener is in the group of the pool's for as long as it is tried.
fn a_program_that_binds_the_port_by_itself_fails_the_check() {
    let builder = Master::builder().workers(2).without_bind().options(["-b", "127.0.0.1:0,reuseport"]);
    let releases = Releases::new(builder.file("app"));
    let builder = builder.options(["--check", &probe("http:/"), "-s", "0.01"]);
    let mut master = releases.run_by(builder).start();
    let address: SocketAddr = master.address();
    releases.add(2, &format!("own={address}"));
    let load = Plan { fresh: 8, keep_alive: 4, ..Plan::new(address) }.start();
    load.wait_for_answers(50);
    releases.link(2);
    let workers = master.workers_up();
    for way in [&["upgrade"][..], &["upgrade", "--fleet"], &["upgrade", "--canary", "1", "--soak", "600"]] {
        let upgrade = master.ctl(way);
        let why = format!("the check failed: the program binds {address} by itself");
        upgrade.assert_code(1).assert_says(&why).assert_says("no worker was touched");
        master.wait("the end of the trial worker", |master| {
            (master.process().children() == workers).then_some(())
        });
        load.wait_for_answers(200);
    }
    assert_eq!(master.workers_up(), workers);
    let report = load.stop();
    report.assert_nothing_lost();
    assert_eq!(report.generations(), [1].into(), "{report}");
}

fn another_user_cannot_name_a_command() {
    let builder = open_to_all();
    let client = builder.file("einhyrningsinsctl");
    let mut copy = std::process::Command::new("install");
    copy.args(["-m", "755"]).arg(binaries::einhyrningsinsctl()).arg(&client);
    process::run(copy).assert_code(0);
    let (made, theirs) = (builder.file("made"), builder.file("theirs"));
    let check = format!("touch {}", made.display());
    let builder = builder.options(["--control-mode", "660", "--control-group", "54322", "--check", &check]);
    let master = builder.start();
    let upgrade = |words: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", "54321", "--regid", "54322", "--clear-groups"]).arg(&client);
        command.arg("-d").arg(master.socket()).arg("upgrade").args(words);
        process::run(command)
    };
    let own = format!("touch {}", theirs.display());
    for words in [
        &["--check", &own][..],
        &["--canary", "1", "--soak-check", &own],
        &["--no-check", "--canary", "1", "--soak-check", &own],
    ] {
        let why = "upgrade refused: only root and the user of the master may say what checks a release";
        upgrade(words).assert_code(1).assert_says(why);
    }
    assert!(!made.exists() && !theirs.exists(), "{master}");
    upgrade(&[]).assert_code(0);
    assert!(made.exists() && !theirs.exists(), "{master}");
    master.ctl(["upgrade", "--check", &own]).assert_code(0);
    assert!(theirs.exists(), "{master}");
}
