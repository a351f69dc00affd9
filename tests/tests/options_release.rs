//! Options in a file that an upgrade changes for the release that it brings, or for the master.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use einhorn_proto::{OptionEffect, WorkerState, WorkerStatus};
use nix::sys::signal::Signal;
use tests::load::Plan;
use tests::{Gate, Master, Process, binaries};

use crate::options_file::{Pool, effects, one};

tests::trials! {
    each_release_keeps_the_attributes_that_it_came_with_under_load,
    a_trial_worker_and_its_check_have_the_new_attributes,
    each_release_keeps_how_its_workers_ack_and_stop_under_load,
    groups_are_stopped_as_their_release_asks,
    a_fleet_is_judged_by_the_file_that_it_reads,
    the_history_and_the_amount_of_the_log_change_and_change_back,
    a_reexec_goes_by_the_file_that_was_read_before_it,
    what_workers_get_from_the_master_changes_and_comes_back,
    the_directory_of_the_workers_can_change,
    workers_get_another_user_and_the_old_ones_are_still_heard needs "root",
    what_cannot_be_had_refuses_the_upgrade_and_names_the_file,
}

/// What a worker's process shows of its attributes.
#[derive(Debug, Clone, PartialEq)]
struct Made {
    umask: String,
    nice: i32,
    open_files: [String; 2],
    cpus: String,
    oom_score_adj: i32,
    variable: String,
}

impl Made {
    fn of(worker: Process) -> Self {
        let status = |field: &str| worker.status(field).expect("a field of its status");
        Self {
            umask: status("Umask"),
            nice: worker.nice().expect("a nice value"),
            open_files: worker.limit("Max open files"),
            cpus: status("Cpus_allowed_list"),
            oom_score_adj: worker.oom_score_adj().expect("a score"),
            variable: worker.environment()["FRUIT"].clone(),
        }
    }

    /// The lines that ask for it.
    fn lines(&self, directory: &Path) -> String {
        let Self { umask, nice, open_files: [soft, hard], cpus, oom_score_adj, variable } = self;
        let variables = directory.join(format!("{variable}.env"));
        fs::write(&variables, format!("FRUIT={variable}\n")).expect("a file of variables");
        let cpus = cpus.replace(',', "+");
        format!(
            "--umask {umask}\n--nice :{nice}\n--rlimit nofile={soft}:{hard}\n--cpu-affinity {cpus}\n\
             --oom-score-adj {oom_score_adj}\n--env-file {}\n",
            variables.display()
        )
    }

    /// Asserts that all workers are made so, and that the master says so.
    #[track_caller]
    fn assert_of_all(&self, master: &mut Master, when: &str) {
        for worker in master.workers_up() {
            assert_eq!(Self::of(worker), *self, "{when}: {master}");
        }
        let state = master.control().ask("state", &[]).data.expect("the state has data");
        assert_eq!(state["process"]["umask"], self.umask, "{when}");
        assert_eq!(state["process"]["nice"], self.nice, "{when}");
    }
}

/// The names of all attributes, in the order of a report.
const ATTRIBUTES: [&str; 6] =
    ["--cpu-affinity", "--env-file", "--nice", "--oom-score-adj", "--rlimit", "--umask"];

