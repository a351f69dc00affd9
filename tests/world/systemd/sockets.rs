//! Sockets that need systemd: those that it binds, and ports of the system.

use crate::systemd::app::App;

tests::trials! {
    the_first_connection_starts_the_service_of_a_socket_unit needs "machine" "cargo-deb" "dpkg-dev" "Debian 12",
    a_user_of_the_moment_binds_a_port_of_the_system needs "machine" "cargo-deb" "dpkg-dev" "Debian 12",
}

fn the_first_connection_starts_the_service_of_a_socket_unit() {
    let mut app = App::on_socket("-n 2 -m -t 25");
    app.release("linger_ms=500");
    app.systemctl(["start", "einhyrningsins.socket"]).assert_code(0);
    assert_eq!(app.property("ActiveState"), "inactive");
    let load = app.load(app.plan());
    load.wait_for_answers(64);
    // Workers that are up answer before the last one is.
    app.wait_property("ActiveState", |state| state == "active");
    assert_eq!(app.property("StatusText"), "2 of 2 workers up, generation 1");
    app.release("linger_ms=500");
    app.reload().assert_code(0);
    app.systemctl(["restart", app.unit]).assert_code(0);
    load.wait_for_answers(64);
    load.stop().assert_nothing_lost();
}

fn a_user_of_the_moment_binds_a_port_of_the_system() {
    let mut app = App::new("-b :80 -n 2 -m -t 25");
    app.port = 80;
    // As shipped, it may not, and says what would help.
    app.systemctl(["start", app.unit]).assert_code(1);
    app.wait_journal("CAP_NET_BIND_SERVICE");
    app.systemctl(["stop", app.unit]).assert_code(0);
    let capability =
        "[Service]\nAmbientCapabilities=CAP_NET_BIND_SERVICE\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n";
    app.drop_in(capability);
    app.start();
    let load = app.load(app.plan());
    load.wait_for_answers(64);
    load.stop().assert_nothing_lost();
    let user = app.master().status("Uid").expect("its user");
    let user: u32 = user.split_whitespace().next().and_then(|user| user.parse().ok()).expect("a number");
    // Source: systemd's "Users, Groups, UIDs and GIDs on systemd Systems".
    assert!((61_184..=65_519).contains(&user), "user {user}");
}
