//! The log in the journal: each line once, with its priority and without what the journal adds; and workers by name.

use crate::systemd::app::App;

tests::trials! {
    lines_have_their_priority_and_nothing_twice needs "machine" "cargo-deb" "dpkg-dev" "Debian 12",
    workers_are_found_by_their_slot needs "machine" "cargo-deb" "dpkg-dev" "Debian 12",
}

fn lines_have_their_priority_and_nothing_twice() {
    let mut app = App::new("-b :8000 -n 2 -m -t 25 -r 1");
    app.start();
    app.release("exit_before_ack=3");
    app.reload().assert_code(1);
    // journald reads what it is sent when it gets to it.
    app.wait_journal("exited with status 3");
    app.wait_journal("2 of 2 workers up (generation 1), ");
    let warnings = app.journal(["-p", "warning", "--output=cat"]);
    assert!(warnings.contains("exited with status 3"), "{}", app.machine);
    assert!(!warnings.contains("2 of 2 workers up"), "{warnings}");
    let all = app.journal(["--output=cat", "SYSLOG_IDENTIFIER=einhyrningsins"]);
    assert!(
        all.lines().any(|line| line.starts_with("2 of 2 workers up (generation 1), ")),
        "no time, name or level of its own\n{all}"
    );
    assert!(!all.contains("INFO") && !all.contains("<6>"), "{all}");
    let short = app.journal(["SYSLOG_IDENTIFIER=einhyrningsins"]);
    let line = short.lines().find(|line| line.contains("]: 2 of 2 workers up"));
    assert_eq!(line.map(|line| line.matches("einhyrningsins").count()), Some(1), "{short}");
}

fn workers_are_found_by_their_slot() {
    let mut app = App::new("-b :8000 -n 2 -m -t 25 --log-workers journal=web");
    app.release_of("echo \"slot $EINHORN_SLOT begins\"\nexec /usr/local/bin/serve");
    app.start();
    for slot in 0..2 {
        app.wait_journal(&format!("slot {slot} begins"));
        let name = format!("web/{slot}");
        let read = app.machine.run(["journalctl", "--no-pager", "--output=cat", "-t", &name]);
        assert_eq!(read.stdout, format!("slot {slot} begins\n"), "{}", app.machine);
    }
}
