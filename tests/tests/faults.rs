//! The master outlives what happens around it: failing system calls, dying workers, readers that stop reading.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::chown;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use tests::faults::{Strace, limit_wrapper, prlimit, strace_wrapper};
use tests::{Control, Finished, Gate, Master, MasterBuilder, Process, Releases, binaries, wait};

tests::trials! {
    an_accept_that_fails_is_tried_again needs "strace",
    an_accept_that_goes_on_failing_is_tried_at_a_measured_pace needs "strace",
    a_spawn_that_fails_for_want_of_processes_is_tried_again needs "strace",
    a_spawn_that_goes_on_failing_is_tried_at_a_measured_pace needs "strace",
    a_first_start_outlasts_failing_spawns needs "strace",
    a_master_without_a_free_descriptor_goes_on_and_recovers needs "util-linux",
    a_start_without_enough_descriptors_is_one_message needs "util-linux",
    all_workers_killed_at_once_come_back,
    a_first_start_whose_workers_crash_gives_up_and_says_why,
    a_first_start_whose_workers_never_ack_gives_up_and_says_why,
    a_program_that_puts_itself_into_the_background_is_named,
    retries_can_be_chosen,
    a_worker_that_dies_after_its_ack_is_replaced_again_and_again,
    the_last_words_of_a_worker_come_before_its_death,
    the_last_words_of_a_worker_that_dies_while_another_is_reaped_are_heard needs "strace",
    a_death_by_a_signal_is_reported_by_its_name needs "util-linux",
    a_worker_that_dumps_core_is_reported_so needs "core file" "util-linux",
    workers_go_on_when_their_master_is_killed,
    workers_are_asked_to_stop_when_their_master_is_killed_with_k,
    a_reader_of_the_log_that_stops_reading_stalls_nothing,
    a_reader_of_another_users_pipe_that_stops_reading_stalls_nothing needs "root" "util-linux",
    a_reader_that_stops_reading_keeps_no_master_from_stopping needs "root" "util-linux",
    a_reader_of_the_log_that_goes_away_kills_nothing,
    a_log_on_a_full_disk_kills_nothing,
    a_child_that_is_no_worker_is_reaped,
}

/// The ways to make a process.
const SPAWN_CALLS: &str = "clone,clone3,fork,vfork";

fn count_injected(log: &std::path::Path) -> usize {
    fs::read_to_string(log).unwrap_or_default().lines().filter(|line| line.contains("(INJECTED)")).count()
}

fn an_accept_that_fails_is_tried_again() {
    for error in ["EMFILE", "ENFILE", "ENOMEM", "ECONNABORTED"] {
        let mut master = Master::builder().start();
        let log = master.file("strace");
        let inject = format!("accept4,accept:error={error}:when=1..2");
        let strace = Strace::attach(master.process(), &inject, &log);
        // Answered, though the first two tries to take the connection fail and nothing else comes to wake the
        // master up.
        master.status();
        strace.detach();
        assert_eq!(count_injected(&log), 2, "{error}: {}", fs::read_to_string(&log).unwrap_or_default());
        master.assert_well(1);
    }
}

