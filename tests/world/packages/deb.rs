//! The Debian packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tests::process::{run, run_within};

use crate::made;

tests::trials! {
    lintian_has_no_complaint needs "cargo-deb" "dpkg-dev" "Debian 12" "lintian",
    each_file_is_at_debians_place_and_each_manual_page_in_one_package needs "cargo-deb" "dpkg-dev" "Debian 12",
    units_run_the_programs_of_the_package needs "cargo-deb" "dpkg-dev" "Debian 12",
}

const LINTIAN_MAX: Duration = Duration::from_secs(300);

/// What the packages have beside manual pages and examples.
const FILES: &[&str] = &[
    "/etc/einhyrningsins/README",
    "/usr/bin/einhyrningsins",
    "/usr/bin/einhyrningsinsctl",
    "/usr/lib/systemd/system/einhyrningsins-serve.service",
    "/usr/lib/systemd/system/einhyrningsins.service",
    "/usr/lib/systemd/system/einhyrningsins.socket",
    "/usr/lib/systemd/system/einhyrningsins@.service",
    "/usr/lib/sysusers.d/einhyrningsins.conf",
    "/usr/share/bash-completion/completions/einhyrningsins",
    "/usr/share/bash-completion/completions/einhyrningsinsctl",
    "/usr/share/doc/einhyrningsins/README.md",
    "/usr/share/doc/einhyrningsins/changelog.Debian.gz",
    "/usr/share/doc/einhyrningsins/changelog.gz",
    "/usr/share/doc/einhyrningsins/copyright",
    "/usr/share/fish/vendor_completions.d/einhyrningsins.fish",
    "/usr/share/fish/vendor_completions.d/einhyrningsinsctl.fish",
    "/usr/share/lintian/overrides/einhyrningsins",
    "/usr/share/zsh/vendor-completions/_einhyrningsins",
    "/usr/share/zsh/vendor-completions/_einhyrningsinsctl",
];

const EINHORNS_FILES: &[&str] = &[
    "/usr/bin/einhorn -> einhyrningsins",
    "/usr/bin/einhornsh -> einhyrningsinsctl",
    "/usr/share/doc/einhyrningsins-einhorn/changelog.Debian.gz",
    "/usr/share/doc/einhyrningsins-einhorn/copyright",
    "/usr/share/lintian/overrides/einhyrningsins-einhorn",
];

fn dpkg_deb(option: &str, package: &Path) -> String {
    let mut command = Command::new("dpkg-deb");
    command.arg(option).arg(package);
    let printed = run(command);
    printed.assert_code(0);
    printed.stdout
}

/// The files of a package, links with what they lead to. All belong to root.
fn files(package: &Path) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for line in dpkg_deb("--contents", package).lines() {
        // -rw-r--r-- 0/0             680 2026-11-28 22:31 ./etc/einhyrningsins/README
        let columns: Vec<_> = line.split_whitespace().collect();
        let [mode, owner, _size, _date, _time, path, link @ ..] = columns.as_slice() else {
            panic!("not a line of a list: {line}")
        };
        assert_eq!(*owner, "0/0", "{line}");
        if mode.starts_with('d') {
            assert_eq!(*mode, "drwxr-xr-x", "{line}");
            continue;
        }
        let is_program = path.starts_with("./usr/bin/");
        match link {
            [] if is_program => assert_eq!(*mode, "-rwxr-xr-x", "{line}"),
            [] => assert_eq!(*mode, "-rw-r--r--", "{line}"),
            _ => assert!(is_program, "{line}"),
        }
        let path = path.strip_prefix('.').expect("a path from the root on");
        files.insert([[path].as_slice(), link].concat().join(" "));
    }
    files
}

/// The manual pages of the repository as they are in a package.
fn pages() -> BTreeSet<String> {
    let pages = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../man")).expect("the pages");
    let names = pages.map(|page| page.expect("a page").file_name().into_string().expect("a name"));
    names.map(|name| format!("/usr/share/man/man{}/{name}.gz", &name[name.len() - 1..])).collect()
}

fn lintian_has_no_complaint() {
    let debs = made::deb();
    let mut command = Command::new("lintian");
    command.args(["--profile", "debian", "--allow-root", "--fail-on", "error,warning"]);
    let checked = run_within(
        LINTIAN_MAX,
        {
            command.args([&debs.einhyrningsins, &debs.einhorn]);
            command
        },
        "",
    );
    assert!(checked.code() == 0 && checked.stdout.is_empty(), "{checked}");
}

fn each_file_is_at_debians_place_and_each_manual_page_in_one_package() {
    let debs = made::deb();
    let (mut main, mut einhorn) = (files(&debs.einhyrningsins), files(&debs.einhorn));
    let pages = pages();
    assert!(pages.len() >= 5, "{pages:?}");
    for page in &pages {
        let is_einhorns = page.contains("/man1/einhorn");
        assert_eq!((main.remove(page), einhorn.remove(page)), (!is_einhorns, is_einhorns), "{page}");
    }
    let examples: Vec<_> = main.extract_if(.., |path| path.contains("/examples/")).collect();
    for example in ["container/Dockerfile", "prometheus/alerts.yml"] {
        assert!(examples.iter().any(|path| path.ends_with(example)), "{example} is not in {examples:?}");
    }
    assert_eq!(main, FILES.iter().map(|path| (*path).to_owned()).collect());
    assert_eq!(einhorn, EINHORNS_FILES.iter().map(|path| (*path).to_owned()).collect());
}

fn units_run_the_programs_of_the_package() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("dpkg-deb");
    command.arg("--extract").args([&made::deb().einhyrningsins, directory.path()]);
    run(command).assert_code(0);
    let mut commands = 0;
    for unit in fs::read_dir(directory.path().join("usr/lib/systemd/system")).expect("the units") {
        let text = fs::read_to_string(unit.expect("a unit").path()).expect("a unit");
        assert!(!text.contains("/usr/local/bin"), "{text}");
        for line in text.lines().filter(|line| line.starts_with("Exec")) {
            let (_, command) = line.split_once('=').expect("a command");
            let program = command.split(' ').next().expect("a program");
            // systemd goes on where a command with "-" fails.
            let program = program.trim_start_matches('-').trim_start_matches('/');
            assert!(directory.path().join(program).exists(), "{line}");
            commands += 1;
        }
    }
    assert!(commands >= 5, "{commands} commands");
}
