//! Checks that end in another way than by themselves: an abort, a stop, the death of the trial worker or of the master, and a
//! master that replaces itself meanwhile. And the check of the first start, and those of canaries.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use einhorn_proto::{Status, UpgradeStage};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tests::load::{Load, Plan};
use tests::{
    Finished, Gate, Master, MasterBuilder, Process, Releases, ServiceManager, Successor, process, wait,
};

use crate::checks::trial_directory;

tests::trials! {
    an_abort_ends_the_check,
    a_stop_ends_the_check,
    the_death_of_the_trial_worker_fails_the_check,
    a_trial_worker_that_dies_before_its_ack_fails_the_check,
    a_trial_worker_that_never_acks_fails_the_check,
    a_check_outlives_a_reload,
    a_check_that_ends_while_the_master_is_replaced_is_heard needs "python3",
    a_check_that_another_process_has_reaped_fails,
    a_trial_worker_that_dies_while_the_master_is_replaced_fails_the_check needs "python3",
    a_check_of_canaries_outlives_a_reload,
    canaries_whose_checks_fail_are_rolled_back,
    canaries_whose_checks_pass_are_followed_by_the_rest,
    a_failing_check_of_the_first_start_ends_the_master,
    connections_wait_for_the_check_of_the_first_start,
    the_next_start_removes_what_a_killed_master_has_left,
}

const WORKERS: u32 = 2;

/// A command that says that it runs, and then waits for the test to say how it ends.
pub(crate) struct Command {
    fifo: PathBuf,
    /// Open both ways: what is written waits for its reader.
    verdict: File,
}

impl Command {
    pub(crate) fn new(fifo: PathBuf) -> Self {
        mkfifo(&fifo, Mode::S_IRWXU).expect("a FIFO");
        let verdict = File::options().read(true).write(true).open(&fifo).expect("the FIFO");
        Self { fifo, verdict }
    }

    /// As `--check` has it.
    pub(crate) fn line(&self) -> String {
        format!("sh -c 'echo it runs; read status < {}; exit $status'", self.fifo.display())
    }

    pub(crate) fn ends_with(&mut self, status: i32) {
        writeln!(self.verdict, "{status}").expect("room in the FIFO");
    }

    /// The process that runs it, and waits.
    #[track_caller]
    pub(crate) fn wait_running(&self, master: &mut Master) -> Process {
        let pid = master.process().pid();
        self.wait_running_under(master, pid)
    }

    /// The same, where the process of the test's master is a service manager, and the master is `pid`.
    #[track_caller]
    pub(crate) fn wait_running_under(&self, master: &mut Master, pid: i32) -> Process {
        let fifo = self.fifo.display().to_string();
        master.wait("the command to run", |_| {
            let mut children = Process::of(pid)?.children().into_iter();
            children.find(|child| {
                let words = child.arguments();
                words.first().is_some_and(|word| word == "sh")
                    && words.iter().any(|word| word.contains(&fifo))
            })
        })
    }
}

/// A pool of release 1 under load, with a release 2 that its command checks.
struct Deploy {
    command: Command,
    releases: Releases,
    master: Master,
    load: Load,
}

/// An upgrade whose check runs.
struct Checked {
    upgrade: JoinHandle<Finished>,
    trial: Process,
    command: Process,
}

impl Deploy {
    fn new(knobs: &str, wrap: impl FnOnce(MasterBuilder) -> MasterBuilder) -> Self {
        let builder = Master::builder().workers(WORKERS).options(["-s", "0.01"]);
        let command = Command::new(builder.file("command"));
        let builder = wrap(builder.options(["--check", &command.line()]));
        let releases = Releases::new(builder.file("app"));
        releases.add(2, knobs);
        let mut master = releases.run_by(builder).start();
        let load = Plan { fresh: 2, keep_alive: 2, ..Plan::new(master.address()) }.start();
        load.wait_for_answers(20);
        releases.link(2);
        master.status();
        Self { command, releases, master, load }
    }

    /// Asserts that the master has no children but its workers.
    #[track_caller]
    fn assert_nobody_else(&mut self) {
        let mut workers = self.master.workers_up();
        workers.sort_unstable();
        assert_eq!(self.master.process().children(), workers, "{}", self.master);
    }

