//! What a worker's process is given by options of the master: read from `/proc`, over respawns, upgrades and the
//! master's own replacement. And what it cannot be given, which is said before anything has begun.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use serde_json::{Value, json};
use tests::faults::Strace;
use tests::{Finished, Master, MasterBuilder, Process, Releases, binaries, place_worker};

tests::trials! {
    workers_have_what_the_options_say_and_the_master_has_not,
    files_that_a_worker_makes_have_the_modes_that_the_mask_leaves,
    workers_are_the_user_that_was_asked_for_and_ack_where_they_may needs "root",
    a_user_by_name_brings_group_home_and_name_and_the_file_of_variables_has_the_last_word needs "root",
    a_master_that_is_that_user_already_changes_nothing needs "root" "util-linux",
    the_control_socket_can_be_shared_with_a_group needs "root" "util-linux",
    descriptors_that_nothing_uses_are_closed_and_a_kept_one_outlives_a_reload,
    a_passed_descriptor_reaches_every_worker_at_its_number,
    a_dry_run_finds_descriptors_that_are_not_open,
    what_a_reexec_script_leaves_open_is_closed_after_the_takeover needs "python3",
    each_slot_keeps_its_cpus,
    who_is_not_there_is_said_at_the_start,
    what_the_master_may_not_give_is_said_at_the_start needs "util-linux",
    a_master_that_could_not_signal_its_workers_does_not_make_any needs "root" "util-linux",
    a_master_that_can_no_longer_signal_its_workers_does_not_upgrade_them needs "root" "util-linux",
    a_worker_that_is_stopped_before_its_exec_does_not_halt_the_master needs "root" "strace",
    capabilities_of_the_master_are_not_passed_on_to_another_user needs "root" "util-linux",
    a_place_that_the_user_may_not_enter_is_said_at_the_start needs "root",
    an_upgrade_to_what_the_user_may_not_run_touches_no_worker needs "root",
    the_einhorn_dialect_takes_the_same_options,
}

/// As in a container with `USER`: no right to change anything, and nothing to change.
fn a_master_that_is_that_user_already_changes_nothing() {
    for (user, group) in [("--user=54321:54322", None), ("--user=54321", Some("--group=54322"))] {
        for groups in ["--clear-groups", "--groups=54322", "--groups=7,54322"] {
            let builder = open_to_all(Master::builder(), &[]);
            set_mode(&open_directory(&builder), 0o777);
            let builder = builder.under(["setpriv", "--reuid", "54321", "--regid", "54322", groups]);
            let mut master = builder.option(user).options(group).start();
            let status = format!("/proc/{}/status", master.workers_up()[0].pid());
            let status = fs::read_to_string(status).expect("its status");
            let own = groups.strip_prefix("--groups=").unwrap_or_default().replace(',', " ");
            let found = status.lines().find_map(|line| line.strip_prefix("Groups:"));
            assert_eq!(found.map(str::trim), Some(own.as_str()), "{status}");
        }
    }
}

fn the_control_socket_can_be_shared_with_a_group() {
    let builder = Master::builder();
    open_directory(&builder);
    let master = builder.options(["--control-mode", "660", "--control-group", "54322"]).start();
    for _ in 0..2 {
        let found = fs::metadata(master.socket()).expect("a socket");
        assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o660, 0, 54_322), "{master}");
        for (group, may) in [("54322", true), ("54321", false)] {
            let mut command = std::process::Command::new("setpriv");
            command.args(["--reuid", "54321", "--regid", group, "--clear-groups", "test", "-w"]);
            let status = command.arg(master.socket()).status().expect("setpriv");
            assert_eq!(status.success(), may, "group {group}\n{master}");
        }
        assert_eq!(master.control().ask("reload", &[]).ok, Some(true), "{master}");
    }
    let refused =
        Master::builder().options(["--control-mode", "660", "--control-group", "no-such"]).run_to_end();
    assert!(refused.stderr.contains("no such group: no-such"), "{refused:?}");
}

