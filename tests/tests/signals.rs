//! What each signal to the master does.

use std::os::unix::process::ExitStatusExt;

use einhorn_proto::MasterState;
use nix::sys::signal::Signal;
use tests::{Gate, Master, MasterBuilder, Process};

tests::trials! {
    int_usr2_and_term_ask_each_worker_in_its_own_convention,
    the_graceful_signal_can_be_chosen,
    quit_passes_quit_on_and_exits_with_1_at_once,
    quit_does_not_wait_for_workers_that_stay,
    usr1_goes_to_every_worker_and_not_to_the_master,
    a_stopping_master_waits_and_the_second_int_becomes_term_and_the_third_kill,
    a_stubborn_worker_is_killed_when_its_grace_is_over,
    hup_upgrades,
    ttin_adds_a_worker_and_ttou_removes_one,
    signals_that_are_neither_handled_nor_a_fault_harm_nothing_and_workers_have_their_defaults,
    a_limit_on_file_sizes_costs_log_lines_and_a_reload_and_not_the_master,
    a_stop_during_an_upgrade_ends_it_and_the_master,
}

/// Workers that go on when they are asked to stop.
fn stubborn() -> Master {
    Master::builder().workers(2).serve(["ignore_stop"]).start()
}

/// Workers that write the stop signal they got to a file and exit.
fn telling(builder: MasterBuilder) -> (Master, std::path::PathBuf) {
    let told = builder.file("told");
    let script = format!(
        "trap 'kill $!' EXIT; for signal in USR1 USR2 TERM QUIT; do trap \"echo $signal >> {told}; [ $signal = USR1 ] || exit 0\" $signal; done; \
         while :; do sleep 1000 & wait $!; kill $!; done",
        told = told.display()
    );
    let mut master = builder.workers(1).timer_acks(0.0).program(["/bin/sh", "-c", &script]).start();
    // The shell has set its traps once it sleeps.
    master.wait("the worker's sleep", |master| {
        master.workers_up().iter().all(|worker| !worker.children().is_empty()).then_some(())
    });
    (master, told)
}

/// What a worker that has ended told.
#[track_caller]
fn assert_told(master: &Master, told: &std::path::Path, text: &str) {
    assert_eq!(std::fs::read_to_string(told).expect("a signal").trim(), text, "{master}");
}

#[track_caller]
fn wait_told(master: &mut Master, told: &std::path::Path, text: &str) {
    master.wait(&format!("{text:?} from the worker"), |_| {
        std::fs::read_to_string(told).ok().filter(|seen| seen.trim() == text)
    });
}

fn int_usr2_and_term_ask_each_worker_in_its_own_convention() {
    for signal in [Signal::SIGINT, Signal::SIGUSR2, Signal::SIGTERM] {
        let (mut master, told) = telling(Master::builder());
        master.signal(signal);
        master.wait_exit_code(0);
        assert_told(&master, &told, "TERM");
        assert!(!master.socket().exists(), "it left its control socket behind\n{master}");
        let names_hangup = master.log().contains("; SIGHUP would upgrade): ");
        assert_eq!(names_hangup, signal == Signal::SIGUSR2, "{master}");
    }
}

fn the_graceful_signal_can_be_chosen() {
    let (mut master, told) = telling(Master::builder().options(["--graceful-signal", "quit"]));
    master.signal(Signal::SIGINT);
    master.wait_exit_code(0);
    assert_told(&master, &told, "QUIT");
}

fn quit_passes_quit_on_and_exits_with_1_at_once() {
    let (mut master, told) = telling(Master::builder());
    let worker = master.workers_up()[0];
    master.signal(Signal::SIGQUIT);
    master.wait_exit_code(1);
    worker.wait_gone();
    assert_told(&master, &told, "QUIT");
}

fn quit_does_not_wait_for_workers_that_stay() {
    let script = "trap '' QUIT; exec sleep 1000";
    let mut master = Master::builder().timer_acks(0.0).program(["/bin/sh", "-c", script]).start();
    master.wait("the worker to ignore QUIT", |master| {
        let arguments = master.workers_up()[0].arguments();
        arguments.first().is_some_and(|name| name == "sleep").then_some(())
    });
    let workers = master.workers_up();
    master.signal(Signal::SIGQUIT);
    master.wait_exit_code(1);
    assert!(workers.iter().all(Process::is_alive), "{master}");
}

fn usr1_goes_to_every_worker_and_not_to_the_master() {
    let (mut master, told) = telling(Master::builder());
    master.signal(Signal::SIGUSR1);
    wait_told(&mut master, &told, "USR1");
    master.wait_up(1);
}

