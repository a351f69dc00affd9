//! Releases that fail, hosts that are down, connections that break: what stops, what goes back, and what is said.

use tests::process::Captured;
use tests::{Process, wait};

use super::fleet::{Fleet, HOSTS, State, fleet};

tests::trials! {
    a_release_that_fails_goes_back_on_the_first_host_and_the_others_are_not_touched
        needs "machine" "ansible-playbook" "ssh" "cargo-deb" "dpkg-dev" "Debian 12",
    a_run_that_failed_in_the_middle_is_rolled_back_on_all_hosts
        needs "machine" "ansible-playbook" "ssh" "cargo-deb" "dpkg-dev" "Debian 12",
    a_host_that_is_down_is_named_before_any_host_changes
        needs "machine" "ansible-playbook" "ssh" "cargo-deb" "dpkg-dev" "Debian 12",
    an_upgrade_that_fails_after_its_connection_broke_takes_the_link_back
        needs "machine" "ansible-playbook" "ssh" "cargo-deb" "dpkg-dev" "Debian 12",
    a_first_release_that_fails_leaves_no_link_and_no_running_unit
        needs "machine" "ansible-playbook" "ssh" "cargo-deb" "dpkg-dev" "Debian 12",
}

/// A release that cannot start.
const BROKEN: &str = "echo 'settings.toml: no such file' >&2; exit 3";

fn a_release_that_fails_goes_back_on_the_first_host_and_the_others_are_not_touched() {
    let mut fleet = fleet();
    let before = fleet.states();
    let release = fleet.release(Some(BROKEN));
    let loads = fleet.load();
    let options =
        r#"{"einhyrningsins_options": ["-b 127.0.0.1:8000", "-n 3", "-m", "-r 1", "--capture-startup"]}"#;
    let played = fleet.deploy(&release, &["-e", options]);
    played.assert_code(2);
    let old = &before["web1"].release;
    played.assert_says("fatal: [web1]: FAILED!").assert_says(&format!("release {release} failed: slot "));
    played.assert_says("exited with status 3").assert_says("| settings.toml: no such file");
    played.assert_says(&format!("release {old} serves, 2 of 2 workers; /srv/web/current leads to {old}"));
    HOSTS[1..].iter().for_each(|host| assert_eq!(played.count(&format!("[{host}]: FAILED")), 0, "{host}"));
    // The same masters, workers, links and options.
    assert_eq!(fleet.states(), before);
    for load in loads {
        load.wait_for_answers(20);
        load.stop().assert_nothing_lost();
    }
    for (host, machine) in fleet.hosts() {
        let is_placed = machine.run(["ls", &format!("/srv/web/releases/{release}")]).code() == 0;
        assert_eq!(is_placed, host == "web1", "{host}");
    }
    let first = fleet.host("web1");
    first.run(["systemctl", "restart", "einhyrningsins@web"]).assert_code(0);
    State::of(first).assert_serves("web1", old);
}

fn a_run_that_failed_in_the_middle_is_rolled_back_on_all_hosts() {
    let mut fleet = fleet();
    let before = fleet.states();
    let old = before["web4"].release.clone();
    let release = fleet.release(Some("test \"$(uname -n)\" != web4 || exit 4\nexec ./good"));
    let loads = fleet.load();
    let played = fleet.deploy(&release, &[]);
    played.assert_code(2);
    played.assert_says("fatal: [web4]: FAILED!").assert_says("exited with status 4");
    let middle = fleet.states();
    HOSTS[..3].iter().for_each(|host| middle[host].assert_serves(host, &release));
    assert_eq!(middle["web4"], before["web4"]);
    let report = fleet.play(fleet.playbook("report.yml"));
    report.assert_code(0);
    assert_eq!(report.count(&format!("release {release}, master ")), 3, "{report:?}");
    assert_eq!(report.count(&format!("release {old}, master ")), 1, "{report:?}");

    let mut command = fleet.playbook("rollback.yml");
    command.args(["-e", &format!("einhyrningsins_release={old}")]);
    let back = fleet.play(command);
    back.assert_code(0);
    assert_eq!(back.changes("web4"), Some(0), "{back:?}");
    fleet.assert_all_serve(&old);
    let after = fleet.states();
    assert_eq!(after["web4"], before["web4"]);
    for load in loads {
        load.wait_for_answers(20);
        load.stop().assert_nothing_lost();
    }
}

