//! The workers of einhyrningsins/doc/workers.md, as they stand there: upgrades under load lose nothing of theirs, by either stop signal.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::install::go_build;
use tests::load::Plan;
use tests::wait::patience;
use tests::{Master, binaries};

use crate::documentation::{block, read};

tests::trials! {
    the_one_in_rust_is_an_example_of_the_library_and_loses_nothing,
    the_one_in_rust_serves_others_while_a_client_is_silent_and_hangs_up_on_it_in_the_end,
    the_one_in_python_loses_nothing needs "python3",
    the_one_in_node_loses_nothing needs "node",
    the_one_in_go_loses_nothing needs "go",
    the_one_in_ruby_loses_nothing needs "ruby",
}

fn snippet(language: &str) -> String {
    block(&read("einhyrningsins/doc/workers.md"), &format!("## {language}"), "```", "```").join("\n") + "\n"
}

/// Runs the worker with `program` in front, as a file that ends in `.EXTENSION`.
fn loses_nothing_as_script(language: &str, program: &str, extension: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("worker").with_extension(extension);
    fs::write(&file, snippet(language)).expect("a file");
    loses_nothing(&[program.into(), file]);
}

/// How often each set of workers is replaced.
const UPGRADES: usize = 3;

/// Upgrades of three workers under load, and then the end of the master, with each stop signal. The load is light: most of
/// these programs take a processor each to start.
fn loses_nothing(program: &[PathBuf]) {
    for signal in ["USR2", "TERM"] {
        let builder = Master::builder().workers(3).options(["--stop-signal", signal, "--"]);
        let mut master = builder.program(program).start();
        let load = Plan { fresh: 4, keep_alive: 4, ..Plan::new(master.address()) }.start();
        for _ in 0..UPGRADES {
            load.wait_for_answers(100);
            master.upgrade();
        }
        load.wait_for_answers(100);
        load.stop().assert_nothing_lost();
        master.wait_up(3);
        master.signal(Signal::SIGINT);
        master.wait_exit_code(0);
        let log = master.log();
        let drained = log.matches("it exited with status 0").count();
        assert_eq!(drained, 3 * (UPGRADES + 1), "not every worker drained\n{master}");
    }
}

fn the_one_in_rust_is_an_example_of_the_library_and_loses_nothing() {
    let (example, snippet) = (read("einhorn-child/examples/worker.rs"), snippet("Rust"));
    assert!(example.ends_with(&snippet), "examples/worker.rs is not that of the page\n{example}\n{snippet}");
    loses_nothing(&[binaries::example("worker")]);
}

/// The worker gives a client ten seconds.
fn the_one_in_rust_serves_others_while_a_client_is_silent_and_hangs_up_on_it_in_the_end() {
    let mut master = Master::builder().program([binaries::example("worker")]).start();
    let begun = Instant::now();
    let mut silent = TcpStream::connect(master.address()).expect("a connection");
    silent.set_read_timeout(Some(patience())).expect("a timeout");
    master.assert_well(1);
    master.signal(Signal::SIGINT);
    // A read with a timeout may be interrupted; reading to the end goes on then.
    let mut answer = Vec::new();
    silent.read_to_end(&mut answer).expect("the end of the connection");
    assert_eq!(answer, b"", "{master}");
    assert!(begun.elapsed() >= Duration::from_secs(9), "after {:?}\n{master}", begun.elapsed());
    master.wait_exit_code(0);
}

fn the_one_in_python_loses_nothing() {
    loses_nothing_as_script("Python", "python3", "py");
}

fn the_one_in_node_loses_nothing() {
    loses_nothing_as_script("Node", "node", "js");
}

fn the_one_in_go_loses_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("readme_worker.go");
    fs::write(&source, snippet("Go")).expect("a file");
    loses_nothing(&[go_build(&source)]);
}

fn the_one_in_ruby_loses_nothing() {
    loses_nothing_as_script("Ruby", "ruby", "rb");
}
