//! What a worker is given: environment, descriptors, signals, directory. Seen from outside in `/proc`, with a
//! worker (`sleep`) that changes nothing of it.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::signal::Signal;
use tests::wait::patience;
use tests::{Master, MasterBuilder, Process};

tests::trials! {
    the_environment_names_sockets_master_slot_and_generation_in_every_convention,
    slots_and_indexes_are_those_of_the_status,
    without_sockets_their_number_is_zero,
    descriptors_are_the_standard_ones_and_the_sockets_and_no_more,
    signals_are_as_in_a_fresh_process_and_the_group_is_its_own,
    what_an_outer_master_set_is_not_passed_on,
    dropped_variables_are_kept_from_workers,
    the_arguments_arrive_as_they_were_typed,
    a_socket_to_the_master_comes_as_a_descriptor_with_g,
    nice_values_are_the_masters_and_the_workers,
    a_generation_keeps_its_directory_and_the_next_one_looks_it_up_anew,
    so_it_is_with_the_directory_that_a_shell_has_entered,
    a_program_is_looked_up_from_its_directory,
    a_dual_stack_port_takes_both_families_and_4_and_6_take_one,
    connections_wait_in_the_queue_while_no_worker_accepts,
    a_host_name_is_looked_up,
    the_real_address_of_port_0_is_logged,
    the_pidfile_holds_the_pid_as_long_as_the_master_lives,
    a_name_shows_in_ps,
}

/// A pool of sleepers.
fn sleepers(builder: MasterBuilder) -> MasterBuilder {
    builder.timer_acks(0.0).program(["sleep", "1000"])
}

/// The one sleeper, asleep: before that, its libraries are loaded through descriptors that come and go.
fn only_worker(master: &mut Master) -> Process {
    let workers = master.workers_up();
    assert_eq!(workers.len(), 1, "{master}");
    master.wait("the sleeper to sleep", |_| workers[0].is_asleep().then_some(()));
    workers[0]
}

#[track_caller]
fn assert_variables(environment: &BTreeMap<String, String>, expected: &[(&str, String)]) {
    for (name, value) in expected {
        assert_eq!(environment.get(*name), Some(value), "{name} in {environment:#?}");
    }
}

fn the_environment_names_sockets_master_slot_and_generation_in_every_convention() {
    let builder = Master::builder().without_bind();
    let builder = builder.options(["-b", "127.0.0.1:0,name=web", "-b", "[::1]:0"]);
    let mut master = sleepers(builder).start();
    let [web, second] = master.addresses().try_into().expect("two listeners");
    let socket = master.socket().to_str().expect("UTF-8").to_owned();
    for generation in 1..=2 {
        let worker = only_worker(&mut master);
        let environment = worker.environment();
        let index = master.status().workers[0].index;
        assert_variables(
            &environment,
            &[
                ("EINHORN_FD_COUNT", "2".into()),
                ("EINHORN_FD_0", "3".into()),
                ("EINHORN_FD_1", "4".into()),
                ("EINHORN_FDS", "3 4".into()),
                ("EINHORN_FD_FAMILY_0", "AF_INET".into()),
                ("EINHORN_FD_FAMILY_1", "AF_INET6".into()),
                ("EINHORN_MASTER_PID", master.process().pid().to_string()),
                ("EINHORN_SOCK_PATH", socket.clone()),
                ("EINHORN_CHILD_INDEX", index.to_string()),
                ("EINHORN_SLOT", "0".into()),
                ("EINHORN_GENERATION", generation.to_string()),
                ("LISTEN_FDS", "2".into()),
                ("LISTEN_PID", worker.pid().to_string()),
                ("SERVER_STARTER_PORT", format!("{web}=3;{second}=4")),
                ("SERVER_STARTER_GENERATION", generation.to_string()),
            ],
        );
        let names = environment.get("LISTEN_FDNAMES").expect("names");
        assert!(names.starts_with("web:") && names.split(':').count() == 2, "{names}");
        assert!(environment.contains_key("NOTIFY_SOCKET"), "{environment:#?}");
        for absent in ["EINHORN_SOCK_FD", "EINHORN_FD_2", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            assert!(!environment.contains_key(absent), "{absent} in {environment:#?}");
        }
        assert_eq!(worker.parent(), Some(master.process().pid()));
        if generation == 1 {
            master.upgrade();
            master.wait_up(1);
        }
    }
}

