//! A package from `apt install` to `apt purge`, in a machine of Debian 12.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tests::binaries;

use super::assert_prints;
use crate::machine::Machine;
use crate::{made, roots};

tests::trials! {
    installed_with_apt_a_deploy_is_rolled_back_and_purging_leaves_what_is_the_users
        needs "cargo-deb" "dpkg-dev" "Debian 12" "machine",
}

/// The commands of the README that are run here.
const README: [&str; 3] =
    ["einhyrningsinsctl upgrade", "einhyrningsinsctl history", "einhyrningsinsctl rollback | tail -n 1"];

/// A release that does not start: the one of the README.
const BROKEN: &str = "#!/bin/sh\necho \"settings.toml: no such file\" >&2\nexit 3\n";

/// Lists the files of the machine, without caches, logs, backup copies (`passwd-`, `sources.list-old`) and the databases of
/// apt and dpkg.
fn files(machine: &Machine) -> BTreeSet<String> {
    let found = machine.shell(
        "find / -xdev \\( -path /tmp -o -path /run -o -path /var/log -o -path /var/cache -o -path /var/lib/apt -o -path \
         /var/tmp -o -path /var/lib/systemd \\) -prune -o ! -name '*-' ! -name '*-old' -print; cat /etc/group /etc/gshadow",
    );
    found.assert_code(0);
    found.stdout.lines().map(str::to_owned).collect()
}

fn place_package(machine: &Machine, package: &Path) -> String {
    let name = package.file_name().and_then(|name| name.to_str()).expect("a name");
    let path = format!("/var/tmp/{name}");
    fs::copy(package, machine.path(&path)).expect("a package in the machine");
    path
}

/// Deploys a release as the README does.
fn link(machine: &Machine, release: u32) {
    let command = format!("cd /srv/web && ln -sfn {release} new && mv -T new current");
    machine.shell(&command).assert_code(0);
}

fn installed_with_apt_a_deploy_is_rolled_back_and_purging_leaves_what_is_the_users() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).expect("the README");
    for command in README {
        assert!(readme.contains(command), "the README does not have {command}");
    }
    let debs = made::deb();
    let machine = Machine::builder(roots::root("bookworm")).boot();
    for release in [1, 3] {
        machine.place(&binaries::hello(), &format!("/srv/web/{release}/server"));
    }
    machine.write("/srv/web/2/server", BROKEN);
    machine.run(["chmod", "755", "/srv/web/2/server"]).assert_code(0);
    link(&machine, 1);
    let before = files(&machine);

    let package = place_package(&machine, &debs.einhyrningsins);
    let installed = machine.run(["apt-get", "install", "-y", &package]);
    installed.assert_code(0);
    let units = machine.shell(
        "systemctl list-unit-files --no-legend 'einhyrningsins*'; systemctl list-units --no-legend --all 'einhyrningsins*'",
    );
    assert_eq!(units.stdout.lines().count(), 4, "{units}");
    for unit in units.stdout.lines() {
        assert!(unit.contains(" disabled "), "{unit}");
    }
    machine.run(["getent", "group", "einhyrningsins-observers"]).assert_code(0);
    let paths = ["/usr/share/man/man1/einhyrningsinsctl.1.gz", "/etc/einhyrningsins/README"];
    for path in paths {
        machine.run(["test", "-s", path]).assert_code(0);
    }

    // A pool, as the package's README in /etc says, and a deploy that is rolled back.
    machine
        .write("/etc/einhyrningsins/web.conf", "-b 127.0.0.1:8000\n-n 2\n-m\n-s 0.01\n--capture-startup\n");
    machine.run(["systemctl", "enable", "--now", "einhyrningsins@web"]).assert_code(0);
    let run = |command: &str| {
        machine
            .shell(&format!("export EINHYRNINGSINS_SOCKET=/run/einhyrningsins/web/einhorn.sock; {command}"))
    };
    link(&machine, 2);
    let refused = run(README[0]);
    refused.assert_code(1).assert_says("rolled back").assert_says("settings.toml: no such file");
    assert_prints(&run("curl -sS 127.0.0.1:8000"), "generation 1");
    link(&machine, 3);
    assert_prints(&run(README[0]), "upgrade to generation 3 done");
    assert_prints(&run(README[1]), "rolled back");
    assert_prints(&run(README[2]), "rollback to generation 1 done");

    // The links for einhorn come and go by themselves.
    let einhorn = place_package(&machine, &debs.einhorn);
    machine.run(["apt-get", "install", "-y", &einhorn]).assert_code(0);
    run("einhorn --version && einhornsh -d $EINHYRNINGSINS_SOCKET -e 'ehlo me'").assert_code(0);
    machine.run(["apt-get", "purge", "-y", "einhyrningsins-einhorn"]).assert_code(0);
    machine.run(["test", "-L", "/usr/bin/einhorn"]).assert_code(1);

    // What runs is stopped, what was enabled is not, and what the user has written stays.
    machine.run(["apt-get", "purge", "-y", "einhyrningsins"]).assert_code(0);
    let processes = machine.run(["pgrep", "-l", "einhyrningsins|server"]);
    assert_eq!(processes.stdout, "", "{processes}");
    machine.run(["rm", &package, &einhorn]).assert_code(0);
    let after = files(&machine);
    let left: Vec<_> = after.difference(&before).map(String::as_str).collect();
    assert_eq!(left, ["/etc/einhyrningsins", "/etc/einhyrningsins/web.conf"]);
    let gone: Vec<_> = before.difference(&after).collect();
    assert!(gone.is_empty(), "{gone:?}");
}
