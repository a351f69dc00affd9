//! The master as the first process of a container: signals, exit codes, orphans.

use nix::sys::signal::Signal;
use tests::wait::wait_for;

use super::Container;
use super::images::{IMAGES, Image};

tests::trials! {
    podman_stop_ends_it_gracefully_with_0 needs "root" "podman" "machine" "musl target",
    signals_end_it_with_their_exit_codes needs "root" "podman" "machine" "musl target",
    a_hangup_upgrades_and_reload_keeps_pid_one needs "root" "podman" "machine" "musl target",
    exit_codes_say_what_was_wrong needs "root" "podman" "machine" "musl target",
    orphans_are_reaped_while_the_pool_serves needs "root" "podman" "machine" "musl target",
}

fn podman_stop_ends_it_gracefully_with_0() {
    for image in IMAGES {
        let web = Container::serving(image, &[], &[]);
        let load = web.load();
        load.wait_for_answers(100);
        // What comes while the master stops waits in vain, so nothing does.
        load.stop().assert_nothing_lost();
        web.podman(&["stop", "--time", "30"]).assert_code(0);
        web.wait_exit_code(0);
        let logs = web.logs();
        assert!(
            logs.contains("stopping (SIGUSR2 from outside the container"),
            "the image's STOPSIGNAL\n{logs}"
        );
        assert!(logs.contains("the last worker has gone"), "{logs}");
    }
}

fn signals_end_it_with_their_exit_codes() {
    for (signal, code) in [
        (Signal::SIGTERM, 0),
        (Signal::SIGINT, 0),
        (Signal::SIGUSR2, 0),
        (Signal::SIGQUIT, 1),
        (Signal::SIGKILL, 137),
    ] {
        let web = Container::serving(Image::Scratch, &[], &["-n", "2", "--", "./server"]);
        web.kill(signal);
        web.wait_exit_code(code);
    }
}

fn a_hangup_upgrades_and_reload_keeps_pid_one() {
    let web = Container::serving(Image::Scratch, &[], &[]);
    let init = web.init();
    web.kill(Signal::SIGHUP);
    wait_for("the upgrade", || {
        let master = web.status().master;
        ((master.generation, master.up, master.draining) == (2, 4, 0)).then_some(())
    });
    web.ctl(&["reload"]).assert_code(0);
    assert_eq!(web.init(), init);
    assert_eq!(web.status().master.pid, 1);
}

fn exit_codes_say_what_was_wrong() {
    let cases: [(&[&str], i32, &str); 4] = [
        (&["--frob", "--", "./server"], 2, "--frob"),
        (&["-n", "2", "--", "./no-server"], 1, "./no-server"),
        // It ends before it acks.
        (&["-n", "2", "-r", "1", "--", "einhyrningsinsctl", "--version"], 1, "exited with status 0"),
        (&["-n", "2", "-d", "/nowhere/einhorn.sock", "--", "./server"], 1, "/nowhere/einhorn.sock"),
    ];
    for image in IMAGES {
        for (words, code, reason) in cases {
            let web = Container::run(image, &[], words);
            web.wait_exit_code(code);
            let logs = web.logs();
            assert!(logs.contains(reason), "{words:?} does not say {reason:?}\n{logs}");
        }
    }
}

fn orphans_are_reaped_while_the_pool_serves() {
    // Each subshell is gone at once, and leaves what it has started to the first process.
    let script = "for i in $(seq 100); do (sh -c 'read line </tmp/end' &); done; exec ./server";
    let prepare = format!("mkfifo /tmp/end; {script}");
    let web = Container::serving(Image::Slim, &[], &["-n", "1", "--", "/bin/sh", "-c", &prepare]);
    let init = web.init();
    wait_for("a hundred orphans", || (init.children().len() == 101).then_some(()));
    // They are at their end when somebody has written, and closed.
    web.exec(&["/bin/sh", "-c", "echo >/tmp/end"]).assert_code(0);
    wait_for("none of them to be left", || (init.children().len() == 1 && init.zombies() == 0).then_some(()));
    let status = web.status();
    assert_eq!(
        (status.master.up, status.slots[0].restarts),
        (1, 0),
        "a stranger's death was taken for a worker's"
    );
}
