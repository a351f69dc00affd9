//! What a container may be denied: a root that it may write to, a user that it knows, memory, CPUs.

use tests::wait::wait_for;

use super::Container;
use super::images::{IMAGES, Image};

tests::trials! {
    a_read_only_root_with_one_directory_in_memory_is_enough needs "root" "podman" "machine" "musl target",
    without_a_place_for_its_socket_it_says_so_and_ends needs "root" "podman" "machine" "musl target",
    any_user_will_do needs "root" "podman" "machine" "musl target",
    a_worker_that_takes_all_memory_dies_alone needs "root" "podman" "machine" "musl target" "memory limit",
    auto_is_the_number_of_cpus_that_the_container_may_use needs "root" "podman" "machine" "musl target" "cpu quota",
}

/// A root that nothing may write to, not even below /tmp and /run, where podman alone would leave that.
const READ_ONLY: [&str; 2] = ["--read-only", "--read-only-tmpfs=false"];

/// A place for the control socket.
const TMPFS: [&str; 2] = ["--tmpfs", "/run/einhyrningsins"];

fn a_read_only_root_with_one_directory_in_memory_is_enough() {
    for image in IMAGES {
        let options: Vec<_> = READ_ONLY.into_iter().chain(TMPFS).collect();
        let web = Container::serving(image, &options, &[]);
        let load = web.load();
        load.wait_for_answers(100);
        web.ctl(&["upgrade"]).assert_code(0);
        web.ctl(&["reload"]).assert_code(0);
        load.wait_for_answers(100);
        load.stop().assert_nothing_lost();
        web.podman(&["stop"]).assert_code(0);
        web.wait_exit_code(0);
    }
}

fn without_a_place_for_its_socket_it_says_so_and_ends() {
    let web = Container::run(Image::Scratch, &READ_ONLY, &[]);
    web.wait_exit_code(1);
    let logs = web.logs();
    assert!(logs.contains("/run/einhyrningsins/einhorn.sock"), "{logs}");
    assert!(logs.contains("Read-only file system"), "{logs}");
}

fn any_user_will_do() {
    let read_only: Vec<_> = READ_ONLY.into_iter().chain(TMPFS).collect();
    for image in IMAGES {
        for (user, more) in [("12345678:0", &[][..]), ("12345678:0", &read_only), ("4711:4711", &read_only)] {
            let options: Vec<_> = ["--user", user].iter().chain(more).copied().collect();
            let web = Container::serving(image, &options, &[]);
            let ids = web.init().status("Uid").expect("its user");
            let wanted = user.split(':').next().expect("a user");
            assert!(ids.split_whitespace().all(|id| id == wanted), "it runs as {ids}");
            web.ctl(&["upgrade"]).assert_code(0);
            web.podman(&["healthcheck", "run"]).assert_code(0);
        }
    }
}

fn a_worker_that_takes_all_memory_dies_alone() {
    // The first worker of each slot asks for more than there is, its successor serves.
    let script =
        "mkdir /tmp/$EINHORN_SLOT || exec ./server; exec perl -e '$all = \"x\" x (400 << 20); sleep'";
    let options = ["--memory", "64m"];
    let words = ["-s", "0.1", "-n", "2", "--", "/bin/sh", "-c", script];
    let web = Container::serving(Image::Slim, &options, &words);
    wait_for("both to be killed and replaced", || {
        let status = web.status();
        (status.slots.iter().all(|slot| slot.restarts == 1) && status.master.up == 2).then_some(())
    });
    let logs = web.logs();
    assert!(logs.contains("was killed by SIGKILL"), "{logs}");
    assert!(web.is_running());
}

fn auto_is_the_number_of_cpus_that_the_container_may_use() {
    let words = ["-n", "auto", "--", "./server"];
    let one = Container::serving(Image::Scratch, &["--cpus", "1"], &words);
    assert_eq!(one.status().master.wanted, 1);
    let two = Container::serving(Image::Scratch, &["--cpus", "2"], &words);
    assert_eq!(two.status().master.wanted, 2);
}