    fn upgrade(&self, words: &[&str]) -> JoinHandle<Finished> {
        let command = self.master.ctl_command(words);
        thread::spawn(|| process::run(command))
    }

    /// Begins an upgrade, and waits until its check runs.
    fn begin(&mut self) -> Checked {
        let upgrade = self.upgrade(&["upgrade"]);
        let command = self.command.wait_running(&mut self.master);
        let status = self.master.status();
        assert_eq!(status.upgrade.as_ref().map(|upgrade| upgrade.stage), Some(UpgradeStage::Checking));
        let trial = status.workers.iter().find(|worker| worker.generation == 2);
        let trial = trial.and_then(|worker| Process::of(worker.pid)).expect("a trial worker");
        assert!(!trial.environment().contains_key("EINHORN_SLOT"), "it has no slot");
        Checked { upgrade, trial, command }
    }

    /// Asserts that the upgrade has failed with these words, that nothing is left of it, and that release 1 has answered
    /// every request.
    #[track_caller]
    fn assert_failed(mut self, checked: Checked, words: &[&str]) {
        let Checked { upgrade, trial, command } = checked;
        let upgrade = finished(upgrade);
        upgrade.assert_code(1).assert_says("2 of 2 workers of generation 1 serve");
        for words in words {
            upgrade.assert_says(words);
        }
        command.wait_gone();
        trial.wait_gone();
        self.master.wait_up(WORKERS);
        self.assert_nobody_else();
        assert!(!trial_directory(&self.master).exists(), "{}", self.master);
        self.load.wait_for_answers(20);
        let report = self.load.stop();
        report.assert_nothing_lost();
        assert_eq!(report.generations(), [1].into(), "{report}");
        self.releases.assert_all_run(&mut self.master, WORKERS, 1);
    }

    /// Asserts that the upgrade is done, and has lost no request.
    #[track_caller]
    fn assert_done(mut self, upgrade: JoinHandle<Finished>) {
        finished(upgrade).assert_code(0);
        self.load.wait_for_answers(20);
        self.releases.assert_all_run(&mut self.master, WORKERS, 2);
        self.assert_nobody_else();
        self.load.stop().assert_nothing_lost();
    }
}

fn finished(upgrade: JoinHandle<Finished>) -> Finished {
    upgrade.join().expect("the control client ends")
}

fn an_abort_ends_the_check() {
    let mut deploy = Deploy::new("", |builder| builder);
    let checked = deploy.begin();
    deploy.master.ctl(["upgrade", "--abort"]).assert_code(0);
    let rollouts = deploy.master.control().ask("history", &[]);
    let rollouts: einhorn_proto::History = tests::control::typed(rollouts);
    assert!(rollouts.rollouts.iter().all(|rollout| rollout.is_untouched), "{rollouts:?}");
    for (question, answer) in
        [("history", "  no worker touched  "), ("status", "failed before it touched a worker")]
    {
        let shown = deploy.master.ctl([question]);
        assert!(shown.stdout.contains(answer), "{shown}");
    }
    deploy
        .master
        .wait_log("an abort was asked for; no worker was touched: 2 of 2 workers of generation 1 serve");
    deploy.assert_failed(checked, &["abort", "no worker was touched"]);
}

fn a_stop_ends_the_check() {
    let mut deploy = Deploy::new("", |builder| builder);
    let Checked { upgrade, trial, command } = deploy.begin();
    drop(deploy.load.stop());
    deploy.master.ctl(["die"]).assert_code(0);
    finished(upgrade).assert_code(1).assert_says("no worker was touched");
    deploy.master.wait_exit_code(0);
    assert!(!command.is_alive() && !trial.is_alive(), "{}", deploy.master);
    assert!(!trial_directory(&deploy.master).exists(), "{}", deploy.master);
}

fn the_death_of_the_trial_worker_fails_the_check() {
    let mut deploy = Deploy::new("", |builder| builder);
    let checked = deploy.begin();
    assert!(checked.trial.signal(Signal::SIGKILL));
    deploy.assert_failed(checked, &["was killed by SIGKILL", "no worker was touched"]);
}