/// A lock of the script that starts the master, and one that is meant for the master.
fn descriptors_that_nothing_uses_are_closed_and_a_kept_one_outlives_a_reload() {
    let builder = Master::builder();
    let (leaked, kept) = (builder.file("leaked"), builder.file("kept"));
    let script = format!("exec 9>{} 8>{}; exec \"$@\"", leaked.display(), kept.display());
    let mut master = builder.under(["/bin/sh", "-c", &script, "sh"]).options(["--keep-fd", "8"]).start();
    let holds = |process: Process, file: &Path| {
        let descriptors = process.descriptors().into_iter();
        let held = descriptors.filter(|(_, descriptor)| Path::new(&descriptor.target) == file);
        held.map(|(fd, descriptor)| (fd, descriptor.close_on_exec)).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(holds(master.process(), &leaked), [], "{master}");
        assert_eq!(holds(master.process(), &kept), [(8, true)], "{master}");
        let worker = master.workers_up()[0];
        assert_eq!((holds(worker, &leaked), holds(worker, &kept)), (vec![], vec![]), "{master}");
        assert_eq!(master.control().ask("reload", &[]).ok, Some(true), "{master}");
    }
    let closing =
        format!("closing descriptor 9, which was inherited and which nothing uses: {}", leaked.display());
    assert_eq!(master.log().matches(&closing).count(), 1, "{master}");
    assert!(!master.log().contains("closing descriptor 8"), "{master}");
    let refused = Master::builder().options(["--keep-fd", "77"]).run_to_end();
    assert!(refused.stderr.contains("cannot keep descriptor 77 (--keep-fd)"), "{refused:?}");
}

/// The descriptors of `process` that lead to `file`, and whether they are close-on-exec.
fn descriptors_of(process: Process, file: &Path) -> Vec<(i32, bool)> {
    let descriptors = process.descriptors().into_iter();
    let held = descriptors.filter(|(_, descriptor)| Path::new(&descriptor.target) == file);
    held.map(|(fd, descriptor)| (fd, descriptor.close_on_exec)).collect()
}

/// A builder whose master inherits `file` as descriptor 9.
fn with_descriptor_9(builder: MasterBuilder, file: &Path) -> MasterBuilder {
    let script = format!("exec 9>{}; exec \"$@\"", file.display());
    builder.under(["/bin/sh", "-c", &script, "sh"])
}

fn a_passed_descriptor_reaches_every_worker_at_its_number() {
    for is_einhorn in [false, true] {
        let builder = Master::builder().workers(2);
        let passed = builder.file("passed");
        let builder = if is_einhorn { builder.einhorn() } else { builder };
        // With a connection to the control socket, which is at 4.
        let mut master = with_descriptor_9(builder, &passed).options(["--pass-fd", "9", "-g"]).start();
        for round in 0..3 {
            assert_eq!(descriptors_of(master.process(), &passed), [(9, true)], "{master}");
            for worker in master.workers_up() {
                assert_eq!(descriptors_of(worker, &passed), [(9, false)], "round {round}\n{master}");
            }
            match round {
                0 => assert_eq!(master.control().ask("reload", &[]).ok, Some(true), "{master}"),
                1 => drop(master.upgrade()),
                _ => {}
            }
        }
    }
    let builder = Master::builder();
    let file = builder.file("passed");
    let script = format!("exec 3>{}; exec \"$@\"", file.display());
    let refused = builder.under(["/bin/sh", "-c", &script, "sh"]).options(["--pass-fd", "3"]).run_to_end();
    assert!(refused.stderr.contains("cannot pass descriptor 3 (--pass-fd)"), "{refused:?}");
}

fn a_dry_run_finds_descriptors_that_are_not_open() {
    for option in ["--keep-fd", "--pass-fd"] {
        let refused = Master::builder().options(["--dry-run", option, "77"]).run_to_end();
        refused.assert_code(1).assert_says(&format!("cannot keep descriptor 77 ({option})"));
        let builder = Master::builder();
        let file = builder.file("held");
        let found = with_descriptor_9(builder, &file).options(["--dry-run", option, "9"]).run_to_end();
        found.assert_code(0);
    }
}