fn each_release_keeps_the_attributes_that_it_came_with_under_load() {
    let own = Process::of(std::process::id().cast_signed()).expect("this process");
    let (inherited, cpus) =
        (own.nice().expect("a nice value"), own.status("Cpus_allowed_list").expect("CPUs"));
    let old = Made {
        umask: "0027".into(),
        nice: (inherited + 2).min(18),
        open_files: ["500", "600"].map(str::to_owned),
        cpus: cpus.clone(),
        oom_score_adj: 400,
        variable: "apple".into(),
    };
    let new = Made {
        umask: "0077".into(),
        nice: (inherited + 3).min(19),
        open_files: ["700", "800"].map(str::to_owned),
        cpus: cpus.split([',', '-']).next().expect("a CPU").to_owned(),
        oom_score_adj: 500,
        variable: "pear".into(),
    };
    let builder = Master::builder().workers(2).without_number();
    let directory = builder.file("options").parent().expect("a directory").to_owned();
    let text = |made: &Made| format!("-n 2\n-s 0.01\n{}", made.lines(&directory));
    let mut pool = Pool::with(builder, &text(&old));
    old.assert_of_all(&mut pool.master, "at the start");
    let load = Plan { fresh: 4, keep_alive: 4, ..Plan::new(pool.master.address()) }.start();
    let all = ATTRIBUTES.map(|name| (name.to_owned(), OptionEffect::Now));

    // A release that fails takes its attributes with it.
    pool.releases.add(2, "exit_before_ack=9");
    pool.releases.link(2);
    pool.write(&text(&new));
    let failed = pool.ctl(&["upgrade"]);
    failed.assert_code(1).assert_says("option --umask: 0027 -> 0077");
    let undone = format!("{failed}").matches("undone with the upgrade").count();
    assert_eq!(undone, ATTRIBUTES.len(), "{failed}");
    pool.releases.assert_all_run(&mut pool.master, 2, 1);
    old.assert_of_all(&mut pool.master, "after a failed upgrade");
    pool.assert_shown("--umask", Some("0027"), "FILE:3");
    pool.respawn(2);
    old.assert_of_all(&mut pool.master, "after a respawn");

    // So does one that is aborted: the new worker has them, and the others keep theirs.
    let gate = Gate::closed(pool.master.file("gate"));
    pool.releases.add(3, &gate.knob());
    pool.releases.link(3);
    pool.ctl(&["upgrade", "--no-wait"]).assert_code(0);
    let is_starting = |worker: &WorkerStatus| worker.state == WorkerState::Starting;
    let starting = pool.master.wait_status("a new worker", |status| status.workers.iter().any(is_starting));
    let starting = starting.workers.iter().find(|worker| is_starting(worker)).expect("a new worker");
    let starting = Process::of(starting.pid).expect("a new worker");
    starting.wait_executed();
    assert_eq!(Made::of(starting), new);
    pool.ctl(&["reload"]).assert_code(0);
    pool.ctl(&["upgrade", "--abort"]).assert_code(0);
    drop(gate);
    pool.respawn(2);
    old.assert_of_all(&mut pool.master, "after an abort, and a respawn by another image of the master");

    // With a good one they are there to stay.
    pool.releases.link(1);
    assert_eq!(effects(&pool.master.upgrade()), all);
    pool.master.wait_up(2);
    new.assert_of_all(&mut pool.master, "after an upgrade");
    pool.assert_shown("--umask", Some("0077"), "FILE:3");
    pool.ctl(&["reload"]).assert_code(0);
    pool.respawn(2);
    new.assert_of_all(&mut pool.master, "after a respawn by another image of the master");

    // The previous release comes back as it ran; the options stay those of the file.
    pool.ctl(&["rollback"]).assert_code(0);
    pool.master.wait_up(2);
    old.assert_of_all(&mut pool.master, "after a rollback");
    pool.respawn(2);
    old.assert_of_all(&mut pool.master, "after a rollback and a respawn");
    pool.assert_shown("--umask", Some("0077"), "FILE:3");
    assert_eq!(pool.master.upgrade().options, []);
    pool.master.wait_up(2);
    new.assert_of_all(&mut pool.master, "after the next upgrade");

    load.stop().assert_nothing_lost();
    pool.master.assert_well(2);
}

fn a_trial_worker_and_its_check_have_the_new_attributes() {
    let base = "-n 1\n-s 0.01\n--check '/bin/sh -c \"grep -qx Umask:.0$WANTED /proc/$EINHORN_CHECK_PID/status && [ $(umask) = 0$WANTED ]\"'\n";
    let builder = Master::builder().without_number();
    let variables = builder.file("variables");
    fs::write(&variables, "WANTED=077\n").expect("a file of variables");
    let base = format!("{base}--env-file {}\n", variables.display());
    let mut pool = Pool::with(builder, &format!("{base}--umask 027\n"));
    pool.ctl(&["upgrade"]).assert_code(1).assert_says("exited with status 1");
    assert_eq!(pool.upgrade(&format!("{base}--umask 077\n")), one("--umask", OptionEffect::Now));
}

