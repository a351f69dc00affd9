//! Children that do not share our memory, and what their user can do to them before their exec.

use std::time::Duration;

use nix::unistd::geteuid;

use super::*;
use crate::sys::account::Credentials;
use crate::sys::spawn::child::Sabotage;
use crate::workers::spawn_hint;

/// Another user; without root, the test's own.
fn stranger() -> Credentials {
    if geteuid().is_root() {
        Credentials { uid: Some(54_321), gid: Some(54_322), groups: Some(vec![54_322]) }
    } else {
        Credentials::default()
    }
}

/// A spawner whose children are disturbed like this, and the number of descriptors that are open with it.
fn disturbed(sabotage: Sabotage) -> (Spawner, usize) {
    let mut spawner = Spawner::new().unwrap();
    spawner.sabotage = Some(sabotage);
    (spawner, open_descriptors())
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// For isolated tests, which have no other children.
#[track_caller]
fn assert_nothing_is_left(open_before: usize) {
    assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD));
    assert_eq!(open_descriptors(), open_before);
}

/// Spawns and rehearses a shell, and checks that both fail at `stage`, with this message, and leave nothing
/// behind.
fn check_that_it_fails(sabotage: Sabotage, stage: Stage, message: &str, hint: &str) {
    let argv = stopping_shell();
    let credentials = stranger();
    let spec = SpawnSpec { credentials: Some(&credentials), ..SpawnSpec::new(SHELL, &argv, &[]) };
    for is_rehearsal in [false, true] {
        let (mut spawner, open) = disturbed(sabotage);
        if stage == Stage::Hung {
            spawner.patience.limit = Duration::from_millis(120);
        }
        let error = match is_rehearsal {
            false => spawner.spawn(&spec).unwrap_err(),
            true => spawner.rehearse(&spec).unwrap_err(),
        };
        assert_eq!((error.stage, error.errno), (stage, Errno::ETIMEDOUT));
        assert_eq!(error.to_string(), message);
        assert!(spawn_hint(&error).unwrap().contains(hint), "{:?}", spawn_hint(&error));
        assert!(error.is_transient());
        assert_nothing_is_left(open);
    }
}

#[test]
fn a_child_that_its_user_stops_does_not_halt_the_master() {
    isolated("sys::spawn::tests::apart::a_child_that_its_user_stops_does_not_halt_the_master", || {
        check_that_it_fails(
            Sabotage::Signal(Signal::SIGSTOP),
            Stage::Stopped,
            "cannot execute /bin/sh: its process was stopped between clone and exec, and was killed",
            "SIGSTOP",
        );
    });
}

#[test]
fn a_child_that_hangs_does_not_halt_the_master() {
    isolated("sys::spawn::tests::apart::a_child_that_hangs_does_not_halt_the_master", || {
        check_that_it_fails(
            Sabotage::Hang,
            Stage::Hung,
            "cannot execute /bin/sh: its process hung between clone and exec, and was killed after 2s",
            "slow to answer",
        );
    });
}

#[test]
fn after_a_child_that_missed_its_exec_spawns_pause() {
    isolated("sys::spawn::tests::apart::after_a_child_that_missed_its_exec_spawns_pause", || {
        let argv = stopping_shell();
        let credentials = stranger();
        let plain = SpawnSpec::new(SHELL, &argv, &[]);
        let spec = SpawnSpec { credentials: Some(&credentials), ..plain };
        let (mut spawner, open) = disturbed(Sabotage::Signal(Signal::SIGSTOP));
        spawner.patience.pause = Duration::from_secs(3600);
        assert_eq!(spawner.spawn(&spec).unwrap_err().stage, Stage::Stopped);
        // Nobody disturbs these, so only the pause can make them fail.
        spawner.sabotage = None;
        for error in [spawner.spawn(&spec).unwrap_err(), spawner.rehearse(&spec).unwrap_err()] {
            assert_eq!((error.stage, error.errno), (Stage::Paused, Errno::EAGAIN));
            assert_eq!(
                error.to_string(),
                "cannot execute /bin/sh: not tried, since another process was stopped or hung before its exec"
            );
            assert!(error.is_transient());
        }
        drop(Worker::stopped(&mut spawner, &plain));

        let (mut spawner, _) = disturbed(Sabotage::Signal(Signal::SIGSTOP));
        spawner.patience.pause = Duration::ZERO;
        assert_eq!(spawner.spawn(&spec).unwrap_err().stage, Stage::Stopped);
        spawner.sabotage = None;
        drop(Worker::stopped(&mut spawner, &spec));
        assert_nothing_is_left(open);
    });
}

