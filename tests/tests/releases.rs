//! Release directories behind a link, as deploy tools make them: what an upgrade follows, what a rollback goes
//! back to, and what becomes of a pool whose files are replaced or deleted under it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tests::{Master, MasterBuilder, Process, Releases, binaries, place_worker};

tests::trials! {
    an_upgrade_follows_the_link_and_a_rollback_goes_back,
    a_link_that_was_not_moved_is_pointed_out,
    a_release_deleted_after_a_good_upgrade_is_not_missed,
    a_rollback_to_a_release_that_was_deleted_fails_and_changes_nothing,
    a_release_deleted_while_it_serves_is_told_of_and_the_next_upgrade_mends_it,
    a_worker_comes_back_from_the_program_that_was_replaced,
}

const WORKERS: u32 = 2;

fn builder() -> MasterBuilder {
    Master::builder().workers(WORKERS).options(["-s", "0.01"])
}

/// A pool that runs release 1, with a release 2 beside it.
fn two_releases() -> (Releases, Master) {
    let builder = builder();
    let releases = Releases::new(builder.file("app"));
    releases.add(2, "");
    let master = releases.run_by(builder).start();
    (releases, master)
}

/// The same, with releases that are scripts, which the system can only execute by path.
fn two_scripts() -> (Releases, Master) {
    let builder = builder();
    let releases = Releases::new(builder.file("app"));
    let script = format!("#!/bin/sh\nexec {} \"$@\"\n", binaries::worker("serve").display());
    releases.remove(1);
    releases.add_script(1, &script, 0o755);
    releases.add_script(2, &script, 0o755);
    let master = releases.run_by(builder).start();
    (releases, master)
}

#[track_caller]
fn assert_all_run(releases: &Releases, master: &mut Master, number: u32) {
    master.wait_up(WORKERS);
    let workers = master.workers_up();
    assert_eq!(workers.len(), WORKERS as usize, "{master}");
    workers.iter().for_each(|worker| releases.assert_runs(*worker, number));
}

/// Kills the first worker, and gives the one that comes in its place.
#[track_caller]
fn replace_by_death(master: &mut Master) -> Process {
    let victim = master.workers_up()[0];
    master.kill_worker(victim);
    master.wait_up(WORKERS);
    master.workers_up()[0]
}

fn an_upgrade_follows_the_link_and_a_rollback_goes_back() {
    let (releases, mut master) = two_releases();
    assert_all_run(&releases, &mut master, 1);
    releases.link(2);
    // A link that has moved changes nothing by itself, not even for a worker that is spawned after.
    releases.assert_runs(replace_by_death(&mut master), 1);

    master.ctl(["upgrade"]).assert_code(0);
    assert_all_run(&releases, &mut master, 2);
    let status = master.status();
    let directories: Vec<_> =
        status.releases.iter().map(|release| PathBuf::from(&release.real_directory)).collect();
    assert_eq!(directories, [releases.directory(1), releases.directory(2)], "{status:?}");

    let rollback = master.ctl(["rollback"]);
    rollback.assert_code(0);
    assert_all_run(&releases, &mut master, 1);
    releases.assert_runs(replace_by_death(&mut master), 1);
    // What was left for being bad is not kept to go back to.
    master.ctl(["rollback"]).assert_code(1).assert_says("nothing to roll back to");

    master.ctl(["upgrade"]).assert_code(0);
    assert_all_run(&releases, &mut master, 2);
    master.assert_well(WORKERS);
}

fn a_link_that_was_not_moved_is_pointed_out() {
    let says = "generation 2 is the same directory and program as generation 1: was the link moved?";
    let (releases, mut master) = two_releases();
    let forgotten = master.ctl(["upgrade"]);
    forgotten.assert_code(0);
    assert!(forgotten.stdout.contains(says), "{forgotten}");
    master.wait_log(&format!("INFO: {says}"));
    releases.link(2);
    assert!(!master.ctl(["upgrade"]).stdout.contains("was the link moved?"), "{master}");
    releases.link(1);
    let back = master.ctl(["upgrade"]);
    assert!(!back.stdout.contains("was the link moved?"), "a way back: {back}");
    master.assert_well(WORKERS);

    // A link to the program.
    let builder = builder();
    let link = builder.file("current");
    symlink(binaries::worker("serve"), &link).expect("a link");
    let master = builder.program([link]).start();
    assert!(master.ctl(["upgrade"]).stdout.contains(says), "{master}");
    // No link, or only one of the system's own.
    for program in [binaries::worker("serve"), "/bin/sh".into()] {
        let shell = ["-c".into(), format!("exec {}", binaries::worker("serve").display())];
        let arguments = if program.ends_with("sh") { &shell[..] } else { &[] };
        let words = [program.clone().into_os_string()].into_iter().chain(arguments.iter().map(Into::into));
        let master = self::builder().program(words).start();
        let upgrade = master.ctl(["upgrade"]);
        upgrade.assert_code(0);
        assert!(!upgrade.stdout.contains("was the link moved?"), "{}: {upgrade}", program.display());
    }
}