fn slots_and_indexes_are_those_of_the_status() {
    let mut master = sleepers(Master::builder()).workers(3).start();
    for _ in 0..2 {
        let workers = master.wait_up(3).workers;
        for (worker, process) in workers.iter().zip(master.workers_up()) {
            let environment = process.environment();
            assert_eq!(process.pid(), worker.pid);
            assert_eq!(environment.get("EINHORN_SLOT"), worker.slot.0.map(|slot| slot.to_string()).as_ref());
            assert_eq!(environment.get("EINHORN_CHILD_INDEX"), Some(&worker.index.to_string()));
        }
        master.upgrade();
    }
}

fn without_sockets_their_number_is_zero() {
    let mut master = sleepers(Master::builder().without_bind()).start();
    let worker = only_worker(&mut master);
    let environment = worker.environment();
    assert_eq!(environment.get("EINHORN_FD_COUNT").map(String::as_str), Some("0"));
    assert!(!environment.contains_key("EINHORN_FD_0") && !environment.contains_key("LISTEN_PID"));
    assert_eq!(worker.descriptors().into_keys().collect::<Vec<_>>(), [0, 1, 2]);
}

fn descriptors_are_the_standard_ones_and_the_sockets_and_no_more() {
    let builder = Master::builder().without_bind();
    let builder = builder.options(["-b", "127.0.0.1:0", "-b", "127.0.0.1:0,n"]);
    // Descriptors that whoever started the master left open are not for its workers.
    let builder = builder.under(["/bin/sh", "-c", "exec 7</dev/null 9>/dev/null; exec \"$@\"", "sh"]);
    let mut master = sleepers(builder).start();
    let descriptors = only_worker(&mut master).descriptors();
    assert_eq!(descriptors.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4], "{descriptors:#?}");
    let [masters, workers] = [&master.process(), &only_worker(&mut master)].map(Process::descriptors);
    for standard in 0..=2 {
        assert_eq!(masters[&standard].target, workers[&standard].target);
    }
    for (fd, nonblocking) in [(3, false), (4, true)] {
        let socket = &workers[&fd];
        assert!(socket.target.starts_with("socket:") && !socket.close_on_exec, "{socket:?}");
        assert_eq!(socket.nonblocking, nonblocking, "{fd}: {socket:?}");
        assert!(
            masters.values().any(|ours| ours.target == socket.target && ours.close_on_exec),
            "{masters:#?}"
        );
    }
}

fn signals_are_as_in_a_fresh_process_and_the_group_is_its_own() {
    // A master whose starter ignores and blocks signals must not pass that on.
    let env = ["env", "--ignore-signal=HUP,INT,PIPE,USR2", "--block-signal=TERM,USR1"];
    let mut master = sleepers(Master::builder().under(env)).start();
    let worker = only_worker(&mut master);
    for field in ["SigBlk", "SigIgn", "SigCgt"] {
        let mask = worker.status(field).expect("a mask");
        assert_eq!(u64::from_str_radix(&mask, 16), Ok(0), "{field}: {mask}");
    }
    assert_eq!(worker.group(), Some(worker.pid()));
}