#[test]
fn a_child_that_is_stopped_after_its_failure_is_reaped_and_its_failure_reported() {
    isolated(
        "sys::spawn::tests::apart::a_child_that_is_stopped_after_its_failure_is_reaped_and_its_failure_reported",
        || {
            let argv = texts(&["gone"]);
            let credentials = stranger();
            let spec = SpawnSpec {
                credentials: Some(&credentials),
                ..SpawnSpec::new(c"/no/such/program", &argv, &[])
            };
            let (mut spawner, open) = disturbed(Sabotage::StopAtEnd);
            for error in [spawner.spawn(&spec).unwrap_err(), spawner.rehearse(&spec).unwrap_err()] {
                assert_eq!((error.stage, error.errno), (Stage::Exec, Errno::ENOENT));
                assert_nothing_is_left(open);
            }
        },
    );
}

#[test]
fn a_child_that_its_user_kills_counts_as_a_worker_that_died() {
    let argv = stopping_shell();
    let credentials = stranger();
    let spec = SpawnSpec { credentials: Some(&credentials), ..SpawnSpec::new(SHELL, &argv, &[]) };
    let (mut spawner, _) = disturbed(Sabotage::Signal(Signal::SIGKILL));
    let pid = spawner.spawn(&spec).unwrap();
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Signaled(pid, Signal::SIGKILL, false)));
}

#[test]
fn a_failure_is_heard_though_the_pipes_number_is_wanted_for_a_socket() {
    isolated(
        "sys::spawn::tests::apart::a_failure_is_heard_though_the_pipes_number_is_wanted_for_a_socket",
        || {
            let sockets = sockets(8);
            let high: Vec<_> = sockets.iter().zip(100..).map(|(fd, to)| place(fd, to)).collect();
            // The numbers from 3 up are free again, for the pipe.
            drop(sockets);
            let (argv, stopping) = (texts(&["gone"]), stopping_shell());
            let credentials = stranger();
            let spec = SpawnSpec {
                credentials: Some(&credentials),
                sockets: &high,
                ..SpawnSpec::new(c"/no/such/program", &argv, &[])
            };
            let mut spawner = Spawner::new().unwrap();
            let error = spawner.spawn(&spec).unwrap_err();
            assert_eq!((error.stage, error.errno), (Stage::Exec, Errno::ENOENT));
            let worker =
                Worker::stopped(&mut spawner, &SpawnSpec { program: SHELL, argv: &stopping, ..spec });
            assert_eq!(worker.descriptors().len(), 3 + 8, "the pipe must not be open in the worker");
        },
    );
}

#[test]
fn a_pipe_too_many_is_transient() {
    isolated("sys::spawn::tests::apart::a_pipe_too_many_is_transient", || {
        let argv = texts(&["true"]);
        let credentials = stranger();
        let spec = SpawnSpec { credentials: Some(&credentials), ..SpawnSpec::new(c"/bin/true", &argv, &[]) };
        let mut spawner = Spawner::new().unwrap();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
        let error = spawner.spawn(&spec).unwrap_err();
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
        assert_eq!((error.stage, error.errno), (Stage::Hear, Errno::EMFILE));
        assert_eq!(
            error.to_string(),
            "cannot read the report of the process for /bin/true: Too many open files (os error 24)"
        );
        assert!(spawn_hint(&error).unwrap().contains("ulimit -n"));
        assert!(error.is_transient());
    });
}
