//! Stops and restarts.

use std::process::Stdio;

use crate::systemd::app::App;

tests::trials! {
    a_restart_loses_nothing_because_systemd_keeps_the_sockets needs "machine" "cargo-deb" "dpkg-dev" "Debian 12",
    a_stop_in_the_middle_of_an_upgrade_finishes_what_was_begun needs "machine" "cargo-deb" "dpkg-dev" "Debian 12",
}

fn a_restart_loses_nothing_because_systemd_keeps_the_sockets() {
    let mut app = App::new("-b :8000 -n 2 -m -t 25");
    app.release("request_ms=300 linger_ms=500");
    app.start();
    let load = app.load(app.plan());
    load.wait_for_answers(64);
    app.systemctl(["restart", app.unit]).assert_code(0);
    load.wait_for_answers(64);
    load.stop().assert_nothing_lost();
}

fn a_stop_in_the_middle_of_an_upgrade_finishes_what_was_begun() {
    let mut app = App::new("-b :8000 -n 2 -m -t 25 --ack-timeout 0");
    app.release("request_ms=1000 linger_ms=500");
    app.start();
    let load = app.load(app.plan());
    load.wait_for_answers(32);
    app.release("ack=none");
    let mut reload = app.machine.command(["systemctl", "reload", app.unit]);
    let mut reload =
        reload.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a reload");
    app.wait_property("StatusText", |text| text.starts_with("upgrading"));
    let (master, workers) = (app.master(), app.workers());
    let stopped = app.systemctl(["stop", app.unit]);
    let _ = reload.wait();
    stopped.assert_code(0);
    assert!(!master.is_alive() && workers.iter().all(|worker| !worker.is_alive()), "{}", app.machine);
    // systemd ends the client of the reload by a signal, which counts as a failure of the unit; the master ended well.
    assert_eq!(app.property("ExecMainCode"), "1", "{}", app.machine);
    assert_eq!(app.property("ExecMainStatus"), "0", "{}", app.machine);
    assert_eq!(app.property("SubState"), "failed", "{}", app.machine);
    let report = load.stop();
    assert_eq!(report.cut, 0, "what was accepted was answered: {report}\n{}", app.machine);
    assert!(!app.journal([]).contains("SIGKILL"), "{}", app.machine);
}
