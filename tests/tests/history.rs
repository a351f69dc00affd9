//! The history of rollouts: when each ended, who asked for it, what its release is called, and how it ended.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use einhorn_proto::{
    History, PastOutcome, PastRollout, RolloutKind, RolloutOrder, UpgradeStage, UpgradeStatus,
};
use nix::sys::signal::Signal;
use nix::unistd::getuid;
use tests::control::typed;
use tests::wait::wait_for;
use tests::{Finished, Gate, Master, MasterBuilder, Releases, Successor, binaries, process};

tests::trials! {
    deploys_of_a_day_are_listed_with_who_asked_and_how_they_ended_and_outlive_a_reload,
    a_failed_an_aborted_and_an_impossible_deploy_are_listed_with_their_reason,
    an_upgrade_that_a_stop_ends_is_listed_with_who_sent_the_signal,
    an_upgrade_that_replaces_the_master_first_is_listed_for_the_client_that_asked_the_old_one,
    upgrades_that_run_or_wait_during_a_reload_are_listed_for_those_who_asked_before_it,
    the_login_user_is_listed_if_somebody_has_logged_in,
    a_release_is_called_by_its_label_its_file_of_variables_or_its_directory,
    a_label_that_is_no_short_line_is_refused_before_anything_begins,
    upgrades_of_einhorns_clients_are_listed_though_they_were_answered_at_once,
    a_file_keeps_the_history_over_a_stop_a_reload_and_a_torn_line,
    a_file_of_two_hundred_lines_is_cut_to_the_last_hundred,
    a_full_disk_is_a_warning_and_cuts_no_line needs "root",
    a_file_that_does_not_answer_keeps_nobody_waiting_and_is_given_up,
    a_file_that_does_not_answer_holds_up_no_start_and_is_read_when_it_does,
    a_master_that_ends_leaves_no_rollout_unwritten,
    a_file_that_is_no_history_is_left_alone,
}

/// The name of the client as the kernel keeps it.
const CLIENT: &str = "einhyrningsinsc";

fn builder() -> MasterBuilder {
    Master::builder().workers(2).options(["-s", "0.01"])
}

/// A pool that runs release 1, with these others beside it, of which the knobs are given.
fn pool(others: &[(u32, &str)]) -> (Releases, Master) {
    let builder = builder();
    let releases = Releases::new(builder.file("app"));
    others.iter().for_each(|(number, knobs)| releases.add(*number, knobs));
    let master = releases.run_by(builder).start();
    (releases, master)
}

fn history(master: &Master) -> Vec<PastRollout> {
    let history: History = typed(master.control().ask("history", &[]));
    history.rollouts
}

/// Asserts that people read these words.
#[track_caller]
fn assert_shown(master: &Master, words: &[&str]) {
    let shown = master.ctl(["history"]);
    shown.assert_code(0);
    assert!(words.iter().all(|word| shown.stdout.contains(word)), "{words:?} in {shown}");
}

/// The generations, the release and the outcome of each rollout.
fn rows(rollouts: &[PastRollout]) -> Vec<(u64, u64, &str, PastOutcome)> {
    let rollouts = rollouts.iter();
    rollouts
        .map(|rollout| {
            let PastRollout { from, generation, release, outcome, .. } = rollout;
            (*from, *generation, release.as_deref().unwrap_or("-"), *outcome)
        })
        .collect()
}

#[track_caller]
fn deploy(releases: &Releases, master: &Master, number: u32, options: &[&str]) -> Finished {
    releases.link(number);
    master.ctl(["upgrade"].iter().chain(options))
}

