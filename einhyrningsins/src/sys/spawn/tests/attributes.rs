//! The attributes of a worker's process, read from `/proc`; and spawns that cannot set them.

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

use super::*;
use crate::sys::account::Credentials;
use crate::workers::spawn_hint;

/// A user and groups that have no entry in the user database.
fn stranger() -> Credentials {
    Credentials { uid: Some(54_321), gid: Some(54_322), groups: Some(vec![54_322, 54_323]) }
}

/// Gives up root for good, in the process of an isolated test.
fn become_nobody() {
    if geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
        setgroups(&[]).unwrap();
        setresgid(gid, gid, gid).unwrap();
        setresuid(uid, uid, uid).unwrap();
        // As after an exec; otherwise this process's files in /proc would belong to root.
        prctl::set_dumpable(true).unwrap();
    }
}

fn limits(texts: &[&str]) -> Vec<ResourceLimit> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn limits_are_set_one_after_the_other_and_the_last_word_counts() {
    let argv = stopping_shell();
    let spec = SpawnSpec {
        open_files: Some(OpenFilesLimit { soft: 100, hard: 1000 }),
        limits: &limits(&["nofile=90:900", "core=0:0", "nofile=80:800", "cpu=3600", "stack=4M:8M"]),
        ..SpawnSpec::new(SHELL, &argv, &[])
    };
    in_each_way(|spawner| {
        let worker = Worker::stopped(spawner, &spec);
        assert_eq!(worker.limit("Max open files"), ["80", "800"]);
        assert_eq!(worker.limit("Max core file size"), ["0", "0"]);
        assert_eq!(worker.limit("Max cpu time"), ["3600", "3600"]);
        assert_eq!(worker.limit("Max stack size"), ["4194304", "8388608"]);
    });
}

#[test]
fn a_low_limit_on_open_files_is_not_in_the_way_of_the_sockets() {
    let sockets = sockets(8);
    let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    let argv = stopping_shell();
    // Room for the program loader, but not for moving the sockets.
    let limits = limits(&["nofile=12"]);
    let spec = SpawnSpec { sockets: &borrowed, limits: &limits, ..SpawnSpec::new(SHELL, &argv, &[]) };
    in_each_way(|spawner| {
        let worker = Worker::stopped(spawner, &spec);
        assert_eq!(worker.descriptors().len(), 3 + 8);
    });
}

#[test]
fn a_worker_runs_on_the_cpus_that_it_was_given() {
    let available = CpuSet::available().unwrap();
    let last = available.one_by_one().pop().unwrap();
    let argv = stopping_shell();
    let spec = SpawnSpec { cpus: Some(&last), ..SpawnSpec::new(SHELL, &argv, &[]) };
    in_each_way(|spawner| {
        let worker = Worker::stopped(spawner, &spec);
        assert_eq!(worker.status("Cpus_allowed_list"), last.to_string());
        assert_eq!(
            CpuSet::available().as_ref(),
            Ok(&available),
            "the master's own affinity must be unchanged"
        );

        let cpus = "8100".parse().unwrap();
        let error = spawner.spawn(&SpawnSpec { cpus: Some(&cpus), ..spec }).unwrap_err();
        assert_eq!((error.stage, error.errno), (Stage::Affinity, Errno::EINVAL));
        assert!(spawn_hint(&error).unwrap().contains("cpuset"));
    });
}

