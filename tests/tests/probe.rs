//! `einhyrningsinsctl probe` against real workers: every address is written as `-b` writes it.

use std::process::Command;

use tests::process::run;
use tests::{Finished, Master, binaries};

tests::trials! {
    workers_are_asked_at_every_address_that_a_status_shows,
    workers_are_asked_at_the_addresses_of_a_check,
    a_worker_that_answers_late_fails_and_is_not_asked_again,
    a_probe_needs_no_master,
}

/// Runs `probe`, in a process that knows of no master.
fn probe(arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
    let mut command = Command::new(binaries::einhyrningsinsctl());
    command.arg("probe").args(arguments).envs(variables.iter().copied());
    command.env("EINHYRNINGSINS_SOCKET", "/nowhere/at/all");
    run(command)
}

fn workers_are_asked_at_every_address_that_a_status_shows() {
    let builder = Master::builder();
    let path = builder.file("a\\,b.sock").display().to_string();
    let name = builder.file("name").display().to_string();
    let binds = ["[::1]:0".to_owned(), format!("unix:{path}"), format!("unix:@{name}")];
    let builder = binds.iter().fold(builder, |builder, bind| builder.options(["-b", bind]));
    let mut master = builder.workers(2).start();
    let listeners = master.status().listeners;
    assert_eq!(listeners.len(), 4, "{listeners:?}");
    for (number, listener) in listeners.iter().enumerate() {
        let answered = format!("\"listener\":{number}");
        let arguments = ["http:/", "--addr", &listener.address, "--contains", &answered, "--times", "3"];
        probe(&arguments, &[]).assert_code(0);
    }
    // As it was typed, with an escaped comma.
    for bind in &binds[1..] {
        probe(&["http:/", "--addr", bind], &[]).assert_code(0);
    }
    assert_eq!(master.workers_up().len(), 2);
}

fn workers_are_asked_at_the_addresses_of_a_check() {
    let mut master = Master::builder().options(["-b", "127.0.0.1:0"]).start();
    let addresses = master.addresses().iter().map(ToString::to_string).collect::<Vec<_>>();
    let variables = [("EINHORN_CHECK_ADDR_0", &*addresses[0]), ("EINHORN_CHECK_ADDR_1", &*addresses[1])];
    probe(&["http:/", "--contains", "\"listener\":0"], &variables).assert_code(0);
    probe(&["http:/", "--contains", "\"listener\":1", "--addr", "1"], &variables).assert_code(0);
    let other = probe(&["http:/", "--contains", "\"listener\":0", "--addr", "1"], &variables);
    other.assert_code(1).assert_says("does not contain");
    probe(&["http:/", "--addr", "2"], &variables)
        .assert_code(2)
        .assert_says("EINHORN_CHECK_ADDR_2 is not set");
    master.assert_well(1);
}

fn a_worker_that_answers_late_fails_and_is_not_asked_again() {
    let mut master = Master::builder().serve(["request_ms=3000"]).start();
    let address = master.address().to_string();
    let failed = probe(&["http:/", "--addr", &address, "--timeout", "0.5", "--times", "2"], &[]);
    failed.assert_code(1).assert_says("request 1 of 2: no answer within 0.5s");
    let failed = probe(&["http:/hold/3000", "--addr", &address, "--timeout", "0.5"], &[]);
    failed.assert_code(1).assert_says("status 200 OK, but no complete body (0 bytes came) within 0.5s");
    probe(&["http:/", "--addr", &address], &[]).assert_code(0);
    master.assert_well(1);
}

fn a_probe_needs_no_master() {
    let mut master = Master::builder().start();
    let address = master.address().to_string();
    probe(&["http:/", "--addr", &address], &[]).assert_code(0);
    master.ctl(["die"]).assert_code(0);
    master.wait_exit_code(0);
    probe(&["http:/", "--addr", &address], &[])
        .assert_code(1)
        .assert_says("cannot connect: Connection refused");
}