/// The login user of this process, and so of what it starts.
fn own_login_uid() -> Option<u32> {
    let text = fs::read_to_string("/proc/self/loginuid").ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

fn deploys_of_a_day_are_listed_with_who_asked_and_how_they_ended_and_outlive_a_reload() {
    let (releases, mut master) = pool(&[(2, ""), (3, ""), (4, "")]);
    assert_shown(&master, &["no upgrade or rollback has ended"]);
    let before = SystemTime::now() - Duration::from_secs(1);
    deploy(&releases, &master, 2, &["--label", "v2 rc"]).assert_code(0);
    deploy(&releases, &master, 3, &["--fleet"]).assert_code(0);
    master.ctl(["rollback"]).assert_code(0);
    releases.link(4);
    master.signal(Signal::SIGHUP);
    master.wait_log("upgrade to generation 4 done");
    master.status();
    let rollouts = history(&master);
    let done = PastOutcome::Done;
    assert_eq!(
        rows(&rollouts),
        [(1, 2, "v2 rc", done), (2, 3, "3", done), (3, 2, "v2 rc", done), (2, 4, "4", done)],
        "{master}"
    );
    let kinds: Vec<_> = rollouts.iter().map(|rollout| (rollout.kind, rollout.order)).collect();
    let smooth = (RolloutKind::Upgrade, RolloutOrder::Smooth);
    let fleet = (RolloutKind::Upgrade, RolloutOrder::Fleet);
    assert_eq!(kinds, [smooth, fleet, (RolloutKind::Rollback, RolloutOrder::Smooth), smooth]);
    for rollout in &rollouts {
        assert_eq!(rollout.requester.uid, Some(getuid().as_raw()));
        assert_eq!(rollout.requester.login_uid, own_login_uid(), "it inherits ours");
        let ended_at = humantime::parse_rfc3339(&rollout.ended_at).expect("a time");
        assert!(ended_at >= before && ended_at <= SystemTime::now(), "{rollout:?}");
        assert_eq!(rollout.reason, None);
    }
    let with: Vec<_> = rollouts.iter().map(|rollout| rollout.requester.signal.as_deref()).collect();
    assert_eq!(with, [None, None, None, Some("SIGHUP")]);
    let name = fs::read_to_string("/proc/self/comm").expect("our name");
    let names: Vec<_> = rollouts.iter().map(|rollout| rollout.requester.process.as_deref()).collect();
    assert_eq!(names, [Some(CLIENT), Some(CLIENT), Some(CLIENT), Some(name.trim())]);

    master.ctl(["reload"]).assert_code(0);
    assert_eq!(history(&master), rollouts);
    releases.link(3);
    master.ctl(["upgrade"]).assert_code(0);
    assert_eq!(rows(&history(&master))[4..], [(4, 5, "3", done)]);
    let shown = master.ctl(["history"]);
    shown.assert_code(0);
    let rows: Vec<_> = shown.stdout.lines().collect();
    assert!(rows.len() == 6 && rows[0].starts_with("ENDED "), "{shown}");
    assert!(rows[1].contains("  v2 rc ") && rows[1].contains("  einhyrningsinsctl "), "{shown}");
    assert!(rows[3].contains("  rollback ") && rows[4].contains("  SIGHUP from "), "{shown}");
    let json = master.ctl(["history", "--json"]);
    let json: History = serde_json::from_str(&json.assert_code(0).stdout).expect("the history");
    assert_eq!(json.rollouts, history(&master));
}

fn a_failed_an_aborted_and_an_impossible_deploy_are_listed_with_their_reason() {
    let (releases, mut master) = pool(&[(2, "exit_before_ack=9"), (3, ""), (4, "")]);
    deploy(&releases, &master, 2, &["--label", "bad"]).assert_code(1);
    releases.link(3);
    let mut client = master.ctl_command(["upgrade", "--canary", "1"]);
    let mut client = client.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the client");
    master.wait_status("the soak", |status| {
        status.upgrade.as_ref().is_some_and(|upgrade| upgrade.stage == UpgradeStage::Soaking)
    });
    master.ctl(["upgrade", "--abort"]).assert_code(0);
    assert_eq!(client.wait().expect("its end").code(), Some(1), "{master}");
    releases.remove_program(4);
    deploy(&releases, &master, 4, &["--label", "v4"]).assert_code(1);
    let rollouts = history(&master);
    let back = PastOutcome::RolledBack;
    assert_eq!(rows(&rollouts), [(1, 2, "bad", back), (1, 3, "3", back), (1, 4, "v4", back)], "{master}");
    let reasons: Vec<_> =
        rollouts.iter().map(|rollout| rollout.reason.as_deref().expect("a reason")).collect();
    assert!(reasons[0].contains("exited with status 9") && reasons[0].contains("3 tries"), "{reasons:?}");
    assert!(reasons[1].contains("an abort was asked for"), "{reasons:?}");
    assert!(reasons[2].contains("No such file or directory"), "{reasons:?}");
    let ended_by: Vec<_> = rollouts.iter().map(|rollout| rollout.ended_by.as_ref()).collect();
    assert_eq!(ended_by, [None, Some(&rollouts[1].requester), None], "the same user and program");
    assert_eq!(rollouts[1].order, RolloutOrder::Canary);
    assert_shown(&master, &["exited with status 9", "rolled back", "an abort was asked for (by "]);
    assert_shown(&master, &[" with einhyrningsinsctl)"]);
}

fn an_upgrade_that_replaces_the_master_first_is_listed_for_the_client_that_asked_the_old_one() {
    let builder = builder();
    let successor = Successor::new(builder.file("successor"));
    let mut master = successor.of(builder).start();
    master.ctl(["upgrade", "--label", "v2"]).assert_code(0);
    master.signal(Signal::SIGHUP);
    master.wait_log("upgrade to generation 3 done");
    master.status();
    let rollouts = history(&master);
    let names: Vec<_> = rollouts.iter().map(|rollout| rollout.release.as_deref()).collect();
    assert_eq!(names[0], Some("v2"), "{master}");
    assert_eq!(rollouts[0].requester.process.as_deref(), Some(CLIENT), "{rollouts:?}");
    assert_eq!(rollouts[1].requester.signal.as_deref(), Some("SIGHUP"), "{rollouts:?}");
}

fn upgrades_that_run_or_wait_during_a_reload_are_listed_for_those_who_asked_before_it() {
    let (_releases, mut master) = pool(&[]);
    let begin = |options: &[&str]| {
        let upgrade = ["upgrade", "--no-wait"].iter().chain(options);
        master.ctl(upgrade).assert_code(0);
    };
    begin(&["--canary", "1", "--label", "v2"]);
    begin(&["--wait", "--fleet", "--label", "v3"]);
    master.signal(Signal::SIGHUP);
    master.wait_status("both in line", |status| {
        let is_soaking = |upgrade: &UpgradeStatus| upgrade.stage == UpgradeStage::Soaking;
        status.queued == 2 && status.upgrade.as_ref().is_some_and(is_soaking)
    });
    master.ctl(["reload"]).assert_code(0);
    master.ctl(["upgrade", "--continue"]).assert_code(0);
    master.wait_log("upgrade to generation 4 done");
    let rollouts = history(&master);
    let done = PastOutcome::Done;
    assert_eq!(rows(&rollouts), [(1, 2, "v2", done), (2, 3, "v3", done), (3, 4, "1", done)], "{master}");
    let orders: Vec<_> = rollouts.iter().map(|rollout| rollout.order).collect();
    assert_eq!(orders, [RolloutOrder::Canary, RolloutOrder::Fleet, RolloutOrder::Smooth]);
    let with = rollouts.iter().map(|rollout| &rollout.requester);
    let with: Vec<_> = with.map(|with| with.signal.as_deref().or(with.process.as_deref())).collect();
    assert_eq!(with, [Some(CLIENT), Some(CLIENT), Some("SIGHUP")]);
}

fn the_login_user_is_listed_if_somebody_has_logged_in() {
    const USER: u32 = 4242;
    let (_releases, master) = pool(&[]);
    // As a login does. It needs a capability, and a kernel that audits; without them nobody has logged in.
    let script = format!("echo {USER} 2>&- >/proc/self/loginuid; cat /proc/self/loginuid; echo; exec \"$@\"");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script, "sh"]).arg(binaries::einhyrningsinsctl());
    command.arg("-d").arg(master.socket()).arg("upgrade");
    let upgrade = process::run(command);
    upgrade.assert_code(0);
    let login_uid = upgrade.stdout.lines().next().and_then(|line| line.trim().parse().ok());
    let login_uid = login_uid.filter(|uid: &u32| *uid != u32::MAX);
    let requester = &history(&master)[0].requester;
    assert_eq!((requester.uid, requester.login_uid), (Some(getuid().as_raw()), login_uid), "{upgrade}");
    if login_uid == Some(USER) {
        assert_shown(&master, &[&format!("  {USER} as ")]);
    }
}

