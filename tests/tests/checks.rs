//! A release that boots, acks and is of no use, or whose check is of no use, deployed under load in each of the ways: the
//! upgrade fails in bounded time and says why, and not one request is lost or answered by that release.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::load::{Load, Plan};
use tests::{Finished, Master, Process, Releases, binaries, wait};

tests::trials! {
    a_release_that_answers_with_an_error,
    a_release_that_answers_late,
    a_release_of_the_wrong_version,
    a_check_that_hangs,
    a_check_that_leaves_a_child_with_its_output,
    a_check_that_leaves_a_child_in_a_session_of_its_own needs "util-linux",
    a_check_that_fills_its_output,
    a_check_that_is_missing,
    a_check_that_is_killed,
    a_hangup_is_checked_and_a_rollback_is_not,
    a_client_may_bring_its_own_check_or_none,
    a_check_under_a_bound_of_one_worker_in_addition,
}

const WORKERS: u32 = 3;

/// The ways to upgrade.
const WAYS: [&[&str]; 3] =
    [&["upgrade"], &["upgrade", "--fleet"], &["upgrade", "--canary", "1", "--soak", "600"]];

/// An upgrade takes no longer if its check fails within a second. It takes far less on an idle machine.
const BOUND: Duration = Duration::from_secs(20);

/// The command of a check, `einhyrningsinsctl probe`, with these words behind it.
pub(crate) fn probe(words: &str) -> String {
    format!("{} probe {words}", binaries::einhyrningsinsctl().display())
}

/// A pool that runs release 1 under load, and checks release 2 before it goes on to it.
struct Deploy {
    releases: Releases,
    master: Master,
    load: Load,
    /// Who serves.
    workers: Vec<Process>,
}

impl Deploy {
    /// The knobs are those of release 2; `check` may be no command at all.
    fn new(knobs: &str, check: &str, options: &[&str]) -> Self {
        let builder = Master::builder().workers(WORKERS).options(["-s", "0.01", "--check", check]);
        let releases = Releases::new(builder.file("app"));
        releases.add(2, knobs);
        let mut master = releases.run_by(builder.options(options)).start();
        let load = Plan { fresh: 4, keep_alive: 4, ..Plan::new(master.address()) }.start();
        load.wait_for_answers(50);
        releases.link(2);
        let workers = master.workers_up();
        Self { releases, master, load, workers }
    }

    /// Upgrades in this way. It takes no longer than it may.
    #[track_caller]
    fn upgrade(&self, way: &[&str]) -> Finished {
        let begun = Instant::now();
        let upgrade = self.master.ctl(way);
        assert!(begun.elapsed() < BOUND, "{:?}: {upgrade}\n{}", begun.elapsed(), self.master);
        upgrade
    }

    /// Asserts that an upgrade has failed with these words, that no worker was touched, and that nothing is left of it.
    #[track_caller]
    fn assert_refused(&mut self, upgrade: &Finished, words: &[&str]) {
        upgrade.assert_code(1).assert_says("no worker was touched");
        for words in words {
            upgrade.assert_says(words);
        }
        upgrade.assert_says(&format!("{WORKERS} of {WORKERS} workers of generation 1 serve"));
        self.assert_untouched();
    }

    #[track_caller]
    fn assert_untouched(&mut self) {
        let workers = self.workers.clone();
        self.master.wait("the end of the trial worker and of its check", |master| {
            (master.process().children() == workers).then_some(())
        });
        assert_eq!(self.master.workers_up(), workers);
        assert!(!trial_directory(&self.master).exists(), "{}", self.master);
        self.load.wait_for_answers(50);
    }

    /// Ends the load: release 1 has answered all of it, and answers.
    #[track_caller]
    fn finish(mut self) {
        let report = self.load.stop();
        report.assert_nothing_lost();
        assert_eq!(report.generations(), [1].into(), "{report}");
        self.releases.assert_all_run(&mut self.master, WORKERS, 1);
    }
}

/// Where the sockets of trial workers are.
pub(crate) fn trial_directory(master: &Master) -> PathBuf {
    PathBuf::from(format!("{}.trial", master.socket().display()))
}

/// Deploys a release, or has it checked, in each way, and asserts that this fails with these words.
#[track_caller]
fn assert_is_refused_in_each_way(knobs: &str, check: &str, options: &[&str], words: &[&str]) {
    let mut deploy = Deploy::new(knobs, check, options);
    for way in WAYS {
        let upgrade = deploy.upgrade(way);
        deploy.assert_refused(&upgrade, words);
    }
    deploy.finish();
}

