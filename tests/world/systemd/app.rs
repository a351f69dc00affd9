//! An application under einhyrningsins in a machine, as its administrator sees it.

use std::net::SocketAddr;

use tests::load::{Load, Plan};
use tests::process::Finished;
use tests::{Process, binaries, wait};

use crate::machine::Machine;
use crate::made;
use crate::roots::root;

/// The unit of one application of many.
const TEMPLATE: &str = "einhyrningsins@web.service";

/// The unit of an application whose sockets systemd binds.
const ON_SOCKET: &str = "einhyrningsins.service";

/// A machine with the Debian package, and an application `web`.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) machine: Machine,
    /// The unit that runs it.
    pub(crate) unit: &'static str,
    /// Where it listens.
    pub(crate) port: u16,
    releases: u32,
}

impl App {
    /// A machine with Debian 12, with an application that has these options, and not started.
    #[track_caller]
    pub(crate) fn new(options: &str) -> Self {
        Self::of("bookworm", options)
    }

    /// A machine with Debian's `suite`.
    #[track_caller]
    pub(crate) fn of(suite: &str, options: &str) -> Self {
        let machine = Machine::builder(root(suite)).boot();
        machine.place(&made::deb().einhyrningsins, "/root/einhyrningsins.deb");
        let installed = machine.run(["dpkg", "--install", "/root/einhyrningsins.deb"]);
        assert_eq!(installed.status.code(), Some(0), "{installed}");
        machine.place(&binaries::worker("serve"), "/usr/local/bin/serve");
        let mut app = Self { machine, unit: TEMPLATE, port: 8000, releases: 0 };
        app.set_options(options);
        app.release("");
        app
    }

    /// Of the unit with a socket unit instead of the template.
    #[track_caller]
    pub(crate) fn on_socket(options: &str) -> Self {
        let mut app = Self::new("");
        app.unit = ON_SOCKET;
        app.set_options(options);
        app
    }

    /// Its options from the next reload on, in one line.
    pub(crate) fn set_options(&self, options: &str) {
        let file = if self.unit == ON_SOCKET { "einhyrningsins" } else { "web" };
        let lines = options.replace(" -", "\n-");
        self.machine.write(&format!("/etc/einhyrningsins/{file}.conf"), &format!("{lines}\n"));
    }

    /// A drop-in for its unit, which systemd reads.
    #[track_caller]
    pub(crate) fn drop_in(&self, text: &str) {
        self.machine.write(&format!("/etc/systemd/system/{}.d/test.conf", self.unit), text);
        self.systemctl(["daemon-reload"]).assert_code(0);
    }

    /// Makes a new release, a worker `serve` with these knobs, the current one. No master knows of it yet.
    #[track_caller]
    pub(crate) fn release(&mut self, knobs: &str) {
        self.release_of(&format!("exec /usr/local/bin/serve {knobs}"));
    }

    /// Makes a new release, whose worker is this script of the shell, the current one.
    #[track_caller]
    pub(crate) fn release_of(&mut self, script: &str) {
        self.releases += 1;
        let number = self.releases;
        self.machine.write(&format!("/srv/web/releases/{number}/server"), &format!("#!/bin/sh\n{script}\n"));
        let deploy = format!(
            "cd /srv/web && chmod 755 releases/{number}/server && ln -sfn releases/{number} new && mv -T new current"
        );
        self.machine.shell(&deploy).assert_code(0);
    }

    #[track_caller]
    pub(crate) fn systemctl<const N: usize>(&self, words: [&str; N]) -> Finished {
        self.machine.run(["systemctl"].into_iter().chain(words))
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it does not come up.
    #[track_caller]
    pub(crate) fn start(&self) {
        let started = self.systemctl(["start", self.unit]);
        assert_eq!(started.status.code(), Some(0), "{started}\n{}", self.machine);
    }

    #[track_caller]
    pub(crate) fn reload(&self) -> Finished {
        self.systemctl(["reload", self.unit])
    }

    /// A property of its unit.
    #[track_caller]
    pub(crate) fn property(&self, name: &str) -> String {
        let shown = self.systemctl(["show", "--value", "--property", name, self.unit]);
        shown.assert_code(0);
        shown.stdout.trim().to_owned()
    }

    /// Waits until a property of its unit is as it should be.
    #[track_caller]
    pub(crate) fn wait_property(&mut self, name: &str, condition: impl Fn(&str) -> bool) -> String {
        let unit = self.unit;
        self.machine.wait(&format!("a change of {name}"), |machine| {
            let shown = machine.run(["systemctl", "show", "--value", "--property", name, unit]);
            let value = shown.stdout.trim();
            condition(value).then(|| value.to_owned())
        })
    }

    /// Its master.
    #[track_caller]
    pub(crate) fn master(&self) -> Process {
        self.machine.process(self.property("MainPID").parse().expect("a pid"))
    }

    /// Waits until another master than `last` is up.
    #[track_caller]
    pub(crate) fn wait_next_master(&mut self, last: Process) -> Process {
        wait::wait_for("the end of the master", || (!last.is_alive()).then_some(()));
        self.wait_property("SubState", |state| state == "running");
        self.master()
    }

    /// Runs the client.
    #[track_caller]
    pub(crate) fn ctl<const N: usize>(&self, words: [&str; N]) -> Finished {
        self.machine.run(["einhyrningsinsctl", "-d", self.socket()].into_iter().chain(words))
    }

    /// Its control socket.
    pub(crate) fn socket(&self) -> &'static str {
        if self.unit == ON_SOCKET {
            "/run/einhyrningsins/einhorn.sock"
        } else {
            "/run/einhyrningsins/web/einhorn.sock"
        }
    }

    /// What the client says of the pool.
    #[track_caller]
    pub(crate) fn status(&self) -> String {
        let status = self.ctl(["status"]);
        status.assert_code(0);
        status.stdout
    }

    /// Its workers, those that drain too, lowest pid first.
    #[track_caller]
    pub(crate) fn workers(&self) -> Vec<Process> {
        self.master().children()
    }

    /// Requests to it, from inside.
    pub(crate) fn plan(&self) -> Plan {
        Plan::new(SocketAddr::from(([127, 0, 0, 1], self.port)))
    }

    /// Starts a load in the machine's network.
    pub(crate) fn load(&self, plan: Plan) -> Load {
        self.machine.in_network(|| plan.start())
    }

    /// Waits until its unit's part of the journal has `text`.
    #[track_caller]
    pub(crate) fn wait_journal(&mut self, text: &str) {
        let unit = self.unit;
        self.machine.wait(&format!("{text:?} in the journal"), |machine| {
            let read = machine.run(["journalctl", "--no-pager", "--output=cat", "-u", unit]);
            read.stdout.contains(text).then_some(())
        });
    }

    /// What the journal has of its unit, of all that it was sent until now.
    #[track_caller]
    pub(crate) fn journal<const N: usize>(&self, words: [&str; N]) -> String {
        self.machine.run(["journalctl", "--sync"]).assert_code(0);
        let read = self.machine.run(["journalctl", "--no-pager", "-u", self.unit].into_iter().chain(words));
        read.assert_code(0);
        read.stdout
    }
}
