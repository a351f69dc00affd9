//! The master as a service of systemd: what it tells a service manager, in which order, and what becomes of it when
//! nobody listens. And workers that speak as services do, with `systemd-notify` and by hand.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use tests::process::run;
use tests::{Gate, Master, MasterBuilder, ServiceManager, binaries, place_worker};

tests::trials! {
    ready_is_told_when_the_first_workers_are_up_and_not_before,
    an_upgrade_and_a_rollback_stand_between_reloading_and_ready,
    an_upgrade_that_fails_is_told_as_over_and_as_failed,
    a_hangup_that_comes_to_nothing_is_answered_too,
    a_hangup_during_an_upgrade_is_answered_at_its_end,
    a_master_that_replaces_itself_ends_what_the_one_before_began,
    an_upgrade_that_begins_with_the_master_itself_is_one_reload,
    a_master_that_cannot_be_replaced_is_ready_as_before,
    a_stop_is_told_and_asks_for_time_as_long_as_workers_drain,
    a_release_that_does_not_come_up_is_told_before_the_end,
    the_watchdog_hears_of_the_loop_and_of_the_next_image_too,
    the_watchdog_of_another_process_is_not_fed_and_an_idle_master_sleeps,
    a_manager_that_does_not_read_holds_nothing_up_and_misses_nothing,
    a_manager_that_is_gone_or_cannot_be_told_is_a_warning,
    workers_are_not_told_of_the_masters_manager,
    systemd_notify_acks_for_a_worker needs "systemd",
    a_few_lines_of_python_ack_for_a_worker needs "python3",
    the_unit_files_are_read_without_a_warning_and_are_hardened needs "systemd",
}

/// A master of `manager`.
fn service(manager: &ServiceManager) -> MasterBuilder {
    Master::builder().workers(2).env("NOTIFY_SOCKET", manager.path())
}

/// Its workers are what the file `knobs` beside the socket says, each time anew.
fn changing(manager: &ServiceManager) -> MasterBuilder {
    set_knobs(manager, "");
    service(manager).serve([format!("@{}", manager.file("knobs").display())])
}

fn set_knobs(manager: &ServiceManager, knobs: &str) {
    fs::write(manager.file("knobs"), knobs).expect("a file of knobs");
}

fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock").into()
}

fn ready_is_told_when_the_first_workers_are_up_and_not_before() {
    let mut manager = ServiceManager::new();
    let builder = service(&manager);
    let mut gate = Gate::closed(builder.file("gate"));
    let mut master = builder.serve([gate.knob()]).start_unready();
    manager.wait_for(&mut master, "STATUS", |text| text == "starting: 0 of 2 workers up");
    manager.assert_nothing_else();
    // Nobody gets past the gate, and a hangup is no way around it.
    master.signal(Signal::SIGHUP);
    master.wait_log("upgrade to generation 2 of 2 workers began");
    manager.assert_nothing_else();
    gate.open();
    manager.expect(&master, "READY=1");
}

fn an_upgrade_and_a_rollback_stand_between_reloading_and_ready() {
    let mut manager = ServiceManager::new();
    let master = service(&manager).start();
    let ready = manager.expect(&master, "READY=1");
    assert_eq!(ready.value("STATUS"), Some("2 of 2 workers up, generation 1"));
    let mut begun = monotonic();
    for (command, generation) in [("upgrade", 2), ("rollback", 1)] {
        master.ctl([command]).assert_code(0);
        let reloading = manager.expect(&master, "RELOADING=1");
        let since = reloading.value("MONOTONIC_USEC").and_then(|since| since.parse().ok());
        let since = Duration::from_micros(since.expect("MONOTONIC_USEC in the same datagram"));
        assert!(since >= begun && since <= monotonic(), "{reloading}");
        let ready = manager.expect(&master, "READY=1");
        let expected = format!("2 of 2 workers up, generation {generation}");
        assert_eq!(ready.value("STATUS"), Some(expected.as_str()));
        begun = monotonic();
    }
    manager.assert_nothing_else();
}