fn a_release_that_answers_with_an_error() {
    let words = ["the check failed: exited with status 1", "status 500"];
    assert_is_refused_in_each_way("status=500", &probe("http:/"), &[], &words);
}

fn a_release_that_answers_late() {
    let words = ["the check failed: exited with status 1", "no answer within 0.2s"];
    assert_is_refused_in_each_way("request_ms=1000", &probe("http:/ --timeout 0.2"), &[], &words);
}

fn a_release_of_the_wrong_version() {
    let words = ["the check failed: exited with status 1", "does not contain \"v2\""];
    assert_is_refused_in_each_way("version=v1", &probe("http:/ --contains v2"), &[], &words);
}

fn a_check_that_hangs() {
    let words = ["did not end within 0.3s (--check-timeout)", "| it begins"];
    let check = "sh -c 'echo it begins; sleep 1000'";
    assert_is_refused_in_each_way("", check, &["--check-timeout", "0.3"], &words);
}

/// Whether it fails or passes, its child is killed, and the upgrade does not wait for it.
fn a_check_that_leaves_a_child_with_its_output() {
    let directory = tempfile::tempdir().expect("a directory");
    let (child, status) = (directory.path().join("child"), directory.path().join("status"));
    let check = format!(
        "sh -c 'sleep 1000 & echo $! > {}; echo it forks; exit $(cat {})'",
        child.display(),
        status.display()
    );
    fs::write(&status, "3").expect("a status");
    let assert_dead = || {
        let pid = fs::read_to_string(&child).expect("the pid of the child");
        let pid = pid.trim().parse().expect("a pid");
        // It was killed; whoever has it as a child now reaps it.
        wait::wait_for("the end of the child", || Process::of(pid).is_none().then_some(()));
    };
    let mut deploy = Deploy::new("", &check, &[]);
    for way in WAYS {
        let upgrade = deploy.upgrade(way);
        assert_dead();
        deploy.assert_refused(&upgrade, &["the check failed: exited with status 3", "| it forks"]);
    }
    fs::write(&status, "0").expect("a status");
    deploy.upgrade(&["upgrade"]).assert_code(0);
    assert_dead();
    deploy.load.wait_for_answers(50);
    deploy.load.stop().assert_nothing_lost();
    deploy.releases.assert_all_run(&mut deploy.master, WORKERS, 2);
}

/// Nobody waits for its child, which has left the group of the command and stays; it cannot write to the master any more.
fn a_check_that_leaves_a_child_in_a_session_of_its_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let (child, status) = (directory.path().join("child"), directory.path().join("status"));
    let left =
        format!("trap \"\" PIPE; echo $$ > {0}.new; mv {0}.new {0}; sleep 1000 & wait", child.display());
    let check = format!(
        "sh -c 'setsid -f sh -c \"$1\"; until [ -e $2 ]; do sleep 0.01; done; echo it forks; exit $(cat $3)' sh '{left}' {} {}",
        child.display(),
        status.display()
    );
    fs::write(&status, "3").expect("a status");
    let mut deploy = Deploy::new("", &check, &[]);
    let end_child = || {
        let pid = fs::read_to_string(&child).expect("the pid of the child");
        fs::remove_file(&child).expect("its file");
        let child = pid.trim().parse().ok().and_then(Process::of).expect("a child that is left");
        let output = child.descriptors().contains_key(&1);
        child.kill_with_descendants();
        assert!(output, "it holds its output");
    };
    for way in WAYS {
        let upgrade = deploy.upgrade(way);
        end_child();
        deploy.assert_refused(&upgrade, &["the check failed: exited with status 3", "| it forks"]);
    }
    fs::write(&status, "0").expect("a status");
    deploy.upgrade(&["upgrade"]).assert_code(0);
    end_child();
    deploy.load.wait_for_answers(50);
}

