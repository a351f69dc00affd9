//! The unit of `einhyrningsinsctl serve`: it serves metrics as a user who may only ask.

use crate::systemd::app::App;

tests::trials! {
    metrics_are_served_by_a_user_who_may_only_ask needs "machine" "cargo-deb" "dpkg-dev" "Debian 12",
}

const UNIT: &str = "einhyrningsins-serve.service";

fn metrics_are_served_by_a_user_who_may_only_ask() {
    let mut app = App::new("-b :8000 -n 2 -m -t 25 --observe-group einhyrningsins-observers");
    app.machine.run(["groupadd", "--force", "--system", "einhyrningsins-observers"]).assert_code(0);
    app.drop_in("[Service]\nSupplementaryGroups=einhyrningsins-observers\n");
    app.start();
    app.machine.write("/etc/einhyrningsins/serve.env", &format!("EINHYRNINGSINS_SOCKET={}\n", app.socket()));
    app.systemctl(["start", UNIT]).assert_code(0);
    let metrics = app.machine.wait("metrics", |machine| {
        let got = machine.run(["curl", "-sf", "http://127.0.0.1:9180/metrics"]);
        got.status.success().then_some(got.stdout)
    });
    assert!(
        metrics.lines().any(|line| line == "einhyrningsins_workers_wanted 2"),
        "{metrics}\n{}",
        app.machine
    );
    let pid = app.systemctl(["show", "--value", "--property", "MainPID", UNIT]).stdout;
    let server = app.machine.process(pid.trim().parse().expect("a pid"));
    let user = |process: &tests::Process| process.status("Uid").expect("a user");
    assert_ne!(user(&server), user(&app.master()));
    assert_eq!(server.status("CapEff").as_deref(), Some("0000000000000000"));
    assert_eq!(server.status("CapBnd").as_deref(), Some("0000000000000000"));
    assert_eq!(server.status("NoNewPrivs").as_deref(), Some("1"));
    assert_eq!(server.status("Seccomp").as_deref(), Some("2"));
    // As its user, in its groups.
    let [user, group] = ["Uid", "Gid"].map(|field| {
        let ids = server.status(field).expect("ids");
        ids.split_whitespace().next().expect("an id").to_owned()
    });
    let as_server = |words: &str| {
        let become_server = format!(
            "--reuid={user} --regid={group} --groups=$(getent group einhyrningsins-observers | cut -d: -f3)"
        );
        app.machine.run([
            "sh",
            "-c",
            &format!("exec setpriv {become_server} einhyrningsinsctl -d {} {words}", app.socket()),
        ])
    };
    as_server("status").assert_code(0);
    for command in ["upgrade", "die", "dec", "state"] {
        let refused = as_server(command);
        refused.assert_code(1).assert_says("observer");
    }
    assert_eq!(app.property("StatusText"), "2 of 2 workers up, generation 1");
}