fn an_upgrade_that_fails_is_told_as_over_and_as_failed() {
    let mut manager = ServiceManager::new();
    let mut master = changing(&manager).options(["-r", "1"]).start();
    manager.expect(&master, "READY=1");
    set_knobs(&manager, "exit_before_ack=3");
    master.signal(Signal::SIGHUP);
    manager.expect(&master, "RELOADING=1");
    let ready = manager.expect(&master, "READY=1");
    let expected = "2 of 2 workers up, generation 1; the upgrade to generation 2 failed";
    assert_eq!(ready.value("STATUS"), Some(expected));
    set_knobs(&manager, "");
    master.upgrade();
    manager.expect(&master, "RELOADING=1");
    let ready = manager.expect(&master, "READY=1");
    assert_eq!(ready.value("STATUS"), Some("2 of 2 workers up, generation 3"), "it is forgotten");
}

/// `Type=notify-reload` sends SIGHUP and waits for both, whatever the master makes of it.
fn a_hangup_that_comes_to_nothing_is_answered_too() {
    let mut manager = ServiceManager::new();
    let builder = service(&manager);
    let program = builder.file("server");
    place_worker(&program);
    let mut master = builder.program([&program]).start();
    manager.expect(&master, "READY=1");
    fs::remove_file(&program).expect("the program goes");
    for _ in 0..3 {
        master.signal(Signal::SIGHUP);
        manager.expect(&master, "RELOADING=1");
        manager.expect(&master, "READY=1");
    }
    assert_eq!(master.wait_up(2).master.generation, 1);
    manager.assert_nothing_else();
}

fn a_hangup_during_an_upgrade_is_answered_at_its_end() {
    let mut manager = ServiceManager::new();
    let builder = service(&manager);
    let mut gate = Gate::new(builder.file("gate"));
    let mut master = builder.serve([gate.knob()]).start();
    manager.expect(&master, "READY=1");
    gate.close();
    for _ in 0..3 {
        master.signal(Signal::SIGHUP);
        manager.expect(&master, "RELOADING=1");
    }
    manager.assert_nothing_else();
    gate.open();
    manager.expect(&master, "READY=1");
    master.wait_up(2);
    manager.assert_nothing_else();
}

fn a_master_that_replaces_itself_ends_what_the_one_before_began() {
    let mut manager = ServiceManager::new();
    let mut master = service(&manager).start();
    manager.expect(&master, "READY=1");
    let process = master.process();
    for _ in 0..2 {
        let reply = master.control().ask("reload", &[]);
        assert_eq!(reply.ok, Some(true), "{}\n{master}", reply.message);
        manager.expect(&master, "RELOADING=1");
        manager.expect(&master, "READY=1");
    }
    assert!(process.is_alive());
    manager.assert_nothing_else();
    master.signal(Signal::SIGTERM);
    manager.expect(&master, "STOPPING=1");
    master.wait_exit_code(0);
}

fn an_upgrade_that_begins_with_the_master_itself_is_one_reload() {
    let mut manager = ServiceManager::new();
    let daemon = binaries::einhyrningsins();
    let master = service(&manager).option("--reexec-as").option(daemon).start();
    manager.expect(&master, "READY=1");
    master.signal(Signal::SIGHUP);
    manager.expect(&master, "RELOADING=1");
    let ready = manager.expect(&master, "READY=1");
    assert_eq!(ready.value("STATUS"), Some("2 of 2 workers up, generation 2"));
    assert!(master.log().contains("replaced"), "{master}");
    manager.assert_nothing_else();
}

fn a_master_that_cannot_be_replaced_is_ready_as_before() {
    let mut manager = ServiceManager::new();
    let mut master = service(&manager).option("--reexec-as").option("/bin/false").start();
    manager.expect(&master, "READY=1");
    master.signal(Signal::SIGHUP);
    manager.expect(&master, "RELOADING=1");
    let ready = manager.expect(&master, "READY=1");
    assert!(ready.value("STATUS").is_some_and(|text| text.contains("not replaced")), "{ready}");
    master.wait_up(2);
    manager.assert_nothing_else();
}

