//! `systemctl reload`: what it does with a release that is good, bad or hangs, and what it says.

use std::process::Stdio;

use crate::systemd::app::App;

tests::trials! {
    a_reload_is_an_upgrade_and_reads_the_options_again needs "machine" "cargo-deb" "dpkg-dev" "Debian 12",
    a_reload_fails_with_a_bad_release_and_the_old_one_serves needs "machine" "cargo-deb" "dpkg-dev" "Debian 12",
    a_reload_that_hangs_is_ended_by_the_master_or_by_hand needs "machine" "cargo-deb" "dpkg-dev" "Debian 12",
    a_reload_by_signal_returns_when_the_upgrade_is_over needs "machine" "cargo-deb" "dpkg-dev" "Debian 12",
    a_dry_run_before_the_start_says_what_is_wrong needs "machine" "cargo-deb" "dpkg-dev" "Debian 12",
}

fn a_reload_is_an_upgrade_and_reads_the_options_again() {
    let mut app = App::new("-b :8000 -n 2 -m -t 25");
    app.start();
    assert_eq!(app.property("StatusText"), "2 of 2 workers up, generation 1");
    let load = app.load(app.plan());
    load.wait_for_answers(64);
    let master = app.master();
    app.release("");
    app.set_options("-b :8000 -n 3 -m -t 25");
    app.reload().assert_code(0);
    assert_eq!(app.property("StatusText"), "3 of 3 workers up, generation 2");
    load.wait_for_answers(64);
    load.stop().assert_nothing_lost();
    assert_eq!(app.master(), master);
    app.systemctl(["stop", app.unit]).assert_code(0);
    assert_eq!(app.property("Result"), "success");
    assert_eq!(app.property("ActiveState"), "inactive");
    app.start();
    assert_eq!(app.property("NRestarts"), "0");
}

fn a_reload_fails_with_a_bad_release_and_the_old_one_serves() {
    let mut app = App::new("-b :8000 -n 2 -m -t 25 -r 1");
    app.start();
    let load = app.load(app.plan());
    load.wait_for_answers(64);
    app.release("exit_before_ack=3");
    let reload = app.reload();
    reload.assert_code(1);
    assert_eq!(app.property("ActiveState"), "active");
    assert!(app.property("StatusText").starts_with("2 of 2 workers up, generation 1;"), "{}", app.machine);
    load.wait_for_answers(64);
    let report = load.stop();
    report.assert_nothing_lost();
    assert_eq!(report.generations().into_iter().collect::<Vec<_>>(), [1]);
    // systemctl points to the journal, which has the reason.
    assert!(reload.stderr.contains("journalctl"), "{reload}");
    app.wait_journal("asked to exit with 3");
}

fn a_reload_that_hangs_is_ended_by_the_master_or_by_hand() {
    let mut app = App::new("-b :8000 -n 2 -m -t 25 -r 1 --ack-timeout 1");
    app.drop_in("[Service]\nTimeoutStartSec=2\n");
    app.start();
    app.release("ack=none");
    app.reload().assert_code(1);
    assert!(app.status().contains("generation 1"), "{}", app.machine);
    app.wait_journal("missed its boot deadline");
    // Without a limit of its own, the upgrade is ended by hand: systemd kills only the client that waits for it.
    app.set_options("-b :8000 -n 2 -m -t 25 -r 1 --ack-timeout 0");
    let mut reload = app.machine.command(["systemctl", "reload", app.unit]);
    reload.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut reload = reload.spawn().expect("a reload");
    app.wait_journal("Reload operation timed out");
    assert_eq!(app.property("ActiveState"), "reloading");
    app.ctl(["upgrade", "--abort"]).assert_code(0);
    let status = app.machine.wait("the end of the reload", |_| reload.try_wait().ok().flatten());
    assert_eq!(status.code(), Some(1), "{}", app.machine);
    assert_eq!(app.property("ActiveState"), "active");
    let load = app.load(app.plan());
    load.wait_for_answers(64);
    load.stop().assert_nothing_lost();
    app.release("");
    app.reload().assert_code(0);
}

/// `Type=notify-reload` is as old as systemd 253; Debian 12 has 252.
fn a_reload_by_signal_returns_when_the_upgrade_is_over() {
    let mut app = App::of("trixie", "-b :8000 -n 2 -m -t 25 -r 1");
    app.drop_in("[Service]\nType=notify-reload\nExecReload=\n");
    app.start();
    for generation in 2..4 {
        app.release("boot_ms=300");
        app.reload().assert_code(0);
        assert_eq!(app.property("StatusText"), format!("2 of 2 workers up, generation {generation}"));
    }
    // It does not learn how the upgrade ended; the status says it.
    app.release("exit_before_ack=3");
    app.reload().assert_code(0);
    let status = app.property("StatusText");
    assert!(status.starts_with("2 of 2 workers up, generation 3; the upgrade"), "{status}");
    app.systemctl(["stop", app.unit]).assert_code(0);
    assert_eq!(app.property("Result"), "success");
}

fn a_dry_run_before_the_start_says_what_is_wrong() {
    let mut app = App::new("-b :8000 -n 2 -m --no-such-option");
    app.drop_in(
        "[Service]\nExecStartPre=einhyrningsins -d %t/%p/%i/einhorn.sock --chdir /srv/%i/current \
         --options-file /etc/einhyrningsins/%i.conf --dry-run -- $COMMAND\n",
    );
    app.systemctl(["start", app.unit]).assert_code(1);
    assert_eq!(app.property("ExecMainPID"), "0", "no master was started\n{}", app.machine);
    app.wait_journal("no-such-option");
    app.systemctl(["stop", app.unit]).assert_code(0);
    app.set_options("-b :8000 -n 2 -m");
    app.start();
    assert_eq!(app.property("StatusText"), "2 of 2 workers up, generation 1");
}