/// While no descriptor is left, a master that tried again at once, and again, would burn a CPU.
fn an_accept_that_goes_on_failing_is_tried_at_a_measured_pace() {
    let mut master = Master::builder().start();
    let log = master.file("strace");
    let strace = Strace::attach(master.process(), "accept4,accept:error=EMFILE", &log);
    let mut waiting = Control::connect(master.socket());
    waiting.send(r#"{"command":"version"}"#);
    master.wait("three tries", |_| (count_injected(&log) >= 3).then_some(()));
    // The workers are still looked after.
    let worker = master.process().children()[0];
    worker.signal(Signal::SIGKILL);
    worker.wait_gone();
    master.wait("a successor", |master| {
        master.process().children().iter().any(|child| *child != worker).then_some(())
    });
    let tries = count_injected(&log);
    strace.detach();
    assert_eq!(waiting.reply().ok, Some(true));
    assert!(tries < 1000, "{tries} tries in a row");
    master.assert_well(1);
}

fn a_spawn_that_fails_for_want_of_processes_is_tried_again() {
    let mut master = Master::builder().workers(2).options(["-s", "0.05"]).start();
    let log = master.file("strace");
    let strace = Strace::attach(master.process(), &format!("{SPAWN_CALLS}:error=EAGAIN:when=1..3"), &log);
    let workers = master.workers_up();
    master.kill_workers(&workers);
    master.wait("three failed spawns", |_| (count_injected(&log) >= 3).then_some(()));
    master.wait_up(2);
    strace.detach();
    master.wait_log("Resource temporarily unavailable");
    master.assert_well(2);
}

/// While there is no process to be had, a master that tried again at once, and again, would do nothing else.
fn a_spawn_that_goes_on_failing_is_tried_at_a_measured_pace() {
    let mut master = Master::builder().options(["-s", "3600"]).start();
    let log = master.file("strace");
    let workers = master.workers_up();
    master.kill_workers(&workers);
    let strace = Strace::attach(master.process(), &format!("{SPAWN_CALLS}:error=EAGAIN"), &log);
    assert_eq!(master.control().ask("respawn", &[]).ok, Some(true));
    master.wait_status("a spawn that has failed and waits", |status| {
        let slot = &status.slots[0];
        let has_failed = slot.last_death.as_ref().is_some_and(|death| death.reason.contains("os error 11"));
        has_failed && slot.next_spawn_ms.is_some()
    });
    strace.detach();
    assert_eq!(count_injected(&log), 1, "{master}");
    assert_eq!(master.control().ask("respawn", &[]).ok, Some(true));
    master.assert_well(1);
}

fn a_first_start_outlasts_failing_spawns() {
    for error in ["EAGAIN", "ENOMEM"] {
        let builder = Master::builder().workers(2).options(["-s", "0.05"]);
        let log = builder.file("strace");
        let inject = format!("{SPAWN_CALLS}:error={error}:when=1..4");
        let mut master = builder.under(strace_wrapper(&inject, &log)).start();
        assert_eq!(count_injected(&log), 4);
        master.assert_well(2);
    }
}

fn a_master_without_a_free_descriptor_goes_on_and_recovers() {
    let mut master = Master::builder().workers(2).options(["-s", "0.05"]).start();
    let workers = master.workers_up();
    let highest = *master.process().descriptors().keys().max().expect("descriptors");
    // No new descriptor can be had: none for a client, none for a spawn.
    prlimit(master.process(), &format!("--nofile={}:4096", highest + 1));
    let mut waiting = Control::connect(master.socket());
    waiting.send(r#"{"command":"version"}"#);
    workers[0].signal(Signal::SIGKILL);
    workers[0].wait_gone();
    assert!(master.process().is_alive(), "{master}");
    prlimit(master.process(), "--nofile=4096:4096");
    assert_eq!(waiting.reply().ok, Some(true));
    master.wait_reaped(&workers[..1]);
    master.assert_well(2);
}

fn a_start_without_enough_descriptors_is_one_message() {
    let finished = Master::builder().under(limit_wrapper("--nofile=5:5")).run_to_end();
    finished.assert_code(1).assert_says("Too many open files");
    assert!(!finished.stderr.contains("panicked"), "{finished}");
}

fn all_workers_killed_at_once_come_back() {
    let mut master = Master::builder().workers(4).options(["-s", "0.01"]).start();
    let before = master.workers_up();
    master.kill_workers(&before);
    master.assert_well(4);
    assert!(master.workers_up().iter().all(|worker| !before.contains(worker)), "{master}");
}

fn a_first_start_whose_workers_crash_gives_up_and_says_why() {
    let builder = Master::builder().workers(2).options(["-s", "0.01"]).serve(["exit_before_ack=9"]);
    let finished = builder.run_to_end();
    let program = binaries::worker("serve").display().to_string();
    assert_last_words(&finished, &[&program, "exited with status 9", "after ", "own output says more"]);
    assert!(!builder.file("einhorn.sock").exists(), "{finished}");
}

fn a_first_start_whose_workers_never_ack_gives_up_and_says_why() {
    let builder = Master::builder().options(["-s", "0.01", "--ack-timeout", "0.1"]).serve(["ack=none"]);
    let finished = builder.run_to_end();
    let program = binaries::worker("serve").display().to_string();
    assert_last_words(&finished, &[&program, "--ack-timeout", "after ", "worker:ack"]);
    assert_eq!(deaths_before_ack(&finished), 3, "{finished}");
}

fn a_program_that_puts_itself_into_the_background_is_named() {
    // Its child is gone when the master is.
    let child = r#"while [ -S "$EINHORN_SOCK_PATH" ]; do sleep 0.05; done"#;
    let script = format!("#!/bin/sh\nsetsid sh -c '{child}' & exit 0\n");
    let hint = "a program that puts itself into the background exits with status 0 like this; run it in the foreground";
    let builder = Master::builder().workers(2).options(["-s", "0.01"]).timer_acks(30.0);
    let finished = builder.program(["/bin/sh", "-c", script.as_str()]).run_to_end();
    assert_last_words(&finished, &["exited with status 0", hint, "php-fpm -F"]);
    let named = finished.stderr.lines().filter(|line| line.contains("WARN") && line.contains(hint));
    assert_eq!(named.count(), 1, "{finished}");

    let builder = Master::builder().workers(2).options(["-s", "0.01"]);
    let releases = Releases::new(builder.file("app"));
    releases.add_script(2, &script, 0o755);
    let mut master = releases.run_by(builder).start();
    releases.link(2);
    let upgrade = master.ctl(["upgrade"]);
    upgrade.assert_code(1).assert_says(&format!("hint: {hint}"));
    assert!(master.log().contains(&format!("(generation 2) has not acked: {hint}")), "{master}");
    releases.assert_all_run(&mut master, 2, 1);
}

fn retries_can_be_chosen() {
    let builder = Master::builder().options(["-s", "0.01", "-r", "5"]).serve(["exit_before_ack=9"]);
    let finished = builder.run_to_end();
    finished.assert_code(1);
    assert_eq!(deaths_before_ack(&finished), 5, "{finished}");
}

/// It ended with 1, and its last line says all that an operator needs.
#[track_caller]
fn assert_last_words(finished: &Finished, words: &[&str]) {
    finished.assert_code(1);
    let last = finished.stderr.lines().rfind(|line| line.contains("ERROR")).unwrap_or_default();
    for word in words {
        assert!(last.contains(word), "no {word:?} in the last words: {last}\n{finished}");
    }
}

fn deaths_before_ack(finished: &Finished) -> usize {
    let warnings = finished.stderr.lines().filter(|line| line.contains("WARN"));
    warnings.filter(|line| line.contains("unacked")).count()
}

fn a_worker_that_dies_after_its_ack_is_replaced_again_and_again() {
    let mut master = Master::builder().options(["-s", "0.05"]).serve(["exit_after_ms=60"]).start_unready();
    let status = master.wait_status("five restarts", |status| status.slots[0].restarts >= 5);
    let death = status.slots[0].last_death.as_ref().expect("a death");
    assert!(death.acked && death.reason == "exited with status 7", "{death:?}");
    assert!(!status.slots[0].given_up);
}

/// A worker acks and dies while the master looks elsewhere: it finds both at once, and the death last.
fn the_last_words_of_a_worker_come_before_its_death() {
    for ack in ["control", "notify", "fd"] {
        // Its successor comes in an hour, and changes nothing here.
        let builder = Master::builder().options(["-g", "-s", "3600"]);
        let mut gate = Gate::closed(builder.file("gate"));
        let knobs = [gate.knob(), format!("ack={ack}"), "exit_after_ms=0".into()];
        let mut master = builder.serve(knobs).start_unready();
        let worker = master.wait("the worker", |master| master.process().children().first().copied());
        master.signal(Signal::SIGSTOP);
        master.wait("the master to stop", |master| master.process().is_stopped().then_some(()));
        gate.open();
        worker.wait_gone();
        master.signal(Signal::SIGCONT);
        let status = master.wait_status("its death", |status| status.slots[0].last_death.is_some());
        let death = status.slots[0].last_death.as_ref().expect("a death");
        assert!(death.acked && death.reason == "exited with status 7", "{ack}: {death:?}");
    }
}

/// Its worker is not a Rust program, whose runtime catches SIGSEGV.
fn sleeper() -> MasterBuilder {
    Master::builder().timer_acks(0.0).program(["sleep", "1000"])
}

/// While the master reaps one worker, another acks and dies. strace holds the master at that call.
fn the_last_words_of_a_worker_that_dies_while_another_is_reaped_are_heard() {
    let builder = Master::builder().workers(2).options(["-s", "3600"]);
    let mut gate = Gate::closed(builder.file("gate"));
    let knobs = [gate.knob(), "ack=notify".to_owned(), "exit_after_ms=0".into()];
    let mut master = builder.serve(knobs).start_unready();
    let workers = master.wait("two workers", |master| {
        let children = master.process().children();
        <[Process; 2]>::try_from(children).ok()
    });
    let log = master.file("strace");
    let strace = Strace::attach(master.process(), "wait4:delay_enter=5000000:when=1", &log);
    workers[0].signal(Signal::SIGKILL);
    master.wait("the master to reap", |master| master.process().is_reaping().then_some(()));
    gate.open();
    workers[1].wait_gone();
    strace.detach();
    let status =
        master.wait_status("both deaths", |status| status.slots.iter().all(|slot| slot.last_death.is_some()));
    let acked = |pid: i32| {
        let deaths = status.slots.iter().filter_map(|slot| slot.last_death.as_ref());
        deaths.filter(|death| death.pid == Some(pid)).map(|death| death.acked).next()
    };
    assert_eq!(workers.map(|worker| acked(worker.pid())), [Some(false), Some(true)], "{master}");
}

fn a_death_by_a_signal_is_reported_by_its_name() {
    let mut master = sleeper().options(["-s", "0.01"]).under(limit_wrapper("--core=0")).start();
    for (signal, name) in [
        (Signal::SIGSEGV, "SIGSEGV"),
        (Signal::SIGABRT, "SIGABRT"),
        (Signal::SIGBUS, "SIGBUS"),
        (Signal::SIGKILL, "SIGKILL"),
        (Signal::SIGALRM, "SIGALRM"),
    ] {
        let restarts = master.status().slots[0].restarts;
        master.wait_up(1);
        master.workers_up()[0].signal(signal);
        let status = master.wait_status("its death", |status| status.slots[0].restarts > restarts);
        let death = status.slots[0].last_death.as_ref().expect("a death");
        assert_eq!(
            death.reason.strip_suffix(" (core dumped)").unwrap_or(&death.reason),
            format!("was killed by {name}")
        );
    }
}

fn a_worker_that_dumps_core_is_reported_so() {
    let builder = sleeper();
    let directory = builder.file("cores");
    fs::create_dir(&directory).expect("a directory");
    let builder = builder.under(limit_wrapper("--core=unlimited")).option("--chdir").option(&directory);
    let mut master = builder.start();
    master.workers_up()[0].signal(Signal::SIGABRT);
    master.wait_log("was killed by SIGABRT (core dumped)");
}

fn workers_go_on_when_their_master_is_killed() {
    let mut master = Master::builder().workers(2).start();
    let workers = master.workers_up();
    let address = master.address();
    master.signal(Signal::SIGKILL);
    master.wait_exit();
    let plan = tests::load::Plan { requests_max: 100, ..tests::load::Plan::new(address) };
    let report = plan.start().run_to_end();
    assert_eq!((report.requests, report.failed()), (100, 0), "{report}");
    assert!(workers.iter().all(Process::is_alive), "{master}");
}

fn workers_are_asked_to_stop_when_their_master_is_killed_with_k() {
    let mut master = Master::builder().workers(2).option("-k").start();
    let first = master.workers_up();
    master.upgrade();
    master.wait_up(2);
    assert!(first.iter().all(|worker| !worker.is_alive()));
    let workers = master.workers_up();
    master.signal(Signal::SIGKILL);
    master.wait_exit();
    workers.iter().for_each(Process::wait_gone);
}

/// A pipe that nobody reads, as small as the system allows.
fn small_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).expect("a smaller pipe");
    assert!(writer.as_raw_fd() > 2);
    (reader, writer)
}

