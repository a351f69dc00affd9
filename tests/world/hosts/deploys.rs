//! Releases that serve as they should: they reach all hosts, once, and no request is lost.

use super::fleet::{HOSTS, fleet};

tests::trials! {
    a_release_rolls_through_all_hosts_and_no_request_is_lost
        needs "machine" "ansible-playbook" "ssh" "cargo-deb" "dpkg-dev" "Debian 12",
    a_check_changes_nothing_and_says_what_would_be_done
        needs "machine" "ansible-playbook" "ssh" "cargo-deb" "dpkg-dev" "Debian 12",
    a_command_is_carried_out_on_a_host_by_its_name
        needs "machine" "ansible-playbook" "ssh" "cargo-deb" "dpkg-dev" "Debian 12",
}

fn a_release_rolls_through_all_hosts_and_no_request_is_lost() {
    let mut fleet = fleet();
    let before = fleet.states();
    let release = fleet.release(None);
    let loads = fleet.load();
    let played = fleet.deploy(&release, &[]);
    played.assert_code(0);
    fleet.assert_all_serve(&release);
    for load in loads {
        load.wait_for_answers(20);
        let report = load.stop();
        report.assert_nothing_lost();
        assert_eq!(report.generations().len(), 2, "both releases answered\n{report}");
    }
    // One host, a quarter of four, and the rest.
    assert_eq!(played.count("PLAY [Roll the release out]"), 3, "{played:?}");
    let after = fleet.states();
    for host in HOSTS {
        assert_eq!(after[host].master, before[host].master, "{host}");
        assert!(after[host].generation > before[host].generation, "{host}");
        let (old, generation) = (&before[host].release, after[host].generation);
        played.assert_says(&format!("release {release} serves, 2 of 2 workers, after {old}"));
        played.assert_says(&format!("2 of 2 workers up, generation {generation}; previous release {old}"));
    }
    let again = fleet.deploy(&release, &[]);
    again.assert_code(0).assert_says(&format!("release {release} serves already"));
    for host in HOSTS {
        assert_eq!(again.changes(host), Some(0), "{host}: {again:?}");
    }
    assert_eq!(fleet.states(), after);
}

fn a_check_changes_nothing_and_says_what_would_be_done() {
    let mut fleet = fleet();
    let before = fleet.states();
    let release = fleet.release(None);
    let played = fleet.deploy(&release, &["--check", "--limit", "web1,web2"]);
    played.assert_code(0);
    let words = format!("would upgrade from release {} to {release}", before["web1"].release);
    assert_eq!(played.count(&words), 2, "{played:?}");
    assert_eq!(fleet.states(), before);
    for (_, machine) in fleet.hosts() {
        machine.run(["ls", &format!("/srv/web/releases/{release}")]).assert_code(2);
    }
}

fn a_command_is_carried_out_on_a_host_by_its_name() {
    let fleet = fleet();
    let socket = "/run/einhyrningsins/web/einhorn.sock";
    let before = fleet.states();
    let done = fleet.client(&["-H", "web2", "-d", socket, "upgrade", "--label", "by hand"]);
    done.assert_code(0);
    let after = fleet.states();
    for host in HOSTS {
        assert_eq!(after[host] == before[host], host != "web2", "{host}\n{done}");
    }
    fleet.client(&["-H", "root@web2", "-d", socket, "status", "--ready"]).assert_code(0);
    fleet.client(&["-H", "web2", "-d", "/nowhere", "status"]).assert_code(3);
    // Nobody has this address.
    fleet.client(&["-H", "10.77.0.99", "status"]).assert_code(6).assert_says("ssh did not reach 10.77.0.99");
}