fn what_a_reexec_script_leaves_open_is_closed_after_the_takeover() {
    let builder = Master::builder();
    let (leaked, script) = (builder.file("leaked"), builder.file("reexec"));
    let daemon = binaries::einhyrningsins();
    // A shell can only open descriptors below 10, which may be the master's own.
    let text = format!(
        "#!/usr/bin/env python3\nimport os, sys\nos.dup2(os.open({leaked:?}, os.O_CREAT | os.O_WRONLY), 99)\n\
         os.execv({daemon:?}, [{daemon:?}] + sys.argv[1:])\n"
    );
    fs::write(&script, text).expect("a script");
    set_mode(&script, 0o755);
    let mut master = builder.option("--reexec-as").option(&script).start();
    assert_eq!(master.control().ask("reload", &[]).ok, Some(true), "{master}");
    master.wait("the descriptor is closed", |master| {
        descriptors_of(master.process(), &leaked).is_empty().then_some(())
    });
    let closing =
        format!("closing descriptor 99, which was inherited and which nothing uses: {}", leaked.display());
    master.wait_log(&closing);
    assert!(master.log().contains(" itself: it changes the open descriptors"), "{master}");
    master.assert_well(1);
}

/// A user and a group of whom the system knows nothing.
const STRANGER: &str = "54321:54322";

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode");
}

/// The directory of a test, which any user may enter from now on.
fn open_directory(builder: &MasterBuilder) -> PathBuf {
    let directory = builder.file("serve").parent().expect("a directory").to_owned();
    set_mode(&directory, 0o755);
    directory
}

/// Workers that any user may run, wherever the programs were built; with these knobs.
fn open_to_all(builder: MasterBuilder, knobs: &[&str]) -> MasterBuilder {
    let directory = open_directory(&builder);
    place_worker(&directory.join("serve"));
    let builder = builder.option("--chdir").option(directory);
    builder.program(["./serve"].iter().chain(knobs))
}

/// A master that lacks these capabilities, as setpriv names them; as another user than root it lacks them anyway.
fn without(builder: MasterBuilder, capabilities: &str) -> MasterBuilder {
    if !geteuid().is_root() {
        return builder;
    }
    builder.under(["setpriv", "--bounding-set", capabilities])
}

fn process_state(master: &Master) -> Value {
    master.control().ask("state", &[]).data.expect("the state has data")["process"].clone()
}

#[track_caller]
fn status(worker: Process, field: &str) -> String {
    worker.status(field).unwrap_or_else(|| panic!("no {field} of {worker:?}"))
}

/// Runs `check` on the workers as they were spawned, and again after an upgrade, a respawn of each, and the
/// replacement of the master: they are new ones each time but the last, and those of a respawn follow it.
#[track_caller]
fn through_everything(mut master: Master, workers: u32, check: impl Fn(&mut Master, &str)) {
    check(&mut master, "at the start");
    master.upgrade();
    master.wait_up(workers);
    check(&mut master, "after an upgrade");
    let reply = master.control().ask("reload", &[]);
    assert_eq!(reply.ok, Some(true), "{}\n{master}", reply.message);
    check(&mut master, "after the master's replacement");
    let old = master.workers_up();
    master.kill_workers(&old);
    master.wait_up(workers);
    check(&mut master, "after a respawn by the new master");
}

fn workers_have_what_the_options_say_and_the_master_has_not() {
    let options =
        "--rlimit nofile=500:600 --rlimit CORE=0 --oom-score-adj 500 --umask 0027 --no-new-privs --nice";
    // Whoever runs the tests may be nice already.
    let inherited =
        Process::of(std::process::id().cast_signed()).and_then(|own| own.nice()).expect("a nice value");
    let nice = (inherited + 3).min(19);
    let master = Master::builder().workers(2).options(options.split(' ')).option(format!(":{nice}")).start();
    through_everything(master, 2, |master, when| {
        for worker in master.workers_up() {
            assert_eq!(worker.limit("Max open files"), ["500", "600"], "{when}");
            assert_eq!(worker.limit("Max core file size"), ["0", "0"], "{when}");
            assert_eq!(worker.oom_score_adj(), Some(500), "{when}");
            assert_eq!(worker.nice(), Some(nice), "{when}");
            assert_eq!(status(worker, "Umask"), "0027", "{when}");
            assert_eq!(status(worker, "NoNewPrivs"), "1", "{when}");
        }
        let own = master.process();
        assert_ne!(own.limit("Max open files")[1], "600");
        assert_eq!((own.nice(), status(own, "NoNewPrivs").as_str()), (Some(inherited), "0"));
        assert_ne!(status(own, "Umask"), "0027");
        let expected = json!({
            "uid": null, "gid": null, "groups": null, "nice": nice, "umask": "0027",
            "rlimits": ["nofile=500:600", "core=0:0"], "oom_score_adj": 500, "cpu_affinity": [],
            "no_new_privs": true,
        });
        assert_eq!(process_state(master), expected, "{when}");
    });
}

