//! How workers are asked to stop: each in its own convention, suspended ones too.

use std::io::ErrorKind::ConnectionRefused;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::load::Plan;
use tests::{Gate, Master, MasterBuilder};

tests::trials! {
    a_worker_that_says_worker_ack_is_asked_with_usr2,
    a_worker_that_catches_usr2_alone_is_asked_with_usr2,
    a_worker_that_catches_nothing_is_asked_with_term,
    a_server_is_known_by_the_program_that_its_script_has_become,
    an_option_overrides_each_convention,
    a_suspended_worker_is_shown_and_hears_that_it_is_to_stop,
    connections_are_refused_once_no_worker_of_a_stopping_pool_listens,
    processes_that_a_worker_leaves_behind_are_reported,
    time_in_which_nobody_ran_counts_for_no_grace_period,
}

/// A shell that runs `script`, taken as up at once.
fn shell(builder: MasterBuilder, script: &str) -> Master {
    builder.workers(1).timer_acks(0.0).program(["/bin/sh", "-c", script]).start()
}

/// Waits until the shell has set its traps: then it sleeps.
fn wait_asleep(master: &mut Master) {
    master.wait("the worker's sleep", |master| {
        master.workers_up().iter().all(|worker| !worker.children().is_empty()).then_some(())
    });
}

const SLEEP: &str = "while :; do sleep 1000 & wait $!; kill $!; done";

#[track_caller]
fn assert_asked_with(mut master: Master, signal: &str, why: &str) {
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    let log = master.log();
    assert!(log.contains(&format!("draining with {signal}:")), "{master}");
    let told = format!("workers of generation 1 are asked to stop with {signal}: {why}");
    assert_eq!(log.matches(&told).count(), usize::from(!why.is_empty()), "{master}");
}

fn a_worker_that_says_worker_ack_is_asked_with_usr2() {
    let mut master = Master::builder().workers(2).start();
    let releases = master.status().releases;
    assert_eq!(releases[0].stop_signals[0].signal, "SIGUSR2", "{releases:?}");
    master.wait_up(2);
    assert_asked_with(master, "SIGUSR2", "they send worker:ack");
}

fn a_worker_that_catches_usr2_alone_is_asked_with_usr2() {
    let mut master = shell(Master::builder(), &format!("trap 'kill $!; exit 0' USR2; {SLEEP}"));
    wait_asleep(&mut master);
    assert_asked_with(master, "SIGUSR2", "they have a handler for it and none for SIGTERM");
}

fn a_worker_that_catches_nothing_is_asked_with_term() {
    let master = shell(Master::builder(), "exec sleep 1000");
    assert_asked_with(master, "SIGTERM", "nothing says otherwise");
}

fn a_server_is_known_by_the_program_that_its_script_has_become() {
    let builder = Master::builder();
    // Not nginx, but a shell of that name.
    let nginx = builder.file("nginx");
    std::fs::copy("/bin/sh", &nginx).expect("a copy of the shell");
    let script = format!("trap 'kill $!; exit 0' QUIT; {SLEEP}");
    let mut master =
        shell(builder, &format!("exec {} -c \"{}\"", nginx.display(), script.replace('$', "\\$")));
    wait_asleep(&mut master);
    assert_asked_with(master, "SIGQUIT", "nginx drains on it");
}

fn an_option_overrides_each_convention() {
    let script = format!("trap 'kill $!; exit 0' USR2 INT; {SLEEP}");
    let mut master = shell(Master::builder().options(["--stop-signal", "INT"]), &script);
    wait_asleep(&mut master);
    assert_asked_with(master, "SIGINT", "");
}

fn a_suspended_worker_is_shown_and_hears_that_it_is_to_stop() {
    let mut master = Master::builder().workers(2).start();
    let worker = master.workers_up()[0];
    assert!(worker.signal(Signal::SIGSTOP));
    let stopped = |master: &mut Master| {
        let workers = master.status().workers.into_iter();
        workers.filter(|worker| worker.stopped).map(|worker| worker.pid).collect::<Vec<_>>()
    };
    master.wait("the worker shown as stopped", |master| (stopped(master) == [worker.pid()]).then_some(()));
    assert!(worker.signal(Signal::SIGCONT));
    master.wait("the worker shown as running", |master| stopped(master).is_empty().then_some(()));
    assert!(worker.signal(Signal::SIGSTOP));
    master.wait("the worker shown as stopped again", |master| (!stopped(master).is_empty()).then_some(()));
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
}

fn connections_are_refused_once_no_worker_of_a_stopping_pool_listens() {
    let builder = Master::builder().workers(1);
    let mut gate = Gate::closed(builder.file("gate"));
    let mut master = builder.serve([format!("request_gate={}", gate.path().display())]).start();
    let address = master.address();
    let load = Plan { requests_max: 1, ..Plan::new(address) }.start();
    master.wait("an accepted request", |master| {
        master.workers_up().iter().any(|worker| !worker.connections().is_empty()).then_some(())
    });
    master.signal(Signal::SIGTERM);
    // The worker holds its request, and has closed its listener.
    master.wait("a refused connection", |_| {
        let refused = TcpStream::connect(address).is_err_and(|error| error.kind() == ConnectionRefused);
        refused.then_some(())
    });
    gate.open();
    assert_eq!(load.run_to_end().failed(), 0, "{master}");
    master.wait_exit_code(0);
}

fn processes_that_a_worker_leaves_behind_are_reported() {
    // A wrapper that does not exec: the stop signal reaches the shell alone.
    let mut master = shell(Master::builder(), "sleep 1000 & wait");
    wait_asleep(&mut master);
    let left = master.workers_up()[0].children()[0];
    master.signal(Signal::SIGHUP);
    let told = format!("left processes behind: {}; they hold a listener", left.pid());
    master.wait_log(&told);
    assert!(left.signal(Signal::SIGKILL));
}

/// As in a frozen cgroup, or with "docker pause".
fn time_in_which_nobody_ran_counts_for_no_grace_period() {
    const GRACE: Duration = Duration::from_secs(5);
    let builder = Master::builder().workers(1).options(["-t", "5"]);
    let mut gate = Gate::closed(builder.file("gate"));
    let mut master = builder.serve([format!("request_gate={}", gate.path().display())]).start();
    let load = Plan { requests_max: 1, ..Plan::new(master.address()) }.start();
    master.wait("an accepted request", |master| {
        master.workers_up().iter().any(|worker| !worker.connections().is_empty()).then_some(())
    });
    let old = master.workers_up()[0];
    master.signal(Signal::SIGHUP);
    master.wait_log("upgrade to generation 2 done");
    let workers: Vec<_> = [old].into_iter().chain(master.workers_up()).collect();
    let stopped = Instant::now();
    assert!(master.process().signal(Signal::SIGSTOP));
    assert!(workers.iter().all(|worker| worker.signal(Signal::SIGSTOP)));
    tests::wait::wait_for("time to pass", || (stopped.elapsed() > GRACE).then_some(()));
    assert!(master.process().signal(Signal::SIGCONT));
    master.wait_log("nobody was heard for ");
    assert!(workers.iter().all(|worker| worker.signal(Signal::SIGCONT)));
    gate.open();
    assert_eq!(load.run_to_end().failed(), 0, "{master}");
    assert!(!master.log().contains("SIGKILL"), "{master}");
}
