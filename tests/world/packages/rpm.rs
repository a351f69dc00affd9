//! The RPM package, with Debian's rpm: no distribution of RPM is at hand.

use std::fs;
use std::path::Path;
use std::process::Command;

use tests::Finished;
use tests::process::run;

use super::{assert_prints, listing};
use crate::made;

tests::trials! {
    the_rpm_installs_into_an_empty_root_and_erasing_it_leaves_nothing
        needs "cargo-generate-rpm" "rpm" "Debian 12",
}

fn rpm(root: &Path, arguments: &[&str]) -> Finished {
    let mut command = Command::new("rpm");
    command.arg("--root").arg(root).args(arguments);
    run(command)
}

fn ask(package: &str, question: &[&str]) -> String {
    let mut command = Command::new("rpm");
    command.arg("-qp").args(question).arg(package);
    let answered = run(command);
    answered.assert_code(0);
    answered.stdout
}

fn the_rpm_installs_into_an_empty_root_and_erasing_it_leaves_nothing() {
    let package = made::rpm();
    let package = package.to_str().expect("UTF-8");
    let requires = ask(package, &["--requires"]);
    let libc = requires.lines().filter_map(|line| line.split_once("(GLIBC_2.")).map(|(_, version)| {
        version.split_once(')').and_then(|(version, _)| version.split('.').next()?.parse::<u32>().ok())
    });
    let newest = libc.flatten().max();
    assert!(newest.is_some_and(|newest| newest <= 34), "{requires}");
    assert!(ask(package, &["--scripts"]).contains("systemd-sysusers einhyrningsins.conf"));
    assert_eq!(ask(package, &["--configfiles"]), "/etc/einhyrningsins/README\n");

    let root = tempfile::tempdir().expect("a root");
    rpm(root.path(), &["--initdb"]).assert_code(0);
    let files = |root: &Path| {
        let mut files = listing(root);
        files.retain(|path, _| !path.starts_with("var") && !path.starts_with("root"));
        files
    };
    let before = files(root.path());
    // Scripts and dependencies need a distribution around them.
    rpm(root.path(), &["-i", "--force-debian", "--nodeps", "--noscripts", package]).assert_code(0);
    for file in [
        "usr/share/man/man1/einhyrningsinsctl.1",
        "usr/share/man/man7/einhorn-worker.7",
        "usr/share/zsh/site-functions/_einhyrningsinsctl",
        "usr/share/licenses/einhyrningsins/LICENSE",
    ] {
        assert!(root.path().join(file).is_file(), "{file}");
    }
    let unit = root.path().join("usr/lib/systemd/system/einhyrningsins@.service");
    let unit = fs::read_to_string(unit).expect("a unit");
    assert!(unit.contains("\nExecStart=/usr/bin/einhyrningsins "), "{unit}");
    for program in ["einhyrningsins", "einhyrningsinsctl"] {
        let mut command = Command::new(root.path().join("usr/bin").join(program));
        command.arg("--version");
        assert_prints(&run(command), program);
    }
    rpm(root.path(), &["-e", "--noscripts", "einhyrningsins"]).assert_code(0);
    // rpm made the directories that every package of a distribution finds: what is left is empty.
    let after = files(root.path());
    let left: Vec<_> =
        after.iter().filter(|(path, what)| !before.contains_key(*path) && *what != "directory").collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!root.path().join("etc/einhyrningsins/README").exists());
}