fn files_that_a_worker_makes_have_the_modes_that_the_mask_leaves() {
    let builder = Master::builder().options(["--umask", "027"]);
    let made = builder.file("made");
    let script = format!("touch {} && exec {}", made.display(), binaries::worker("serve").display());
    let _master = builder.program(["sh", "-c", &script]).start();
    assert_eq!(fs::metadata(&made).expect("a file").mode() & 0o777, 0o640);
}

fn workers_are_the_user_that_was_asked_for_and_ack_where_they_may() {
    for (ack, warns) in [(&["-g"][..], false), (&[], true)] {
        let builder = Master::builder().workers(2).options(["--user", STRANGER]).options(ack);
        let knob = if warns { "ack=notify" } else { "ack=fd" };
        let builder = builder.env("HOME", "/of/the/master").env("USER", "master").env("LOGNAME", "master");
        let master = open_to_all(builder, &[knob]).start();
        let warning = "workers of another user (--user) cannot open the control socket";
        assert_eq!(master.log().contains(warning), warns, "{master}");
        through_everything(master, 2, |master, when| {
            for worker in master.workers_up() {
                assert_eq!(status(worker, "Uid"), "54321\t54321\t54321\t54321", "{when}");
                assert_eq!(status(worker, "Gid"), "54322\t54322\t54322\t54322", "{when}");
                assert_eq!(status(worker, "Groups"), "54322", "{when}");
                assert_eq!(status(worker, "CapEff"), "0000000000000000", "{when}");
                let environment = worker.environment();
                assert!(
                    !["HOME", "USER", "LOGNAME"].iter().any(|name| environment.contains_key(*name)),
                    "{when}"
                );
            }
            assert_eq!(status(master.process(), "Uid"), "0\t0\t0\t0", "{when}");
            let state = process_state(master);
            assert_eq!((&state["uid"], &state["groups"]), (&json!(54_321), &json!([54_322])), "{when}");
            master.assert_well(2);
        });
    }
}

fn a_user_by_name_brings_group_home_and_name_and_the_file_of_variables_has_the_last_word() {
    let nobody = User::from_name("nobody").expect("the name service").expect("a user nobody");
    let builder = Master::builder().options(["--user", "nobody", "--env-file", "variables"]);
    fs::write(builder.file("variables"), "LOGNAME=somebody\n").expect("a file of variables");
    let mut master = open_to_all(builder, &["ack=notify"]).start();
    let worker = master.workers_up()[0];
    assert!(status(worker, "Uid").starts_with(&format!("{}\t", nobody.uid)), "{master}");
    assert!(status(worker, "Gid").starts_with(&format!("{}\t", nobody.gid)), "{master}");
    let environment = worker.environment();
    assert_eq!(environment["HOME"], nobody.dir.display().to_string());
    assert_eq!((environment["USER"].as_str(), environment["LOGNAME"].as_str()), ("nobody", "somebody"));
}

/// The CPUs that this process may use.
fn available() -> Vec<String> {
    let list = Process::of(std::process::id() as i32).and_then(|own| own.status("Cpus_allowed_list"));
    let list = list.expect("a list of CPUs");
    let numbers = list.split(',').flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse::<u32>().expect("a CPU")..=last.parse().expect("a CPU")
    });
    numbers.map(|cpu| cpu.to_string()).collect()
}