fn each_release_keeps_how_its_workers_ack_and_stop_under_load() {
    let builder = Master::builder().workers(2).without_number().without_ack_mode();
    let old = "-n 2\n-s 0.01\n-m\n--ack-timeout 20\n--stop-signal TERM\n";
    let new = "-n 2\n-s 0.01\n--ack-mode 0.1\n--ack-timeout 20\n--stop-signal INT\n";
    let mut pool = Pool::with(builder, old);
    let load = Plan { fresh: 4, keep_alive: 4, ..Plan::new(pool.master.address()) }.start();
    let ack_mode = |pool: &mut Pool| pool.master.wait_up(2).master.ack_mode.expect("an ack mode");
    let drained = |pool: &mut Pool, generation: u64, signal: &str, count: usize| {
        let line = format!("(generation {generation}) draining with {signal}: ");
        pool.master.wait("old workers to be asked to stop", |master| {
            (master.log().matches(&line).count() == count).then_some(())
        });
    };
    let changed =
        ["--ack-mode", "--graceful-signal", "--manual"].map(|name| (name.to_owned(), OptionEffect::Now));

    // Workers that do not ack are up by time, which is wrong for the release that serves.
    let gate = Gate::closed(pool.master.file("gate"));
    pool.releases.add(2, &gate.knob());
    pool.releases.add(3, "ack=none");
    pool.releases.link(2);
    pool.write(&new.replace("--ack-mode 0.1", "--ack-mode 30"));
    pool.ctl(&["upgrade", "--no-wait"]).assert_code(0);
    pool.master.wait_log("(generation 2) spawned");
    pool.ctl(&["upgrade", "--abort"]).assert_code(0);
    drained(&mut pool, 2, "SIGINT", 2);
    drop(gate);
    assert_eq!(ack_mode(&mut pool), "manual");
    pool.assert_shown("--manual", Some("true"), "FILE:3");

    pool.releases.link(3);
    assert_eq!(pool.upgrade(new), changed);
    assert_eq!(ack_mode(&mut pool), "timer");
    drained(&mut pool, 1, "SIGTERM", 2);
    pool.respawn(2);
    pool.ctl(&["reload"]).assert_code(0);
    pool.respawn(2);

    // As it ran.
    pool.ctl(&["rollback"]).assert_code(0);
    assert_eq!(ack_mode(&mut pool), "manual");
    drained(&mut pool, 3, "SIGINT", 2);
    pool.releases.assert_all_run(&mut pool.master, 2, 1);
    pool.respawn(2);
    pool.assert_shown("--ack-mode", Some("0.1"), "FILE:3");
    assert_eq!(pool.master.upgrade().options, []);
    assert_eq!(ack_mode(&mut pool), "timer");
    drained(&mut pool, 1, "SIGTERM", 4);
    load.stop().assert_nothing_lost();
    pool.master.assert_well(2);
}

fn groups_are_stopped_as_their_release_asks() {
    let builder = Master::builder();
    let file = builder.file("options");
    fs::write(&file, "-s 0.01\n").expect("an options file");
    let script = format!(
        "sleep 1000 3<&- & echo $! >>'{}'; exec '{}'",
        builder.file("helpers").display(),
        binaries::worker("serve").display()
    );
    let helpers = builder.file("helpers");
    let mut master = builder.option("--options-file").option(&file).program(["sh", "-c", &script]).start();
    let helper = |number: usize| {
        let pids = fs::read_to_string(&helpers).expect("the pids of helpers");
        let pid = pids.lines().nth(number).expect("a helper").parse().expect("a pid");
        Process::of(pid)
    };
    // The helper of a release without the option stays, although the next one has it.
    fs::write(&file, "-s 0.01\n--stop-group\n").expect("an options file");
    assert_eq!(effects(&master.upgrade()), one_changed("--stop-group"));
    master.wait_up(1);
    assert!(helper(0).is_some(), "{master}");
    // That of a release with it goes, although the next one lacks it.
    let old = helper(1).expect("the helper of the new worker");
    fs::write(&file, "-s 0.01\n").expect("an options file");
    assert_eq!(effects(&master.upgrade()), one_changed("--stop-group"));
    old.wait_gone();
    assert!(helper(0).is_some() && helper(2).is_some(), "{master}");
    [0, 2].into_iter().filter_map(helper).for_each(|helper| _ = helper.signal(Signal::SIGKILL));
}