fn a_stop_is_told_and_asks_for_time_as_long_as_workers_drain() {
    let mut manager = ServiceManager::new();
    let mut master = service(&manager).options(["-t", "600"]).serve(["ignore_stop"]).start();
    manager.expect(&master, "READY=1");
    let workers = master.workers_up();
    master.signal(Signal::SIGTERM);
    let stopping = manager.expect(&master, "STOPPING=1");
    assert!(
        stopping.value("STATUS").is_some_and(|text| text.starts_with("stopping, 2 workers left: SIGTERM")),
        "{stopping}"
    );
    let more = manager.wait_for(&mut master, "EXTEND_TIMEOUT_USEC", |_| true);
    assert_eq!(more, "30000000");
    // Asked again, it tells nothing new of itself.
    master.signal(Signal::SIGHUP);
    master.signal(Signal::SIGTERM);
    master.kill_worker(workers[0]);
    manager.wait_for(&mut master, "STATUS", |text| text.starts_with("stopping, 1 worker left"));
    workers[1].signal(Signal::SIGKILL);
    master.wait_exit_code(0);
    manager.assert_nothing_else();
}

fn a_release_that_does_not_come_up_is_told_before_the_end() {
    let mut manager = ServiceManager::new();
    let builder = service(&manager).options(["-r", "1"]).serve(["exit_before_ack=3"]);
    builder.run_to_end().assert_code(1);
    let heard = manager.heard().to_vec();
    assert!(heard.iter().all(|told| told.value("READY").is_none()), "{manager}");
    let last = heard.iter().rev().find_map(|told| told.value("STATUS")).expect("a text");
    assert!(last.starts_with("stopping: ") && last.contains("exited with status 3"), "{last}\n{manager}");
    assert_eq!(heard.iter().filter(|told| told.value("STOPPING") == Some("1")).count(), 1, "{manager}");
}

fn the_watchdog_hears_of_the_loop_and_of_the_next_image_too() {
    let mut manager = ServiceManager::new();
    // WATCHDOG_PID is the pid that the shell has before it becomes the master.
    let script = "WATCHDOG_PID=$$ exec \"$0\" \"$@\"";
    let builder = service(&manager).under(["/bin/sh", "-c", script]).env("WATCHDOG_USEC", "300000");
    let mut master = builder.start();
    manager.expect(&master, "READY=1");
    let barks = |manager: &mut ServiceManager| {
        manager.heard().iter().filter(|t| t.value("WATCHDOG").is_some()).count()
    };
    master.wait("three signs of life", |_| (barks(&mut manager) >= 3).then_some(()));
    // The next image goes on with it.
    assert_eq!(master.control().ask("reload", &[]).ok, Some(true), "{master}");
    let before = barks(&mut manager);
    master.wait("three more", |_| (barks(&mut manager) >= before + 3).then_some(()));
}

fn the_watchdog_of_another_process_is_not_fed_and_an_idle_master_sleeps() {
    let mut manager = ServiceManager::new();
    let builder = service(&manager).env("WATCHDOG_USEC", "300000").env("WATCHDOG_PID", "1");
    let mut master = builder.start();
    manager.expect(&master, "READY=1");
    master.wait("sleep without a limit", |master| master.process().sleeps_without_limit().then_some(()));
    assert!(manager.heard().iter().all(|told| told.value("WATCHDOG").is_none()), "{manager}");
}

fn a_manager_that_does_not_read_holds_nothing_up_and_misses_nothing() {
    let mut manager = ServiceManager::new();
    manager.fill();
    let mut master = service(&manager).start();
    for _ in 0..3 {
        master.upgrade();
    }
    master.assert_well(2);
    let heard = manager.heard();
    assert!(heard.iter().all(|told| told.value("FILLER").is_some()), "{manager}");
    manager.expect(&master, "READY=1");
    for _ in 0..3 {
        manager.expect(&master, "RELOADING=1");
        manager.expect(&master, "READY=1");
    }
    manager.assert_nothing_else();
}