fn each_slot_keeps_its_cpus() {
    let cpus = available();
    let last = cpus.last().expect("a CPU").clone();
    let sets = [last.clone(), cpus.join("+"), cpus[0].clone()];
    let all = status(Process::of(std::process::id() as i32).expect("this process"), "Cpus_allowed_list");
    let explicit = vec![last, all.clone(), cpus[0].clone()];
    for (option, expected) in [("auto".to_owned(), cpus.clone()), (sets.join(","), explicit)] {
        let master = Master::builder().workers(4).options(["--cpu-affinity", &option]).start();
        through_everything(master, 4, |master, when| {
            for worker in master.status().workers {
                let slot = worker.slot.0.expect("a slot") as usize;
                let found = status(Process::of(worker.pid).expect("a worker"), "Cpus_allowed_list");
                assert_eq!(found, expected[slot % expected.len()], "slot {slot} with {option} {when}");
            }
            assert_eq!(status(master.process(), "Cpus_allowed_list"), all, "the master's");
        });
    }
}

/// A start that fails with 1, with both in its message.
#[track_caller]
fn refused(finished: &Finished, message: &str, hint: &str) {
    finished.assert_code(1).assert_says(message).assert_says("  hint: ").assert_says(hint);
    assert!(!finished.stderr.contains("spawned"), "{finished}");
}

fn who_is_not_there_is_said_at_the_start() {
    for (option, value, message, hint) in [
        (
            "--user",
            "no-such-user",
            "cannot run workers as user no-such-user: no such user: no-such-user",
            "getent",
        ),
        (
            "--group",
            "no-such-group",
            "cannot run workers as group no-such-group: no such group",
            "getent group",
        ),
        (
            "--user",
            "54321",
            "user 54321 has no entry in the user database, so its group is unknown",
            "--user USER:GROUP",
        ),
    ] {
        refused(&Master::builder().options([option, value]).run_to_end(), message, hint);
    }
    let both = Master::builder().options(["--user", "0:0", "--group", "1"]).run_to_end();
    both.assert_code(1).assert_says("--user names a group, 0, and so does --group, 1");
}

fn what_the_master_may_not_give_is_said_at_the_start() {
    let master = || without(Master::builder().without_bind(), "-setuid,-setgid,-sys_resource,-kill");
    let user = master().options(["--user", STRANGER]).run_to_end();
    refused(&user, "cannot set the supplementary groups for ", "CAP_SETUID, CAP_SETGID and CAP_KILL");
    let group = master().options(["--group", "54322"]).run_to_end();
    refused(&group, "cannot change the group for ", "CAP_SETGID");
    let high = master().options(["--rlimit", "nofile=1:infinity"]).run_to_end();
    refused(&high, "cannot set the limit nofile for ", "the master's own hard limit is ");
    let safe = master().options(["--oom-score-adj", "-1000"]).run_to_end();
    refused(&safe, "cannot set oom_score_adj for ", "CAP_SYS_RESOURCE");
    let cpus = master().options(["--cpu-affinity", "0,8000"]).run_to_end();
    cpus.assert_code(1).assert_says("--cpu-affinity names 8000, but the master may use the CPUs ");
}

fn a_master_that_could_not_signal_its_workers_does_not_make_any() {
    let builder = without(Master::builder().options(["--user", STRANGER]), "-kill");
    let finished = open_to_all(builder, &["ack=notify"]).run_to_end();
    refused(&finished, "could not send a signal to the process for ", "CAP_KILL");
}

/// Workers that change to another user by themselves: sudo, a set-user-ID program.
fn a_master_that_can_no_longer_signal_its_workers_does_not_upgrade_them() {
    let builder = without(Master::builder().workers(2).options(["-t", "1"]), "-kill");
    let directory = open_directory(&builder);
    place_worker(&directory.join("serve"));
    let program =
        ["setpriv", "--reuid", "54321", "--regid", "54322", "--clear-groups", "./serve", "ack=notify"];
    let mut master = builder.option("--chdir").option(directory).program(program).start();
    let refused_at_ack = |line: &str| line.contains("WARN") && line.contains("cannot send SIGTERM to worker");
    assert_eq!(master.log().lines().filter(|line| refused_at_ack(line)).count(), 2, "{master}");
    let finished = master.ctl(["upgrade"]);
    let pids =
        master.workers_up().iter().map(|worker| worker.pid().to_string()).collect::<Vec<_>>().join(", ");
    finished.assert_code(1).assert_says(&format!("the master may not signal {pids}, so the old release"));
    assert_eq!(master.status().master.generation, 1, "{master}");
    assert!(master.ctl(["status"]).stdout.contains("up, cannot be signalled"), "{master}");
    let workers = master.workers_up();
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(1);
    workers.iter().for_each(|worker| assert!(worker.signal(Signal::SIGKILL)));
}