fn what_an_outer_master_set_is_not_passed_on() {
    let builder = Master::builder()
        .env("EINHORN_FD_COUNT", "7")
        .env("EINHORN_FD_6", "9")
        .env("EINHORN_FD_FAMILY_6", "AF_INET")
        .env("EINHORN_SOCK_FD", "8")
        .env("EINHORN_MASTER_PID", "1")
        .env("LISTEN_FDS", "7")
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDNAMES", "a:b")
        .env("NOTIFY_SOCKET", "/outer/notify")
        .env("WATCHDOG_USEC", "1000000")
        .env("WATCHDOG_PID", "1")
        .env("SERVER_STARTER_PORT", "1=1")
        .env("KEPT", "yes");
    let mut master = sleepers(builder).start();
    let environment = only_worker(&mut master).environment();
    for absent in ["EINHORN_FD_6", "EINHORN_FD_FAMILY_6", "EINHORN_SOCK_FD", "WATCHDOG_USEC", "WATCHDOG_PID"]
    {
        assert!(!environment.contains_key(absent), "{absent} in {environment:#?}");
    }
    let pid = master.process().pid().to_string();
    assert_variables(
        &environment,
        &[
            ("EINHORN_FD_COUNT", "1".into()),
            ("EINHORN_MASTER_PID", pid),
            ("LISTEN_FDS", "1".into()),
            ("KEPT", "yes".into()),
        ],
    );
    assert_ne!(environment["NOTIFY_SOCKET"], "/outer/notify");
}

fn dropped_variables_are_kept_from_workers() {
    let builder = Master::builder().env("SECRET", "1").env("SECRET_TOO", "2").env("KEPT", "3");
    let builder = builder.options(["--drop-env-var", "SECRET", "--drop-env-var", "NOT_SET"]);
    let mut master = sleepers(builder).start();
    let environment = only_worker(&mut master).environment();
    assert!(!environment.contains_key("SECRET"), "{environment:#?}");
    assert_variables(&environment, &[("SECRET_TOO", "2".into()), ("KEPT", "3".into())]);
}

fn the_arguments_arrive_as_they_were_typed() {
    let script = "exec sleep 1000";
    let program = ["/bin/sh", "-c", script, "--", "-n", "", "a b", "*"];
    let mut master = Master::builder().timer_acks(0.0).program(program).start();
    let worker = only_worker(&mut master);
    // The shell has become sleep by now, or not yet: what it was given shows in the status.
    assert_eq!(master.status().master.command, program);
    assert!(worker.is_alive());
}

fn a_socket_to_the_master_comes_as_a_descriptor_with_g() {
    let mut master = Master::builder().workers(2).option("-g").serve(["ack=fd"]).start();
    for worker in master.workers_up() {
        let environment = worker.environment();
        assert_eq!(environment.get("EINHORN_SOCK_FD").map(String::as_str), Some("4"));
        assert!(!worker.descriptors()[&4].close_on_exec);
    }
    master.upgrade();
    master.assert_well(2);
}

fn nice_values_are_the_masters_and_the_workers() {
    let mine =
        Process::of(std::process::id() as i32).and_then(|process| process.nice()).expect("a nice value");
    for (option, master_nice, worker_nice) in
        [("3:7", 3, 7), ("5", 5, 5), (":6", mine, 6)].map(|(option, master, worker)| (option, master, worker))
    {
        let mut master = sleepers(Master::builder().options(["--nice", option])).start();
        assert_eq!(master.process().nice(), Some(master_nice), "{option}");
        assert_eq!(only_worker(&mut master).nice(), Some(worker_nice), "{option}");
    }
}

/// A deploy moves a symlink: the generation that runs stays where it was, the next one follows. `place` has the master
/// run its workers there.
#[track_caller]
fn check_that_the_next_generation_follows(place: impl FnOnce(MasterBuilder, &Path) -> MasterBuilder) {
    let builder = Master::builder();
    let (current, old, new) = (builder.file("current"), builder.file("old"), builder.file("new"));
    for directory in [&old, &new] {
        fs::create_dir(directory).expect("a directory");
    }
    symlink(&old, &current).expect("a symlink");
    let mut master = sleepers(place(builder, &current)).start();
    let old = old.canonicalize().expect("the old directory");
    let first = only_worker(&mut master);
    assert_eq!(first.directory(), Some(old.clone()));
    assert_eq!(first.environment()["PWD"], current.to_str().expect("UTF-8"));

    fs::remove_file(&current).expect("the symlink");
    symlink(&new, &current).expect("a symlink");
    master.kill_workers(&[first]);
    master.wait_up(1);
    assert_eq!(only_worker(&mut master).directory(), Some(old));

    master.upgrade();
    master.wait_up(1);
    assert_eq!(only_worker(&mut master).directory(), new.canonicalize().ok());
}