fn a_fleet_is_judged_by_the_file_that_it_reads() {
    let mut pool = Pool::new(2, "-n 2\n-s 0.01\n--max-upgrade-additional 1\n");
    let refused = pool.ctl(&["upgrade", "--fleet"]);
    refused.assert_code(1).assert_says("--max-upgrade-additional");
    pool.write("-n 2\n-s 0.01\n--max-upgrade-additional 2\n");
    let done = pool.ctl(&["upgrade", "--fleet"]);
    let change = "option --max-upgrade-additional: 1 -> 2";
    assert!(done.assert_code(0).stdout.contains(change), "{done}");
    pool.master.wait_up(2);
    pool.write("-n 2\n-s 0.01\n--max-upgrade-additional 1\n");
    pool.ctl(&["upgrade", "--fleet"]).assert_code(1).assert_says("--max-upgrade-additional");
    pool.assert_shown("--max-upgrade-additional", Some("2"), "FILE:3");
    pool.ctl(&["upgrade"]).assert_code(0);
    pool.assert_shown("--max-upgrade-additional", Some("1"), "FILE:3");
}

fn the_history_and_the_amount_of_the_log_change_and_change_back() {
    let mut pool = Pool::new(1, "-n 1\n-s 0.01\n");
    let (one, two) = (pool.file.with_file_name("one"), pool.file.with_file_name("two"));
    let text = |history: &Path, more: &str| format!("-n 1\n-s 0.01\n--history {}\n{more}", history.display());
    let lines = |file: &Path| fs::read_to_string(file).unwrap_or_default().lines().count();
    let verbosity = |pool: &Pool| {
        let state = pool.master.control().ask("state", &[]).data.expect("the state has data");
        state["verbosity"].as_str().expect("a verbosity").to_owned()
    };
    let changed = ["--history", "--verbose"].map(|name| (name.to_owned(), OptionEffect::Now));
    assert_eq!(pool.upgrade(&text(&one, "-v\n")), changed);
    pool.master.wait("a line of the first file", |_| (lines(&one) == 1).then_some(()));
    assert_eq!(verbosity(&pool), "debug");

    // An upgrade that fails is in the file of before.
    pool.releases.add(2, "exit_before_ack=9");
    pool.releases.link(2);
    pool.write(&text(&two, "-q\n"));
    pool.ctl(&["upgrade"]).assert_code(1);
    pool.master.wait("another line of the first file", |_| (lines(&one) == 2).then_some(()));
    assert_eq!((lines(&two), verbosity(&pool).as_str()), (0, "debug"));

    // What somebody has said since stays.
    let gate = Gate::closed(pool.master.file("gate"));
    pool.releases.add(3, &gate.knob());
    pool.releases.link(3);
    pool.ctl(&["upgrade", "--no-wait"]).assert_code(0);
    tests::wait::wait_for("less of a log", || (verbosity(&pool) == "warn").then_some(()));
    pool.ctl(&["louder"]).assert_code(0);
    pool.ctl(&["louder"]).assert_code(0);
    pool.ctl(&["quieter"]).assert_code(0);
    assert_eq!(verbosity(&pool), "info");
    pool.ctl(&["upgrade", "--abort"]).assert_code(0);
    assert_eq!(verbosity(&pool), "info");
}

fn a_reexec_goes_by_the_file_that_was_read_before_it() {
    let pool = Pool::new(1, "-n 1\n");
    let mark = pool.file.with_file_name("mark");
    let script = pool.file.with_file_name("become");
    let daemon = binaries::einhyrningsins();
    let text = format!("#!/bin/sh\necho >>'{}'\nexec '{}' \"$@\"\n", mark.display(), daemon.display());
    fs::write(&script, text).expect("a script");
    fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("its mode");
    let runs = || fs::read_to_string(&mark).unwrap_or_default().lines().count();
    pool.write(&format!("-n 1\n--reexec-as {}\n", script.display()));
    pool.ctl(&["reload"]).assert_code(0);
    pool.ctl(&["upgrade"]).assert_code(0);
    assert_eq!(runs(), 0);
    pool.ctl(&["reload"]).assert_code(0);
    assert!(runs() > 0);
    pool.write("-n 1\n");
    pool.ctl(&["upgrade"]).assert_code(0);
    let before = runs();
    pool.ctl(&["reload"]).assert_code(0);
    assert_eq!(runs(), before);
}