fn a_host_that_is_down_is_named_before_any_host_changes() {
    let mut fleet = fleet();
    let before = fleet.states();
    let release = fleet.release(None);
    fleet.host("web3").run(["ip", "link", "set", "host0", "down"]).assert_code(0);
    let played = fleet.deploy(&release, &[]);
    let meanwhile = fleet.states();
    let without = fleet.deploy(&release, &["--limit", "all:!web3"]);
    fleet.host("web3").run(["ip", "link", "set", "host0", "up"]).assert_code(0);
    played.assert_code(4).assert_says("fatal: [web3]: UNREACHABLE!");
    assert_eq!(meanwhile, before, "{played:?}");
    without.assert_code(0);
    let without = fleet.states();
    assert_eq!(without["web3"], before["web3"]);
    ["web1", "web2", "web4"].iter().for_each(|host| without[host].assert_serves(host, &release));
    let late = fleet.deploy(&release, &["--limit", "web3", "-e", "einhyrningsins_keep=1"]);
    late.assert_code(0);
    fleet.assert_all_serve(&release);
    // The one before is what a rollback needs.
    let kept = fleet.host("web3").run(["ls", "/srv/web/releases"]).stdout;
    assert_eq!(kept, format!("{}\n{release}\n", before["web3"].release));
}

fn an_upgrade_that_fails_after_its_connection_broke_takes_the_link_back() {
    let mut fleet = fleet();
    let before = fleet.states();
    let release = fleet.release(Some("exec sleep 1000"));
    // Without pipelining, the host has a terminal, whose end is a signal for all that runs in it.
    let mut command = fleet.deployment(&release, &["--limit", "web1"]);
    let output = Captured::new();
    command.env("ANSIBLE_PIPELINING", "false").stdout(output.writer()).stderr(output.writer());
    let mut ansible = command.spawn().expect("Ansible");
    let first = fleet.host("web1");
    let upgrading = |words: &[&str]| {
        let command = ["einhyrningsinsctl", "-d", "/run/einhyrningsins/web/einhorn.sock"];
        first.run(command.iter().chain(words))
    };
    let replacing =
        || upgrading(&["--json", "status"]).stdout.contains("\"stage\":\"replacing\"").then_some(());
    let has_begun = wait::within(wait::patience() * 2, replacing);
    let process = Process::of(ansible.id() as i32).expect("a child that was not waited for");
    process.kill_with_descendants();
    let _ = ansible.wait();
    assert!(has_begun.is_some(), "no worker of the new release\n{}", output.text());
    let sessions = || (first.shell("pgrep -f '^sshd: root@' || true").stdout.is_empty()).then_some(());
    wait::wait_for("the end of the connection", sessions);
    assert_eq!(first.run(["readlink", "/srv/web/current"]).stdout.trim(), format!("releases/{release}"));

    upgrading(&["upgrade", "--abort"]).assert_code(0);
    let old = format!("{}\n", before["web1"].link);
    let is_back = || (first.run(["readlink", "/srv/web/current"]).stdout == old).then_some(());
    wait::wait_for("the link to lead back", is_back);
    assert_eq!(fleet.states(), before);
}

fn a_first_release_that_fails_leaves_no_link_and_no_running_unit() {
    let mut fleet = fleet();
    let broken = fleet.release(Some(BROKEN));
    let deploy = |fleet: &Fleet, release: &str| {
        let options = r#"{"einhyrningsins_name": "api", "einhyrningsins_options":
            ["-b 127.0.0.1:8001", "-m", "-r 1", "--capture-startup"]}"#;
        fleet.deploy(release, &["--limit", "web2", "-e", options])
    };
    let played = deploy(&fleet, &broken);
    played.assert_code(2).assert_says("fatal: [web2]: FAILED!");
    played.assert_says(&format!("release {broken} did not start")).assert_says("settings.toml: no such file");
    let host = fleet.host("web2");
    host.run(["readlink", "/srv/api/current"]).assert_code(1);
    assert_eq!(host.run(["systemctl", "is-active", "einhyrningsins@api"]).stdout, "inactive\n");
    let good = fleet.release(None);
    deploy(&fleet, &good).assert_code(0);
    let host = fleet.host("web2");
    assert_eq!(host.run(["systemctl", "is-enabled", "einhyrningsins@api"]).stdout, "enabled\n");
    host.run(["systemctl", "disable", "--now", "einhyrningsins@api"]).assert_code(0);
}