#[test]
fn the_directory_is_found_though_its_number_is_wanted_for_a_socket() {
    isolated(
        "sys::spawn::tests::attributes::the_directory_is_found_though_its_number_is_wanted_for_a_socket",
        || {
            let there = tempfile::tempdir().unwrap();
            let fd = open(there.path(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
            let sockets = sockets(3);
            let high: Vec<_> = sockets.iter().zip([100, 101, 102]).map(|(fd, to)| place(fd, to)).collect();
            let argv = stopping_shell();
            let fd = place(&fd, 103).try_clone_to_owned().unwrap();
            let mut spawner = Spawner::new().unwrap();
            for (number, is_always_apart) in [(3, false), (5, false), (3, true), (5, true)] {
                spawner.is_always_apart = is_always_apart;
                let directory = Some(place(&fd, number));
                let spec = SpawnSpec { directory, sockets: &high, ..SpawnSpec::new(SHELL, &argv, &[]) };
                let worker = Worker::stopped(&mut spawner, &spec);
                assert_eq!(fs::read_link(worker.proc("cwd")).unwrap(), there.path());
                assert_eq!(worker.descriptors()[3].1, target(high[0]));
            }
            // They stand for descriptors that `place` has closed.
            std::mem::forget((fd, sockets));
        },
    );
}

#[test]
fn a_missing_privilege_is_named() {
    isolated("sys::spawn::tests::attributes::a_missing_privilege_is_named", || {
        become_nobody();
        let argv = texts(&["true"]);
        let plain = SpawnSpec::new(c"/bin/true", &argv, &[]);
        let user = stranger();
        let group = Credentials { gid: Some(54_322), ..Credentials::default() };
        let alone = Credentials { groups: None, gid: None, ..stranger() };
        let limit = limits(&["nofile=infinity"]);
        let number = limit[0].for_kernel().resource;
        for (spec, stage, errno, message, hint) in [
            (
                SpawnSpec { credentials: Some(&user), ..plain },
                Stage::Groups,
                Errno::EPERM,
                "cannot set the supplementary groups for /bin/true: Operation not permitted (os error 1)",
                "CAP_SETGID",
            ),
            (
                SpawnSpec { credentials: Some(&group), ..plain },
                Stage::Group,
                Errno::EPERM,
                "cannot change the group for /bin/true: Operation not permitted (os error 1)",
                "CAP_SETGID",
            ),
            (
                SpawnSpec { credentials: Some(&alone), ..plain },
                Stage::User,
                Errno::EPERM,
                "cannot change the user for /bin/true: Operation not permitted (os error 1)",
                "CAP_SETUID",
            ),
            (
                SpawnSpec { limits: &limit, ..plain },
                Stage::Limit(number),
                Errno::EPERM,
                "cannot set the limit nofile for /bin/true: Operation not permitted (os error 1)",
                "hard limit is 20000",
            ),
            (
                SpawnSpec { oom_score_adj: Some(-1000), ..plain },
                Stage::OomScoreAdj,
                Errno::EACCES,
                "cannot set oom_score_adj for /bin/true: Permission denied (os error 13)",
                "CAP_SYS_RESOURCE",
            ),
        ] {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            let hint = hint.replace("20000", &hard.to_string());
            in_each_way(|spawner| {
                for error in [spawner.rehearse(&spec).unwrap_err(), spawner.spawn(&spec).unwrap_err()] {
                    assert_eq!((error.stage, error.errno), (stage, errno));
                    assert_eq!(error.to_string(), message);
                    assert!(spawn_hint(&error).unwrap().contains(&hint), "{:?}", spawn_hint(&error));
                    assert!(!error.is_transient());
                }
            });
        }
        // Anybody may set an attribute that needs no privilege.
        let spec = SpawnSpec { no_new_privileges: true, oom_score_adj: Some(1000), nice: Some(19), ..plain };
        in_each_way(|spawner| assert_eq!(spawner.rehearse(&spec), Ok(())));
    });
}

#[test]
fn a_rehearsal_leaves_nothing_behind() {
    isolated("sys::spawn::tests::attributes::a_rehearsal_leaves_nothing_behind", || {
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        let command = text(&format!("touch {}", mark.display()));
        let argv = [text("sh"), text("-c"), command];
        in_each_way(|spawner| {
            spawner.rehearse(&SpawnSpec::new(SHELL, &argv, &[])).unwrap();
            spawner.rehearse(&SpawnSpec::new(c"/no/such/program", &argv, &[])).unwrap_err();
        });
        assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD));
        assert_eq!(open(), before);
        assert!(!mark.exists(), "it was executed");
    });
}