/// Between its change of user and its exec, a worker can be stopped by anybody of that user.
fn a_worker_that_is_stopped_before_its_exec_does_not_halt_the_master() {
    let builder = Master::builder().workers(2).options(["--user", STRANGER, "-s", "0.05"]);
    let mut master = open_to_all(builder, &["ack=notify"]).start();
    let log = master.file("strace");
    let strace = Strace::attach_to_family(master.process(), "setresuid:signal=SIGSTOP", &log);
    let workers = master.workers_up();
    master.kill_workers(&workers[..1]);
    master.wait_log("between clone and exec, and was killed");
    assert_eq!(master.status().workers.len(), 1, "it answers: {master}");
    strace.detach();
    master.assert_well(2);
    assert_eq!(master.process().zombies(), 0, "{master}");
}

/// A master that is not root, but may change users: its workers may not.
fn capabilities_of_the_master_are_not_passed_on_to_another_user() {
    const CAPABILITIES: &str = "+setuid,+setgid,+kill";
    let builder = Master::builder().options(["--user", STRANGER]);
    let directory = open_directory(&builder);
    chown(&directory, Some(54_400), Some(54_400)).expect("the directory for its socket");
    // Wherever the programs were built, this user can execute it.
    let daemon = directory.join("daemon");
    fs::copy(binaries::einhyrningsins(), &daemon).expect("a copy of the daemon");
    let script = format!(
        "shift; exec setpriv --reuid 54400 --regid 54400 --clear-groups --inh-caps {CAPABILITIES} \
         --ambient-caps {CAPABILITIES} {} \"$@\"",
        daemon.display()
    );
    let mut master = open_to_all(builder.under(["sh", "-c", &script, "sh"]), &["ack=notify"]).start();
    assert_ne!(status(master.process(), "CapAmb"), "0000000000000000", "{master}");
    let worker = master.workers_up()[0];
    assert!(status(worker, "Uid").starts_with("54321\t54321\t54321\t"), "{master}");
    for field in ["CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(worker, field), "0000000000000000", "{field}");
    }
    // It goes on as root's does: the signals arrive.
    master.upgrade();
    master.wait_up(1);
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
}

fn a_place_that_the_user_may_not_enter_is_said_at_the_start() {
    let builder = Master::builder().options(["--user", STRANGER]);
    open_directory(&builder);
    let closed = builder.file("closed");
    fs::create_dir(&closed).expect("a directory");
    set_mode(&closed, 0o700);
    let finished = builder.option("--chdir").option(&closed).run_to_end();
    let message = format!("user 54321 may not search {} (mode 0700)", closed.display());
    refused(&finished, &message, "chmod a+x");
}

fn an_upgrade_to_what_the_user_may_not_run_touches_no_worker() {
    let builder = Master::builder().workers(2).options(["--user", STRANGER, "-g"]);
    open_directory(&builder);
    let releases = Releases::new(builder.file("app"));
    releases.add(2, "");
    fs::write(releases.directory(1).join("knobs"), "ack=fd").expect("knobs");
    set_mode(&releases.directory(2), 0o700);
    let mut master = releases.run_by(builder).start();
    let before = master.workers_up();
    releases.link(2);
    let upgrade = master.ctl(["upgrade"]);
    upgrade.assert_code(1).assert_says("user 54321 may not search ").assert_says("(mode 0700)");
    assert_eq!(master.workers_up(), before, "{master}");
    master.assert_well(2);
}

fn the_einhorn_dialect_takes_the_same_options() {
    let options = ["--umask", "077", "--rlimit", "nofile=300", "--cpu-affinity", "auto"];
    let mut master = Master::builder().einhorn().options(options).start();
    let worker = master.workers_up()[0];
    assert_eq!(status(worker, "Umask"), "0077", "{master}");
    assert_eq!(worker.limit("Max open files"), ["300", "300"], "{master}");
    assert_eq!(status(worker, "Cpus_allowed_list"), available()[0], "{master}");
}
