//! Releases that change inside a running container, and its end, under load.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::thread;

use tempfile::TempDir;
use tests::process::run;

use super::Container;
use super::images::{IMAGES, Image};
use crate::made;

tests::trials! {
    upgrades_inside_lose_nothing needs "root" "podman" "machine" "musl target",
    a_release_of_a_volume_rolls_in_and_a_broken_one_rolls_back needs "root" "podman" "machine" "musl target",
    a_stop_that_is_announced_serves_until_clients_know needs "root" "podman" "machine" "musl target",
}

fn upgrades_inside_lose_nothing() {
    for image in IMAGES {
        let web = Container::serving(image, &["--read-only"], &[]);
        let load = web.load();
        load.wait_for_answers(300);
        for _ in 0..3 {
            web.ctl(&["upgrade"]).assert_code(0);
            load.wait_for_answers(300);
        }
        let report = load.stop();
        report.assert_nothing_lost();
        println!("three upgrades in {}: 0 of {} requests lost", image.name(), report.requests);
        assert_eq!(web.status().master.generation, 4);
    }
}

/// A directory with `releases/1`, which is the server, and `current`, a link to it. Any user may read it.
fn volume() -> TempDir {
    let volume = tempfile::tempdir().expect("a directory");
    fs::set_permissions(volume.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    add_release(volume.path(), 1, &fs::read(made::musl().join("hello")).expect("the server"));
    link(volume.path(), 1);
    volume
}

fn add_release(volume: &Path, number: u32, program: &[u8]) {
    let release = volume.join(format!("releases/{number}"));
    fs::create_dir_all(&release).expect("a release");
    fs::write(release.join("server"), program).expect("a program");
    fs::set_permissions(release.join("server"), fs::Permissions::from_mode(0o755)).expect("a mode");
}

fn link(volume: &Path, number: u32) {
    let new = volume.join("new");
    symlink(format!("releases/{number}"), &new).expect("a link");
    fs::rename(new, volume.join("current")).expect("the link in its place");
}

fn a_release_of_a_volume_rolls_in_and_a_broken_one_rolls_back() {
    let volume = volume();
    add_release(volume.path(), 2, &fs::read(made::musl().join("hello")).expect("the server"));
    add_release(volume.path(), 3, b"not a program\n");
    let mount = format!("{}:/srv/web:ro", volume.path().display());
    let options = ["--read-only", "--volume", mount.as_str()];
    let words = ["-n", "4", "--chdir", "/srv/web/current", "--", "./server"];
    let web = Container::serving(Image::Scratch, &options, &words);
    let runs = || web.init().children().iter().filter_map(tests::Process::directory).collect::<Vec<_>>();
    let load = web.load();
    load.wait_for_answers(300);
    link(volume.path(), 2);
    web.ctl(&["upgrade"]).assert_code(0);
    load.wait_for_answers(300);
    let directories = runs();
    assert!(directories.iter().any(|directory| directory.ends_with("releases/2")), "{directories:?}");
    link(volume.path(), 3);
    let failed = web.ctl(&["upgrade"]);
    failed.assert_code(1).assert_says("upgrade to generation 3 failed");
    load.wait_for_answers(300);
    load.stop().assert_nothing_lost();
    let status = web.status();
    assert_eq!(status.master.up, 4);
    let directories = runs();
    assert!(directories.iter().all(|directory| directory.ends_with("releases/2")), "{directories:?}");
}

fn a_stop_that_is_announced_serves_until_clients_know() {
    for image in IMAGES {
        let web = Container::serving(image, &["--read-only"], &[]);
        let load = web.load();
        load.wait_for_answers(300);
        let die = ["einhyrningsinsctl", "die", "--delay", "5"];
        let pre_stop = web.command(&die);
        thread::scope(|scope| {
            let stop = scope.spawn(|| run(pre_stop));
            web.wait_runs(&die);
            // Traffic goes on for as long as whoever routes it has not heard. Then it goes elsewhere.
            load.wait_for_answers(1000);
            load.stop().assert_nothing_lost();
            assert!(web.is_running(), "it did not wait");
            stop.join().expect("preStop");
        });
        web.wait_exit_code(0);
    }
}