fn a_release_is_called_by_its_label_its_file_of_variables_or_its_directory() {
    let builder = builder();
    let releases = Releases::new(builder.file("app"));
    for number in [2, 3] {
        releases.add(number, "");
        fs::write(releases.directory(number).join("env"), format!("RELEASE='r {number}'\n")).expect("a file");
    }
    fs::write(releases.directory(1).join("env"), "COLOUR=none\n").expect("a file");
    let master = releases.run_by(builder.option("--env-file=env")).start();
    deploy(&releases, &master, 2, &[]).assert_code(0);
    deploy(&releases, &master, 3, &["--label", "three"]).assert_code(0);
    deploy(&releases, &master, 1, &[]).assert_code(0);
    let rollouts = history(&master);
    let names: Vec<_> = rollouts.iter().map(|rollout| rollout.release.as_deref().expect("a name")).collect();
    assert_eq!(names, ["r 2", "three", "1"], "{master}");
}

fn a_label_that_is_no_short_line_is_refused_before_anything_begins() {
    let (_releases, master) = pool(&[]);
    let long = "x".repeat(129);
    for (label, why) in [("", "must not be empty"), ("a\nb", "one line"), (&*long, "128 characters at most")]
    {
        master.ctl(["upgrade", "--label", label]).assert_code(2).assert_says(why);
        let request = serde_json::json!({ "command": "upgrade", "label": label });
        let mut control = master.control();
        control.send(&request.to_string());
        let reply = control.reply();
        assert!(reply.ok == Some(false) && reply.message.contains(why), "{reply:?}");
    }
    assert!(history(&master).is_empty(), "{master}");
}