fn a_generation_keeps_its_directory_and_the_next_one_looks_it_up_anew() {
    check_that_the_next_generation_follows(|builder, current| builder.option("--chdir").option(current));
}

/// As with `--chdir`: `cd current && einhyrningsins ...` follows `current`.
fn so_it_is_with_the_directory_that_a_shell_has_entered() {
    check_that_the_next_generation_follows(|builder, current| {
        builder.current_dir(current).env("PWD", current)
    });
}

fn a_program_is_looked_up_from_its_directory() {
    let builder = Master::builder().timer_acks(0.0);
    let script = builder.file("server");
    fs::write(&script, "#!/bin/sh\nexec sleep 1000\n").expect("a script");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let directory = script.parent().expect("a directory").to_path_buf();
    let mut master = builder.option("--chdir").option(&directory).program(["./server"]).start();
    assert!(only_worker(&mut master).is_alive());
}

fn a_dual_stack_port_takes_both_families_and_4_and_6_take_one() {
    for (option, takes_v4, takes_v6) in
        [(None, true, true), (Some("-4"), true, false), (Some("-6"), false, true)]
    {
        let builder = Master::builder().without_bind().options(["-b", ":0"]).options(option);
        let master = sleepers(builder).start();
        let port = master.address().port();
        assert_eq!(TcpStream::connect(("127.0.0.1", port)).is_ok(), takes_v4, "{option:?} {master}");
        assert_eq!(TcpStream::connect(("::1", port)).is_ok(), takes_v6, "{option:?} {master}");
    }
}

fn connections_wait_in_the_queue_while_no_worker_accepts() {
    let mut master = sleepers(Master::builder()).start();
    let room = master.status().listeners[0].backlog.min(300);
    let address = master.address();
    let waiting: Result<Vec<_>, _> =
        (0..room).map(|_| TcpStream::connect_timeout(&address, patience())).collect();
    assert!(waiting.is_ok(), "{room} should find room: {waiting:?}");
}

fn a_host_name_is_looked_up() {
    let builder = Master::builder().without_bind().options(["-4", "-b", "localhost:0"]);
    let master = sleepers(builder).start();
    assert!(master.address().ip().is_loopback(), "{master}");
    assert!(TcpStream::connect(master.address()).is_ok());
}

fn the_real_address_of_port_0_is_logged() {
    let mut master = sleepers(Master::builder()).start();
    let address = master.address().to_string();
    master.wait_log(&address);
}

fn the_pidfile_holds_the_pid_as_long_as_the_master_lives() {
    let builder = Master::builder();
    let (pidfile, lockfile) = (builder.file("pid"), builder.file("lock"));
    fs::write(&pidfile, "left behind").expect("a stale pidfile");
    let builder = builder.option("-e").option(&pidfile).option("-f").option(&lockfile);
    let mut master = builder.start();
    let pid = fs::read_to_string(&pidfile).expect("a pidfile");
    assert_eq!(pid.trim(), master.process().pid().to_string());
    assert!(lockfile.exists());
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    assert!(!pidfile.exists(), "{master}");
}

fn a_name_shows_in_ps() {
    let name = format!("ps-{}", std::process::id());
    let builder = Master::builder().options(["-c", &name]);
    let master = sleepers(builder).start();
    let comm = master.process().status("Name").expect("a name");
    let arguments = master.process().arguments().join(" ");
    assert!(comm.contains(&name) || arguments.contains(&name), "{comm}, {arguments}");
    assert_eq!(master.control().status().master.name, Some(name));
}