fn a_stopping_master_waits_and_the_second_int_becomes_term_and_the_third_kill() {
    let mut master = stubborn();
    let workers = master.workers_up();
    master.signal(Signal::SIGINT);
    let status = master.wait_status("both to drain", |status| status.master.draining == 2);
    assert_eq!(status.master.state, MasterState::Stopping);
    // One within a second of the last step is taken for part of it.
    master.wait("TERM in the log", |master| {
        master.signal(Signal::SIGINT);
        master.log().contains("sending SIGTERM").then_some(())
    });
    // They ignore it, and the master still waits.
    assert_eq!(master.status().master.draining, 2, "{master}");
    assert!(workers.iter().all(Process::is_alive), "{master}");
    master.wait("KILL in the log", |master| {
        master.signal(Signal::SIGINT);
        master.log().contains("sending SIGKILL").then_some(())
    });
    master.wait_exit_code(0);
    assert!(workers.iter().all(|worker| !worker.is_alive()), "{master}");
}

fn a_stubborn_worker_is_killed_when_its_grace_is_over() {
    let mut master = Master::builder().options(["-t", "0.2"]).serve(["ignore_stop"]).start();
    master.signal(Signal::SIGUSR2);
    let status = master.wait_exit();
    assert_eq!((status.code(), status.signal()), (Some(0), None), "{master}");
    assert!(master.log().contains("SIGKILL"), "{master}");
}

fn hup_upgrades() {
    let mut master = Master::builder().workers(2).start();
    let before = master.workers_up();
    master.signal(Signal::SIGHUP);
    let status = master.wait_status("the upgrade's end", |status| {
        let master = &status.master;
        (master.generation, master.up, master.draining, master.state) == (2, 2, 0, MasterState::Running)
    });
    assert!(status.workers.iter().all(|worker| worker.generation == 2), "{status:?}");
    assert!(before.iter().all(|worker| !worker.is_alive()), "{master}");
}

fn ttin_adds_a_worker_and_ttou_removes_one() {
    let mut master = Master::builder().start();
    master.signal(Signal::SIGTTIN);
    master.wait_up(2);
    master.signal(Signal::SIGTTIN);
    master.wait_up(3);
    master.signal(Signal::SIGTTOU);
    master.wait_up(2);
    master.signal(Signal::SIGTTOU);
    master.wait_up(1);
    // The last one stays, and the log says why.
    master.signal(Signal::SIGTTOU);
    master.wait_log("already at 1");
    master.signal(Signal::SIGTTIN);
    master.wait_up(2);
}

fn signals_that_are_neither_handled_nor_a_fault_harm_nothing_and_workers_have_their_defaults() {
    // What the table of the page names, faults, and what stops or cannot be ignored.
    use Signal::*;
    let named = [SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU];
    let faults = [SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGTRAP];
    let stops = [SIGKILL, SIGSTOP, SIGTSTP];
    let others: Vec<i32> = (1..=64)
        .filter(|number| ![&named[..], &faults, &stops].concat().iter().any(|named| *named as i32 == *number))
        .collect();
    assert_eq!(others.len(), 64 - named.len() - faults.len() - stops.len());
    let mut master = Master::builder().timer_acks(0.0).program(["/bin/sleep", "1000"]).start();
    let pid = master.process().pid().to_string();
    for reloads in 0..2 {
        for number in &others {
            let sent =
                std::process::Command::new("/bin/kill").args([format!("-{number}"), pid.clone()]).status();
            assert!(sent.expect("kill").success(), "signal {number}");
            assert_eq!(master.status().master.generation, 1, "after signal {number}\n{master}");
        }
        for worker in master.workers_up() {
            worker.wait_executed();
            for set in ["SigBlk", "SigIgn", "SigCgt"] {
                assert_eq!(worker.signal_set(set), 0, "{set} of a worker after {reloads} reloads\n{master}");
            }
        }
        assert_eq!(master.control().ask("reload", &[]).ok, Some(true), "{master}");
        let worker = master.workers_up()[0];
        master.kill_worker(worker);
        master.wait_up(1);
    }
}

fn a_limit_on_file_sizes_costs_log_lines_and_a_reload_and_not_the_master() {
    let limited = ["/bin/sh", "-c", "ulimit -f 2; exec \"$@\"", "sh"];
    let mut master = Master::builder().workers(2).under(limited).start();
    // More lines than the file of the log may have.
    for _ in 0..8 {
        master.upgrade();
    }
    let refused = master.control().ask("reload", &[]);
    assert_eq!(refused.ok, Some(false), "{refused:?}");
    assert!(refused.message.contains("ulimit -f"), "{refused:?}");
    master.upgrade();
    master.assert_well(2);
}

fn a_stop_during_an_upgrade_ends_it_and_the_master() {
    let builder = Master::builder().workers(2);
    let mut gate = Gate::new(builder.file("gate"));
    let mut master = builder.serve([gate.knob()]).start();
    gate.close();
    let mut upgrade = master.control();
    upgrade.send(r#"{"command":"upgrade"}"#);
    master.wait_status("the upgrade", |status| status.upgrade.is_some() && status.master.starting > 0);
    master.signal(Signal::SIGTERM);
    let last = upgrade.replies().pop().expect("a last reply");
    assert_eq!(last.ok, Some(false), "{last:?}");
    // A worker at the gate has the signal pending and sees it when it gets there.
    gate.open();
    master.wait_exit_code(0);
}