fn a_manager_that_is_gone_or_cannot_be_told_is_a_warning() {
    for (address, words) in [
        ("/nowhere/notify", "cannot send to the service manager"),
        ("vsock:2:1234", "NOTIFY_SOCKET=vsock:2:1234"),
    ] {
        let mut master = Master::builder().env("NOTIFY_SOCKET", address).start();
        master.upgrade();
        master.assert_well(1);
        assert_eq!(master.log().matches(words).count(), 1, "once\n{master}");
    }
}

fn workers_are_not_told_of_the_masters_manager() {
    let manager = ServiceManager::new();
    let builder = service(&manager).env("WATCHDOG_USEC", "60000000").env("FDSTORE", "4");
    let mut master = builder.start();
    for worker in master.workers_up() {
        let environment = worker.environment();
        assert!(environment["NOTIFY_SOCKET"].ends_with("/einhorn.sock.notify"), "{environment:?}");
        for name in ["WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE"] {
            assert!(!environment.contains_key(name), "{name} in {environment:?}");
        }
    }
}

/// A master whose worker runs `script`, by an interpreter that its first line names.
#[track_caller]
fn acked_by(script: &str) {
    let builder = Master::builder();
    let program = builder.file("worker");
    fs::write(&program, script).expect("a script");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut master = builder.program([&program]).start();
    let worker = master.wait_worker("what it says", |worker| worker.text.as_deref() == Some("serving"));
    assert!(master.log().contains("acked by READY=1"), "{master}");
    assert_eq!(master.status().slots[0].restarts, 0, "{worker:?}\n{master}");
}

/// It returns only when its `BARRIER=1` was closed; its failure ends the worker.
fn systemd_notify_acks_for_a_worker() {
    acked_by(
        "#!/bin/sh\nsystemd-notify --ready --status=serving || exit 9\nsystemd-notify WATCHDOG=1 || exit 9\n\
         exec sleep 1000\n",
    );
}

fn a_few_lines_of_python_ack_for_a_worker() {
    acked_by(
        "#!/usr/bin/env python3\n\
         import os, socket, time\n\
         def notify(text):\n    \
             address = os.environ['NOTIFY_SOCKET']\n    \
             with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:\n        \
                 s.connect('\\0' + address[1:] if address[0] == '@' else address)\n        \
                 s.sendall(text.encode())\n\
         notify('READY=1\\nSTATUS=serving')\n\
         time.sleep(1000)\n",
    );
}

/// What is written for systemd is read by systemd, and gives little away: an exposure of 2.0 at most, where 10 is the
/// worst.
fn the_unit_files_are_read_without_a_warning_and_are_hardened() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../einhyrningsins/contrib/systemd");
    let copies = tempfile::tempdir().expect("a directory");
    let mut copied = Vec::new();
    for entry in fs::read_dir(&units).expect("the unit files") {
        let path = entry.expect("a unit file").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").replace('@', "@web");
        let text = fs::read_to_string(&path).expect("a unit file");
        // The programs are not where a package puts them.
        let installed = "/usr/local/bin/einhyrningsins";
        let text = text.replace(installed, binaries::einhyrningsins().to_str().expect("a path"));
        let copy = copies.path().join(name);
        fs::write(&copy, text).expect("a copy");
        copied.push(copy);
    }
    assert_eq!(copied.len(), 4, "{copied:?}");
    // Builds it, where it is not.
    drop(binaries::einhyrningsinsctl());
    let mut verify = Command::new("systemd-analyze");
    let verified = run({
        verify.args(["verify", "--man=no"]).args(&copied);
        verify
    });
    verified.assert_code(0);
    let warnings: Vec<_> = verified.stderr.lines().filter(|line| line.contains("einhyrningsins")).collect();
    assert!(warnings.is_empty(), "{verified}");
    for service in copied.iter().filter(|path| path.extension().is_some_and(|kind| kind == "service")) {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=yes", "--threshold=20", "--no-pager"]).arg(service);
        run(command).assert_code(0);
    }
}