fn a_trial_worker_that_dies_before_its_ack_fails_the_check() {
    let mut deploy = Deploy::new("exit_before_ack=9", |builder| builder.option("--capture-startup"));
    let workers = deploy.master.workers_up();
    let upgrade = finished(deploy.upgrade(&["upgrade"]));
    upgrade.assert_code(1).assert_says("exited with status 9").assert_says("no worker was touched");
    upgrade.assert_says("| serve: asked to exit with 9 before its ack");
    assert_eq!(deploy.master.process().children(), workers);
    assert!(!deploy.master.log().contains("checking generation"), "{}", deploy.master);
    deploy.load.stop().assert_nothing_lost();
}

fn a_trial_worker_that_never_acks_fails_the_check() {
    let mut deploy = Deploy::new("ack=none", |builder| builder.options(["--ack-timeout", "0.5"]));
    let workers = deploy.master.workers_up();
    let upgrade = finished(deploy.upgrade(&["upgrade"]));
    upgrade.assert_code(1).assert_says("--ack-timeout").assert_says("no worker was touched");
    deploy
        .master
        .wait("the end of the trial worker", |master| (master.process().children() == workers).then_some(()));
    assert!(!deploy.master.log().contains("checking generation"), "{}", deploy.master);
    deploy.load.stop().assert_nothing_lost();
}

fn a_check_outlives_a_reload() {
    for status in [0, 3] {
        let mut deploy = Deploy::new("", |builder| builder);
        let checked = deploy.begin();
        for _ in 0..2 {
            deploy.master.ctl(["reload"]).assert_code(0);
        }
        assert!(checked.trial.is_alive() && checked.command.is_alive(), "{}", deploy.master);
        deploy.command.ends_with(status);
        match status {
            0 => deploy.assert_done(checked.upgrade),
            _ => deploy.assert_failed(checked, &["the check failed: exited with status 3", "| it runs"]),
        }
    }
}