fn upgrades_of_einhorns_clients_are_listed_though_they_were_answered_at_once() {
    let builder = Master::builder().einhorn().workers(1);
    let mut gate = Gate::closed(builder.file("gate"));
    gate.open();
    let mut master = builder.serve([gate.knob()]).start();
    gate.close();
    for generation in [2, 3] {
        let mut client = master.control();
        // Without an id: the answer is the last word of the upgrade.
        client.send(r#"{"command":"upgrade"}"#);
        assert_eq!(client.reply().ok, Some(true), "{master}");
        master.wait_worker("a worker of the new version", |worker| worker.generation == generation);
    }
    gate.open();
    master.wait_status("its end", |status| status.master.generation == 3 && status.upgrade.is_none());
    let rollouts = history(&master);
    let outcomes: Vec<_> = rollouts.iter().map(|rollout| (rollout.generation, rollout.outcome)).collect();
    assert_eq!(outcomes, [(2, PastOutcome::Superseded), (3, PastOutcome::Done)], "{master}");
    assert!(rollouts.iter().all(|rollout| rollout.requester.uid == Some(getuid().as_raw())), "{rollouts:?}");
}

fn an_upgrade_that_a_stop_ends_is_listed_with_who_sent_the_signal() {
    let builder = builder();
    let file = builder.file("history");
    let mut master = builder.option("--history").option(&file).start();
    master.ctl(["upgrade", "--canary", "1", "--no-wait"]).assert_code(0);
    master.wait_status("the soak", |status| {
        status.upgrade.as_ref().is_some_and(|upgrade| upgrade.stage == UpgradeStage::Soaking)
    });
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    let line = wait_lines(&file, 1).pop().flatten().expect("a whole line");
    assert_eq!((line.outcome, line.reason.as_deref()), (PastOutcome::Failed, Some("the master is stopping")));
    let ended_by = line.ended_by.expect("who ended it");
    let name = fs::read_to_string("/proc/self/comm").expect("our name");
    assert_eq!(
        (ended_by.signal.as_deref(), ended_by.uid, ended_by.process.as_deref()),
        (Some("SIGTERM"), Some(getuid().as_raw()), Some(name.trim()))
    );
}

/// Waits until the file has so many whole lines, and gives them; of one that a crash has cut, `None`.
#[track_caller]
fn wait_lines(file: &Path, count: usize) -> Vec<Option<PastRollout>> {
    let lines = wait_for("lines of the history", || {
        let text = fs::read_to_string(file).ok()?;
        (text.ends_with('\n') && text.lines().count() == count).then_some(text)
    });
    lines.lines().map(|line| serde_json::from_str(line).ok()).collect()
}

/// The release of each.
fn names(rollouts: &[PastRollout]) -> Vec<&str> {
    rollouts.iter().map(|rollout| rollout.release.as_deref().unwrap_or("-")).collect()
}

/// Waits until the history has the rollouts to these releases.
#[track_caller]
fn wait_names(master: &Master, expected: &[&str]) {
    wait_for("the history", || (names(&history(master)) == expected).then_some(()));
}

/// The line of an upgrade to this generation.
fn line(generation: u32, label: &str) -> String {
    format!(
        "{{\"ended_at\":\"2026-11-28T14:00:00Z\",\"kind\":\"upgrade\",\"order\":\"smooth\",\"generation\":{generation},\"from\":0,\
         \"release\":\"{label}\",\"took_ms\":3,\"outcome\":\"done\"}}\n"
    )
}

fn upgrade_to(master: &Master, label: &str) {
    master.ctl(["upgrade", "--label", label]).assert_code(0);
}

fn a_file_keeps_the_history_over_a_stop_a_reload_and_a_torn_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("it's a history");
    let start = || {
        let name = file.file_name().expect("a name");
        builder().current_dir(directory.path()).option("--history").option(name).start()
    };
    let mut master = start();
    upgrade_to(&master, "v2");
    let first = wait_lines(&file, 1);
    assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o137, 0);
    master.ctl(["reload"]).assert_code(0);
    upgrade_to(&master, "v3");
    assert_eq!(wait_lines(&file, 2)[0], first[0]);
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);

    let written = fs::read_to_string(&file).expect("the history");
    fs::write(&file, format!("{written}{}", &written[..30])).expect("a torn line");
    let mut master = start();
    wait_names(&master, &["v2", "v3"]);
    assert_shown(&master, &["  v2 ", "  v3 "]);
    upgrade_to(&master, "v4");
    let lines = wait_lines(&file, 4);
    assert!(lines[2].is_none(), "{lines:?}");
    let whole: Vec<_> = lines.into_iter().flatten().collect();
    assert_eq!((names(&whole), &whole), (vec!["v2", "v3", "v4"], &history(&master)));
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    let next = start();
    wait_names(&next, &["v2", "v3", "v4"]);
    assert_eq!(history(&next), whole);
    assert!(!master.log().contains("WARN: the history file"), "{master}");
}

