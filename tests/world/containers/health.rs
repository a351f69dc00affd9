//! The health check of the images, as the engine runs it.

use tests::wait::wait_for;

use super::Container;
use super::images::{IMAGES, Image};

tests::trials! {
    a_pool_that_serves_is_healthy needs "root" "podman" "machine" "musl target",
    a_pool_that_does_not_come_up_is_unhealthy_until_it_does needs "root" "podman" "machine" "musl target",
}

fn a_pool_that_serves_is_healthy() {
    for image in IMAGES {
        let web = Container::serving(image, &[], &[]);
        web.podman(&["healthcheck", "run"]).assert_code(0);
        assert_eq!(web.inspect(".State.Health.Status"), "healthy");
        // An upgrade leaves it so.
        web.ctl(&["upgrade"]).assert_code(0);
        web.podman(&["healthcheck", "run"]).assert_code(0);
    }
}

fn a_pool_that_does_not_come_up_is_unhealthy_until_it_does() {
    let script = "until test -e /tmp/open; do sleep 0.05; done; exec ./server";
    let web = Container::run(Image::Slim, &[], &["-n", "2", "--", "/bin/sh", "-c", script]);
    web.podman(&["healthcheck", "run"]).assert_code(1);
    // In its first 30 seconds, the image's start period, it is not unhealthy for good.
    assert_eq!(web.inspect(".State.Health.Status"), "starting");
    let why = web.inspect("json .State.Health.Log");
    assert!(why.contains("0 of 2"), "the check does not say what is missing: {why}");
    web.exec(&["touch", "/tmp/open"]).assert_code(0);
    wait_for("a check that passes", || {
        (web.podman(&["healthcheck", "run"]).status.code() == Some(0)).then_some(())
    });
    assert_eq!(web.inspect(".State.Health.Status"), "healthy");
}