/// Runs `meanwhile` while a script is in the master's place, which waits in this way for `$FIFO` before it becomes the
/// next master. Whatever `meanwhile` says of the check is for the next master to hear.
fn replaced(
    (waits, program): (&str, &str),
    meanwhile: impl FnOnce(&mut Command, &Checked),
) -> (Deploy, Checked) {
    let mut successor = None;
    let mut deploy =
        Deploy::new("", |builder| successor.insert(Successor::new(builder.file("successor"))).of(builder));
    let checked = deploy.begin();
    let fifo = deploy.master.file("go-on");
    mkfifo(&fifo, Mode::S_IRWXU).expect("a FIFO");
    // Only now, or the upgrade would have begun with it.
    successor.expect("it was made").is_script(&format!(
        "FIFO='{}'\nexport SCRIPT=$$\n[ \"$1\" = --upgrade-check ] || {waits}\nexec \"$DAEMON\" \"$@\"",
        fifo.display()
    ));
    let mut client = deploy.master.control();
    client.send(r#"{"command":"reload","id":1}"#);
    let master = deploy.master.process();
    wait::wait_for("the script to wait", || {
        let mut processes = [master].into_iter().chain(master.children());
        let waits = |process: &Process| {
            let words = process.arguments();
            words.first().is_some_and(|word| word.ends_with(program))
                && *process != checked.command
                && process.is_asleep()
        };
        processes.any(|process| waits(&process)).then_some(())
    });
    meanwhile(&mut deploy.command, &checked);
    fs::write(&fifo, "go on\n").expect("a line in the FIFO");
    assert_eq!(client.replies().pop().and_then(|last| last.ok), Some(true), "{}", deploy.master);
    (deploy, checked)
}

/// What has no children and reaps nobody.
const REAPS_NOBODY: (&str, &str) = (
    "exec python3 -c 'import os, sys; open(sys.argv[1]).read(); os.execv(sys.argv[2], sys.argv[2:])' \
     \"$FIFO\" \"$DAEMON\" \"$@\"",
    "python3",
);

/// A shell that reaps whoever ends while a program of its own runs.
const RUNS: (&str, &str) = ("cat \"$FIFO\" >/dev/null", "cat");

fn a_check_that_ends_while_the_master_is_replaced_is_heard() {
    for status in [0, 3] {
        let (deploy, checked) = replaced(REAPS_NOBODY, |command, checked| {
            command.ends_with(status);
            checked.command.wait_gone();
        });
        match status {
            0 => deploy.assert_done(checked.upgrade),
            _ => deploy.assert_failed(checked, &["the check failed: exited with status 3", "| it runs"]),
        }
    }
}

fn a_check_that_another_process_has_reaped_fails() {
    let (deploy, checked) = replaced(RUNS, |command, checked| {
        command.ends_with(0);
        let entry = PathBuf::from(format!("/proc/{}", checked.command.pid()));
        wait::wait_for("the shell to reap what it has not started", || (!entry.exists()).then_some(()));
    });
    deploy.assert_failed(checked, &["the check failed: ", "| it runs"]);
}

fn a_trial_worker_that_dies_while_the_master_is_replaced_fails_the_check() {
    let (deploy, checked) = replaced(REAPS_NOBODY, |_, checked| {
        assert!(checked.trial.signal(Signal::SIGKILL));
        checked.trial.wait_gone();
    });
    deploy.assert_failed(checked, &["was killed by SIGKILL", "no worker was touched"]);
}

fn is_soaking(status: &Status) -> bool {
    status.upgrade.as_ref().is_some_and(|upgrade| upgrade.stage == UpgradeStage::Soaking)
}

impl Deploy {
    /// Begins an upgrade with one canary, whose checks are the command, and waits until the first runs.
    fn begin_soak(&mut self, options: &[&str]) -> (JoinHandle<Finished>, Process) {
        let line = self.command.line();
        let words = ["upgrade", "--no-check", "--canary", "1", "--soak-check", &line];
        let upgrade = self.upgrade(&[&words[..], options].concat());
        let command = self.command.wait_running(&mut self.master);
        self.master.wait_status("the soak", is_soaking);
        (upgrade, command)
    }

    #[track_caller]
    fn assert_rolled_back(mut self, upgrade: JoinHandle<Finished>, words: &[&str]) {
        let upgrade = finished(upgrade);
        upgrade.assert_code(1).assert_says("2 of 2 workers of generation 1 serve").assert_says("rolled back");
        for words in words {
            upgrade.assert_says(words);
        }
        self.load.wait_for_answers(20);
        self.releases.assert_all_run(&mut self.master, WORKERS, 1);
        self.assert_nobody_else();
        self.load.stop().assert_nothing_lost();
    }
}

fn a_check_of_canaries_outlives_a_reload() {
    for status in [0, 3] {
        let mut deploy = Deploy::new("", |builder| builder);
        let (upgrade, command) = deploy.begin_soak(&["--soak", "600"]);
        deploy.master.ctl(["reload"]).assert_code(0);
        assert!(command.is_alive(), "{}", deploy.master);
        deploy.command.ends_with(status);
        if status == 0 {
            command.wait_gone();
            assert!(is_soaking(&deploy.master.status()));
            deploy.master.ctl(["upgrade", "--continue"]).assert_code(0);
            deploy.assert_done(upgrade);
        } else {
            deploy.assert_rolled_back(upgrade, &["the check of the canaries failed: exited with status 3"]);
        }
    }
}

fn canaries_whose_checks_fail_are_rolled_back() {
    let mut deploy = Deploy::new("", |builder| builder);
    let options = ["--soak", "600", "--every", "0.01", "--soak-failures", "3"];
    let (upgrade, command) = deploy.begin_soak(&options);
    let environment = command.environment();
    let status = deploy.master.status();
    for (name, generation) in [("EINHORN_CANARY_PIDS", 2), ("EINHORN_BASELINE_PIDS", 1)] {
        let workers = status.workers.iter().filter(|worker| worker.generation == generation);
        let pids: Vec<_> = workers.map(|worker| worker.pid.to_string()).collect();
        assert_eq!(environment.get(name), Some(&pids.join(" ")), "{environment:?}");
    }
    // One that passes takes nothing back.
    for status in [3, 3, 0, 4] {
        deploy.command.ends_with(status);
    }
    let failed = "the check of the canaries failed 3 times; the last time: exited with status 4";
    deploy.assert_rolled_back(upgrade, &[failed, "last lines of the check", "| it runs"]);
}

fn canaries_whose_checks_pass_are_followed_by_the_rest() {
    let directory = tempfile::tempdir().expect("a directory");
    let checked = directory.path().join("checked");
    let deploy = Deploy::new("", |builder| builder);
    let line = format!("sh -c 'echo $EINHORN_GENERATION >> {}'", checked.display());
    let options = ["--canary", "1", "--soak", "1", "--every", "0.01", "--soak-check", &line];
    let upgrade = deploy.upgrade(&[&["upgrade", "--no-check"][..], &options].concat());
    deploy.assert_done(upgrade);
    let checks = fs::read_to_string(&checked).expect("a line for each check");
    assert!(checks.lines().count() > 1 && checks.lines().all(|line| line == "2"), "{checks}");
}

/// A master that checks the release of its first start.
fn first(manager: &ServiceManager) -> (Command, MasterBuilder) {
    let builder = Master::builder().workers(WORKERS);
    let command = Command::new(builder.file("command"));
    let builder = builder.options(["--check", &command.line(), "--check-first"]);
    (command, builder.env("NOTIFY_SOCKET", manager.path()))
}

fn a_failing_check_of_the_first_start_ends_the_master() {
    let mut manager = ServiceManager::new();
    let (mut command, builder) = first(&manager);
    let mut master = builder.start_unready();
    let running = command.wait_running(&mut master);
    master
        .ctl(["upgrade"])
        .assert_code(1)
        .assert_says("the release of the first start is still being checked");
    command.ends_with(3);
    master.wait_exit_code(1);
    master.wait_log("nothing was started: the check failed: exited with status 3");
    assert!(!running.is_alive() && master.process().children().is_empty(), "{master}");
    assert!(!trial_directory(&master).exists(), "{master}");
    assert!(manager.heard().iter().all(|told| told.value("READY").is_none()), "{manager}");
}

/// Its workers wait at a gate before they ack, after their trial worker has passed it.
fn connections_wait_for_the_check_of_the_first_start() {
    let mut manager = ServiceManager::new();
    let (mut command, builder) = first(&manager);
    let mut gate = Gate::new(builder.file("gate"));
    let mut master = builder.serve([gate.knob()]).start_unready();
    let running = command.wait_running(&mut master);
    let load = Plan { fresh: 2, keep_alive: 2, ..Plan::new(master.address()) }.start();
    wait::wait_for("clients that wait", || {
        (load.waiting_longer_than(std::time::Duration::from_millis(100)).len() == 4).then_some(())
    });
    master.ctl(["reload"]).assert_code(0);
    gate.close();
    command.ends_with(0);
    master.wait_status("workers that start", |status| status.master.starting == WORKERS);
    assert!(!running.is_alive(), "{master}");
    manager.assert_nothing_else();
    assert_eq!((load.answered(), load.failed()), (0, 0), "{master}");
    gate.open();
    manager.wait_for(&mut master, "READY", |value| value == "1");
    load.wait_for_answers(20);
    load.stop().assert_nothing_lost();
    master.assert_well(WORKERS);
}

fn the_next_start_removes_what_a_killed_master_has_left() {
    let directory = tempfile::tempdir().expect("a directory");
    let (socket, listener) = (directory.path().join("einhorn.sock"), directory.path().join("web"));
    let command = Command::new(directory.path().join("command"));
    let start = || {
        let builder = Master::builder().without_socket().option("-d").option(&socket);
        let builder = builder.options(["-b", &format!("unix:{}", listener.display())]);
        let mut master = builder.options(["--check", &command.line()]).start_unready();
        master.at_socket(&socket);
        master.wait_up(1);
        master
    };
    let mut killed = start();
    let upgrade = killed.ctl_command(["upgrade", "--no-wait"]);
    process::run(upgrade).assert_code(0);
    let running = command.wait_running(&mut killed);
    let trials = trial_directory(&killed);
    assert!(fs::read_dir(&trials).expect("a directory").count() > 0, "{killed}");
    let workers: Vec<_> =
        killed.status().workers.iter().filter_map(|worker| Process::of(worker.pid)).collect();
    assert_eq!(workers.len(), 2, "{killed}");
    assert!(killed.process().signal(Signal::SIGKILL));
    killed.wait_exit();
    assert!(trials.exists());
    for process in workers.into_iter().chain([running]) {
        process.signal(Signal::SIGKILL);
        process.wait_gone();
    }
    let mut master = start();
    assert!(!trials.exists(), "{master}");
    let mut command = command;
    command.ends_with(0);
    master.ctl(["upgrade"]).assert_code(0);
    master.wait_up(1);
    assert!(!trials.exists(), "{master}");
}