fn a_reader_of_the_log_that_stops_reading_stalls_nothing() {
    stop_reading(Master::builder());
}

/// It cannot be opened again: a log of runit or daemontools, "su app -c ... 2>&1 | logger".
fn of_another_user() -> MasterBuilder {
    let builder = Master::builder();
    chown(builder.file(""), Some(1234), Some(1234)).expect("an owner");
    builder.under(["setpriv", "--reuid", "1234", "--regid", "1234", "--clear-groups"])
}

fn a_reader_of_another_users_pipe_that_stops_reading_stalls_nothing() {
    stop_reading(of_another_user());
}

fn a_reader_that_stops_reading_keeps_no_master_from_stopping() {
    let (_reader, writer) = small_pipe();
    let mut master = of_another_user().option("-v").stderr(writer.into()).start();
    for _ in 0..20 {
        master.upgrade();
    }
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
}

fn stop_reading(builder: MasterBuilder) {
    let (mut reader, writer) = small_pipe();
    let builder = builder.workers(2).options(["-v", "-s", "0.01"]).stderr(writer.into());
    let mut master = builder.start();
    // Far more than the pipe holds.
    for _ in 0..20 {
        master.upgrade();
    }
    let workers = master.workers_up();
    master.kill_workers(&workers);
    master.assert_well(2);

    // Read again, it goes on.
    let mut bytes = vec![0; 1 << 16];
    let first = reader.read(&mut bytes).expect("what was kept");
    assert!(first > 2000, "only {first} bytes were kept");
    master.upgrade();
    let again = reader.read(&mut bytes).expect("what came after");
    assert!(again > 0);
    // What another image finds is not in the pipe yet.
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    let finished = master.ctl(["--trust-owner", "1234", "reload"]);
    assert_eq!(finished.code(), 0, "{finished}");
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    let text = reading.join().expect("no panic").expect("the rest of the log");
    assert!(text.contains("the master replaced itself"), "{text}");
    assert!(text.ends_with('\n'), "{text}");
    // The first line may have been read in part.
    assert!(text.lines().skip(1).all(|line| line.contains(" einhyrningsins[")), "no line is cut: {text}");
}

fn a_reader_of_the_log_that_goes_away_kills_nothing() {
    let (reader, writer) = small_pipe();
    let mut master = Master::builder().workers(2).stderr(writer.into()).start();
    drop(reader);
    master.upgrade();
    master.assert_well(2);
}

fn a_log_on_a_full_disk_kills_nothing() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("a full device");
    let mut master = Master::builder().workers(2).stderr(full.into()).start();
    master.upgrade();
    master.assert_well(2);
}

fn a_child_that_is_no_worker_is_reaped() {
    // A master that was made by exec may have children already.
    let builder = Master::builder().under(["/bin/sh", "-c", "sleep 0.2 & exec \"$@\"", "sh"]);
    let mut master = builder.start();
    let children =
        || wait::within(wait::patience(), || (master.process().children().len() == 1).then_some(()));
    assert!(children().is_some(), "{master}");
    master.assert_well(1);
}