fn a_release_deleted_after_a_good_upgrade_is_not_missed() {
    let (releases, mut master) = two_releases();
    releases.link(2);
    master.ctl(["upgrade"]).assert_code(0);
    master.wait_up(WORKERS);
    releases.remove(1);
    releases.assert_runs(replace_by_death(&mut master), 2);
    releases.add(3, "");
    releases.link(3);
    master.ctl(["upgrade"]).assert_code(0);
    assert_all_run(&releases, &mut master, 3);
    master.assert_well(WORKERS);
}

fn a_rollback_to_a_release_that_was_deleted_fails_and_changes_nothing() {
    let (releases, mut master) = two_scripts();
    releases.link(2);
    master.ctl(["upgrade"]).assert_code(0);
    master.wait_up(WORKERS);
    let before = master.workers_up();
    releases.remove(1);
    let rollback = master.ctl(["rollback"]);
    rollback.assert_code(1).assert_says("cannot execute ./serve");
    rollback.assert_says(&format!("{WORKERS} of {WORKERS} workers of generation 2 serve"));
    assert_eq!(master.workers_up(), before, "{master}");
    let successor = replace_by_death(&mut master);
    assert_eq!(successor.directory(), Some(releases.directory(2)));
    master.assert_well(WORKERS);
}

fn a_release_deleted_while_it_serves_is_told_of_and_the_next_upgrade_mends_it() {
    let (releases, mut master) = two_scripts();
    releases.remove(1);
    let victim = master.workers_up()[0];
    master.kill_worker(victim);
    master.wait_log("slot 0: spawn (generation 1) failed: cannot execute ./serve");
    // The other worker serves.
    let status = master.wait_status("a slot that waits", |status| status.slots[0].next_spawn_ms.is_some());
    assert_eq!(status.master.up, WORKERS - 1, "{status:?}");
    let death = status.slots[0].last_death.as_ref().expect("a failed spawn");
    assert!(death.reason.contains("./serve"), "{death:?}");

    releases.link(2);
    master.ctl(["upgrade"]).assert_code(0);
    master.wait_up(WORKERS);
    let directories: Vec<_> = master.workers_up().iter().map(Process::directory).collect();
    assert_eq!(directories, vec![Some(releases.directory(2)); WORKERS as usize]);
    master.assert_well(WORKERS);
}

/// A binary that is held is there though its file was deleted, or replaced by one that is broken.
fn a_worker_comes_back_from_the_program_that_was_replaced() {
    let builder = builder();
    let program = builder.file("server");
    place_worker(&program);
    let mut master = builder.program([&program]).start();
    let broken = master.file("broken");
    fs::copy("/bin/false", &broken).expect("a program that fails");
    fs::rename(&broken, &program).expect("the new program in its place");
    replace_by_death(&mut master);

    master.ctl(["upgrade"]).assert_code(1).assert_says("exited with status 1");
    replace_by_death(&mut master);
    fs::remove_file(&program).expect("the new program");
    master.ctl(["upgrade"]).assert_code(1).assert_says("No such file or directory");
    replace_by_death(&mut master);

    place_worker(&program);
    master.ctl(["upgrade"]).assert_code(0);
    master.wait_up(WORKERS);
    let programs: Vec<_> = master.workers_up().iter().map(Process::program).collect();
    assert_eq!(programs, vec![Some(program); WORKERS as usize]);
    // Back to the first, which is in no directory any more.
    master.ctl(["rollback"]).assert_code(0);
    replace_by_death(&mut master);
    master.assert_well(WORKERS);
}