fn a_file_of_two_hundred_lines_is_cut_to_the_last_hundred() {
    let builder = builder();
    let file = builder.file("history");
    fs::write(&file, (1..=198).map(|generation| line(generation, "old")).collect::<String>())
        .expect("a history");
    let master = builder.option("--history").option(&file).start();
    wait_names(&master, &["old"; 100]);
    upgrade_to(&master, "v2");
    assert_eq!(wait_lines(&file, 199).len(), 199);
    upgrade_to(&master, "v3");
    let lines: Vec<_> = wait_lines(&file, 100).into_iter().flatten().collect();
    assert_eq!(names(&lines)[97..], ["old", "v2", "v3"], "{master}");
    assert_eq!(lines, history(&master));
    upgrade_to(&master, "v4");
    wait_lines(&file, 101);
}

fn a_full_disk_is_a_warning_and_cuts_no_line() {
    let builder = builder();
    let (mount, file) = (builder.file("mnt"), builder.file("mnt/history"));
    let script = format!(
        "mkdir {0}; mount -t tmpfs -o size=4k none {0}; head -c 4096 /dev/zero >{0}/fill; exec \"$@\"",
        mount.display()
    );
    let builder = builder.under(["unshare", "--mount", "sh", "-e", "-c", &script, "sh"]);
    let mut master = builder.option("--history").option(&file).start();
    upgrade_to(&master, "v2");
    master.wait_log("(--history) may lack a rollout: cannot write to ");
    assert!(master.log().contains("No space left on device"), "{master}");
    assert_eq!(names(&history(&master)), ["v2"]);
    // In the master's namespace.
    let inside = |path: &Path| {
        let path = path.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(master.process().pid().to_string()).join("root").join(path)
    };
    assert_eq!(fs::read(inside(&file)).expect("a file"), b"");
    fs::remove_file(inside(&mount.join("fill"))).expect("room");
    upgrade_to(&master, "v3");
    let lines: Vec<_> = wait_lines(&inside(&file), 1).into_iter().flatten().collect();
    assert_eq!(names(&lines), ["v3"]);
    assert_eq!(master.log().matches("(--history)").count(), 1, "{master}");
    master.assert_well(2);
}

