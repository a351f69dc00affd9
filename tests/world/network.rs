//! A network of machines: a bridge in a network namespace that goes with the test.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tests::process::{self, Captured};
use tests::{Process, wait};

/// The test's own address in the network; those of the machines begin alike.
pub(crate) const HERE: &str = "10.77.0.1";

/// Holds the namespace, until its standard input ends with this process.
const HOLDER: &str = "ip link set lo up && ip link add br0 type bridge && ip addr add $1/24 dev br0 && \
                      ip link set br0 up && echo there && read -r _";

/// A network. Drop it after its machines.
#[derive(Debug)]
pub(crate) struct Network {
    holder: Child,
}

impl Network {
    /// An empty one.
    ///
    /// # Panics
    /// If it cannot be made.
    #[track_caller]
    pub(crate) fn new() -> Self {
        let output = Captured::new();
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", HOLDER, "sh", HERE]).process_group(0);
        command.stdin(Stdio::piped()).stdout(output.writer()).stderr(output.writer());
        let network = Self { holder: command.spawn().expect("a holder of a network") };
        let made = wait::within(wait::patience(), || (output.text() == "there\n").then_some(()));
        assert!(made.is_some(), "no network\n{}", output.text());
        network
    }

    /// The bridge, which each machine joins.
    pub(crate) fn bridge(&self) -> &'static str {
        "br0"
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// Does something in the network, at [`HERE`]: what is started in it stays there.
    ///
    /// # Panics
    /// If it does.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        inside(&self.namespace(), act)
    }

    /// Runs a command in the network, of this machine, to its end.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> process::Finished {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace().display())).args(words);
        process::run(command)
    }
}

/// Does something in the network namespace `namespace`.
pub(crate) fn inside<T: Send>(namespace: &Path, act: impl FnOnce() -> T + Send) -> T {
    let file = File::open(namespace).unwrap_or_else(|error| panic!("{}: {error}", namespace.display()));
    let there = move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("to go there");
        act()
    };
    thread::scope(|scope| scope.spawn(there).join().expect("it ran to its end"))
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        if let Some(process) = Process::of(self.holder.id() as i32) {
            wait::within(wait::patience(), || (!process.is_alive()).then_some(()));
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