/// It is heard to its end, 10 MB of it, and its last 8 KiB are shown.
fn a_check_that_fills_its_output() {
    let check = "sh -c 'seq 1 1400000; exit 4'";
    let mut deploy = Deploy::new("", check, &[]);
    for way in WAYS {
        let upgrade = deploy.upgrade(way);
        let shown = upgrade.stderr.lines().filter_map(|line| line.strip_prefix("  | "));
        let shown: Vec<u32> = shown.filter_map(|number| number.parse().ok()).collect();
        let last: Vec<u32> = (1_400_001 - shown.len() as u32..=1_400_000).collect();
        assert_eq!(shown, last, "{upgrade}");
        // Each has seven digits, and a line end.
        assert!((900..=1024).contains(&shown.len()), "{} lines", shown.len());
        deploy.assert_refused(&upgrade, &["the check failed: exited with status 4"]);
    }
    deploy.finish();
}

fn a_check_that_is_missing() {
    let words = ["the check failed: cannot run it: ", "/no/such/check", "No such file or directory"];
    assert_is_refused_in_each_way("", "/no/such/check", &[], &words);
}

fn a_check_that_is_killed() {
    let words = ["the check failed: was killed by SIGKILL", "| about to die"];
    assert_is_refused_in_each_way("", "sh -c 'echo about to die; kill -KILL $$'", &[], &words);
}

fn a_hangup_is_checked_and_a_rollback_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let (checked, bad) = (directory.path().join("checked"), directory.path().join("bad"));
    let check = format!(
        "sh -c 'echo $EINHORN_GENERATION >> {}; seq 101 111; test ! -e {}'",
        checked.display(),
        bad.display()
    );
    let generations = || fs::read_to_string(&checked).expect("a line for each check");
    fs::write(&bad, "").expect("a file");
    let mut deploy = Deploy::new("", &check, &[]);
    deploy.master.signal(Signal::SIGHUP);
    deploy.master.wait_log("the check failed: exited with status 1");
    deploy.assert_untouched();
    let log = deploy.master.log();
    let wrote = log.lines().filter_map(|line| line.split_once(" WARN: the check wrote: "));
    let wrote: Vec<u32> = wrote.filter_map(|(_, number)| number.parse().ok()).collect();
    assert_eq!(wrote, (102..=111).collect::<Vec<_>>(), "{log}");
    fs::remove_file(&bad).expect("a file");
    deploy.master.signal(Signal::SIGHUP);
    deploy.master.wait_log("upgrade to generation 3 done");
    deploy.releases.assert_all_run(&mut deploy.master, WORKERS, 2);
    assert_eq!(generations(), "2\n3\n");
    fs::write(&bad, "").expect("a file");
    deploy.upgrade(&["rollback"]).assert_code(0);
    deploy.releases.assert_all_run(&mut deploy.master, WORKERS, 1);
    assert_eq!(generations(), "2\n3\n");
    deploy.load.stop().assert_nothing_lost();
}

fn a_client_may_bring_its_own_check_or_none() {
    let mut deploy = Deploy::new("status=500", "false", &[]);
    let upgrade = deploy.upgrade(&["upgrade", "--check", &probe("http:/")]);
    deploy.assert_refused(&upgrade, &["exited with status 1", "status 500"]);
    let own = deploy.upgrade(&["upgrade", "--check", &probe("http:/ --status 500")]);
    // From here on it is the release that fails, as nobody has looked.
    own.assert_code(0);
    let Deploy { mut master, load, releases, .. } = deploy;
    drop(load.stop());
    master.wait_up(WORKERS);
    releases.link(1);
    master.ctl(["upgrade"]).assert_code(1).assert_says("no worker was touched");
    let unchecked = master.ctl(["upgrade", "--no-check"]);
    unchecked.assert_code(0);
    assert!(!unchecked.stdout.contains("checking generation"), "{unchecked}");
    releases.assert_all_run(&mut master, WORKERS, 1);
}

/// The first new worker waits for the end of the trial worker.
fn a_check_under_a_bound_of_one_worker_in_addition() {
    let mut deploy = Deploy::new("", &probe("http:/"), &["--max-upgrade-additional", "1"]);
    let command = deploy.master.ctl_command(["upgrade"]);
    let upgrade = std::thread::spawn(|| tests::process::run(command));
    let mut most = 0;
    wait::wait_for("the end of the upgrade", || {
        most = most.max(deploy.master.status().workers.len());
        upgrade.is_finished().then_some(())
    });
    upgrade.join().expect("the control client ends").assert_code(0);
    assert_eq!(most, WORKERS as usize + 1, "{}", deploy.master);
    deploy.load.wait_for_answers(50);
    deploy.load.stop().assert_nothing_lost();
    deploy.releases.assert_all_run(&mut deploy.master, WORKERS, 2);
}
