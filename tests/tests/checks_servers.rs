//! Servers that people run, each checked by `einhyrningsinsctl probe` on the twin of its socket before an upgrade, under load.

use std::path::Path;
use std::sync::PoisonError;

use tests::load::Plan;
use tests::stream::Target;

use crate::checks::{probe, trial_directory};
use crate::real_servers::{self, LOOPBACK, ONE_AT_A_TIME, Server};

tests::trials! {
    gunicorn_is_checked needs "gunicorn",
    puma_is_checked needs "puma",
    node_is_checked needs "node",
    go_is_checked needs "go",
    haproxy_is_checked_on_a_unix_socket needs "haproxy",
    nginx_is_checked_at_the_address_that_is_in_its_configuration needs "nginx",
}

/// Upgrades it twice: its trial worker, and nobody else, gives the answer that lets the first pass and the second fail.
#[track_caller]
fn is_checked(server: &Server, bind: impl FnOnce(&Path) -> String) {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().expect("a directory");
    let bind = bind(directory.path());
    let check = format!("sh -c '{}'", probe(r#"http:/ --contains "generation $EINHORN_GENERATION, worker""#));
    let builder = server.builder(&bind, "").options(["--check", &check]);
    let mut master = builder.option("--").program(server.program()).start();
    let target = match bind.strip_prefix("unix:") {
        Some(path) => Target::Unix(path.into()),
        None => Target::Tcp(master.address()),
    };
    let load = Plan::new(target).start();
    load.wait_for_answers(100);
    let upgrade = master.ctl(["upgrade"]);
    upgrade.assert_code(0);
    assert!(upgrade.stdout.contains("the check of generation 2 passed"), "{upgrade}");
    load.wait_for_answers(100);
    master.wait_up(3);
    let workers = master.process().children();
    let upgrade = master.ctl(["upgrade", "--check", &probe("http:/ --contains 'generation 2, worker'")]);
    upgrade.assert_code(1).assert_says("no worker was touched").assert_says("does not contain");
    let trials = trial_directory(&master);
    master.wait("the end of the trial worker", |master| {
        (master.process().children() == workers && !trials.exists()).then_some(())
    });
    load.wait_for_answers(100);
    let report = load.stop();
    report.assert_nothing_lost();
    assert_eq!(report.generations(), [1, 2].into(), "{report}");
}

fn on_tcp(server: &Server) {
    is_checked(server, |_| LOOPBACK.to_owned());
}

fn gunicorn_is_checked() {
    on_tcp(&real_servers::gunicorn("gunicorn", "gunicorn --preload --workers 1 wsgi_hello"));
}

fn puma_is_checked() {
    on_tcp(&real_servers::puma());
}

fn node_is_checked() {
    on_tcp(&real_servers::node());
}

fn go_is_checked() {
    on_tcp(&real_servers::go());
}

fn haproxy_is_checked_on_a_unix_socket() {
    is_checked(&real_servers::haproxy(), |directory| format!("unix:{}", directory.join("web").display()));
}

fn nginx_is_checked_at_the_address_that_is_in_its_configuration() {
    on_tcp(&real_servers::nginx());
}