fn a_file_that_does_not_answer_keeps_nobody_waiting_and_is_given_up() {
    let builder = builder();
    let file = builder.file("history");
    fs::write(&file, line(1, "v1")).expect("a history");
    let mut master = builder.option("--history").option(&file).start();
    wait_names(&master, &["v1"]);
    // The writer waits for a lock as it would for a disk.
    let mut gate = Gate::at(file.clone());
    gate.close();
    for label in ["v2", "v3", "v4"] {
        upgrade_to(&master, label);
    }
    master.assert_well(2);
    master.wait_log("(--history) may lack a rollout: did not end within 10.0s");
    gate.open();
    let lines: Vec<_> = wait_lines(&file, 3).into_iter().flatten().collect();
    assert_eq!(names(&lines), ["v1", "v3", "v4"], "what waited is written together");
    assert_eq!(names(&history(&master)), ["v1", "v2", "v3", "v4"]);
    assert_eq!(master.log().matches("(--history)").count(), 1, "{master}");
}

fn a_file_that_does_not_answer_holds_up_no_start_and_is_read_when_it_does() {
    let builder = builder();
    let file = builder.file("history");
    fs::write(&file, [line(1, "v1"), line(2, "v2")].concat()).expect("a history");
    // The reader waits for a lock as it would for a disk.
    let mut gate = Gate::at(file.clone());
    gate.close();
    let mut master = builder.option("--history").option(&file).start();
    upgrade_to(&master, "v3");
    master.ctl(["reload"]).assert_code(0);
    upgrade_to(&master, "v4");
    assert_eq!(names(&history(&master)), ["v3", "v4"], "{master}");
    gate.open();
    wait_names(&master, &["v1", "v2", "v3", "v4"]);
    let lines: Vec<_> = wait_lines(&file, 4).into_iter().flatten().collect();
    assert_eq!(names(&lines), ["v1", "v2", "v3", "v4"], "nothing is read that was written since");
    master.assert_well(2);
    assert!(!master.log().contains("(--history)"), "{master}");
}

fn a_master_that_ends_leaves_no_rollout_unwritten() {
    let builder = builder();
    let file = builder.file("history");
    let mut gate = Gate::closed(file.clone());
    let mut master = builder.option("--history").option(&file).start();
    for label in ["v2", "v3", "v4"] {
        upgrade_to(&master, label);
    }
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    assert_eq!(fs::read(&file).expect("a file"), b"");
    gate.open();
    let lines: Vec<_> = wait_lines(&file, 3).into_iter().flatten().collect();
    let mut names = names(&lines);
    names.sort_unstable();
    assert_eq!(names, ["v2", "v3", "v4"], "{master}");
}

fn a_file_that_is_no_history_is_left_alone() {
    let builder = builder();
    let file = builder.file("config");
    fs::write(&file, "[main]\n".repeat(300)).expect("a file");
    let mut master = builder.option("--history").option(&file).start();
    upgrade_to(&master, "v2");
    master.wait_log("(--history) may lack a rollout: cannot write to ");
    assert!(master.log().contains("config: it is not a history of rollouts"), "{master}");
    assert_eq!(fs::read_to_string(&file).expect("a file"), "[main]\n".repeat(300));

    let builder = self::builder();
    let directory = builder.file("");
    let mut master = builder.option("--history").option(&directory).start();
    master.assert_well(2);
    master.wait_log("(--history) cannot be read: cannot read ");
    let log = master.log();
    assert!(log.contains("WARN: the history file ") && log.contains("Is a directory"), "{log}");
}