fn what_workers_get_from_the_master_changes_and_comes_back() {
    let builder = Master::builder().workers(1).env("FRUIT", "apple");
    let mut pool = Pool::with(builder, "-s 0.01\n");
    let gets = |pool: &mut Pool| {
        let worker = pool.master.workers_up()[0];
        let environment = worker.environment();
        let stderr = worker.descriptors()[&2].target.clone();
        let is_barred = worker.status("NoNewPrivs").as_deref() == Some("1");
        let masters = pool.master.process().descriptors()[&2].target.clone();
        [
            environment.contains_key("FRUIT"),
            environment.contains_key("EINHORN_SOCK_FD"),
            stderr != masters,
            is_barred,
        ]
    };
    let before = [true, false, false, false];
    assert_eq!(gets(&mut pool), before);
    let names = ["--capture-startup", "--command-socket-as-fd", "--drop-env-var", "--no-new-privs"];
    let changed = names.map(|name| (name.to_owned(), OptionEffect::Now));
    let text = "-s 0.01\n-g\n--capture-startup\n--drop-env-var FRUIT\n--no-new-privs\n";
    assert_eq!(pool.upgrade(text), changed);
    assert_eq!(gets(&mut pool), [false, true, true, true]);
    assert_eq!(pool.upgrade("-s 0.01\n"), changed);
    assert_eq!(gets(&mut pool), before);
    pool.ctl(&["rollback"]).assert_code(0);
    assert_eq!(gets(&mut pool), [false, true, true, true]);
}

fn the_directory_of_the_workers_can_change() {
    let builder = Master::builder();
    let (one, two) = (builder.file("one"), builder.file("two"));
    fs::create_dir(&one).expect("a directory");
    fs::create_dir(&two).expect("a directory");
    let file = builder.file("options");
    fs::write(&file, format!("--chdir {}\n", one.display())).expect("an options file");
    let mut master = builder.option("--options-file").option(&file).start();
    let directory = |master: &mut Master| master.workers_up()[0].directory();
    assert_eq!(directory(&mut master), Some(one.clone()));
    fs::write(&file, format!("--chdir {}\n", two.display())).expect("an options file");
    assert_eq!(effects(&master.upgrade()), one_changed("--chdir"));
    assert_eq!(directory(&mut master), Some(two.clone()));
    master.ctl(["reload"]).assert_code(0);
    master.upgrade();
    assert_eq!(directory(&mut master), Some(two));
    // Without the line it is that of the master.
    fs::write(&file, "").expect("an options file");
    assert_eq!(effects(&master.upgrade()), one_changed("--chdir"));
    assert_eq!(directory(&mut master), master.process().directory());
}

fn workers_get_another_user_and_the_old_ones_are_still_heard() {
    let builder = Master::builder().workers(2).without_number();
    let directory = builder.file("options").parent().expect("a directory").to_owned();
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).expect("its mode");
    let file = builder.file("options");
    let place = |name: &str| tests::place_worker(&directory.join(name));
    place("serve");
    let text = |user: u32| format!("-n 2\n-s 0.01\n--user {user}:54322\n");
    fs::write(&file, text(54_321)).expect("an options file");
    let builder = builder.option("--options-file").option(&file).option("--chdir").option(&directory);
    let mut master = builder.program(["./serve", "ack=notify", "ping_ms=50"]).start();
    let assert_users = |master: &mut Master, user: u32| {
        for worker in master.workers_up() {
            assert_eq!(worker.status("Uid").as_deref(), Some(format!("{user}\t").repeat(4).trim()));
        }
    };
    assert_users(&mut master, 54_321);
    fs::write(&file, text(54_323)).expect("an options file");
    assert_eq!(effects(&master.upgrade()), one_changed("--user"));
    master.wait_up(2);
    assert_users(&mut master, 54_323);
    master.wait_log("every user may send to the notify socket from now on");
    master.ctl(["reload"]).assert_code(0);
    master.ctl(["rollback"]).assert_code(0);
    master.wait_up(2);
    assert_users(&mut master, 54_321);
    master.assert_well(2);
}

fn what_cannot_be_had_refuses_the_upgrade_and_names_the_file() {
    let mut pool = Pool::new(1, "-n 1\n");
    let before = pool.master.workers_up();
    for (line, says) in [
        ("--cpu-affinity 1023", "--cpu-affinity names 1023"),
        ("--user a:b\n--group c", "--user names a group"),
        ("--user no-such-user", "no such user: no-such-user"),
        ("--env-file /no/such/file", "/no/such/file"),
    ] {
        pool.write(&format!("-n 1\n{line}\n"));
        pool.ctl(&["upgrade"]).assert_code(1).assert_says(says);
    }
    pool.write("-n 1\n");
    assert_eq!(pool.master.workers_up(), before);
    assert_eq!(pool.master.upgrade().options, []);
}

fn one_changed(option: &str) -> Vec<(String, OptionEffect)> {
    one(option, OptionEffect::Now)
}
