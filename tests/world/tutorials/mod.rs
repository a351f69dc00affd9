//! The README and the tutorials: each block of code in them does what its mark says, as `tests/src/pages.rs` describes.

mod here;
mod root;
mod session;

use std::collections::BTreeMap;

use tests::pages::{self, Mark, Place};

pub(crate) use self::root::root;
use self::session::Session;
use crate::machine::Machine;
use crate::{containers, made};

tests::trials! {
    the_readme_does_what_it_says needs "overlay",
    the_one_on_gunicorn_does_what_it_says needs "machine" "cargo-deb" "dpkg-dev" "Debian 12" "python3" "pm2",
    the_one_on_rails_does_what_it_says needs "machine" "cargo-deb" "dpkg-dev" "Debian 12" "python3" "pm2",
    the_one_on_node_in_kubernetes_does_what_it_says
        needs "podman" "machine" "musl target" "kubernetes-validate" "python3" "pm2",
    the_one_on_einhorn_does_what_it_says needs "machine" "cargo-deb" "dpkg-dev" "Debian 12" "python3" "pm2",
    the_one_on_pm2_does_what_it_says needs "machine" "cargo-deb" "dpkg-dev" "Debian 12" "python3" "pm2",
}

/// Where the blocks of a page run.
#[derive(Debug, Default)]
struct Places {
    // Before the machine, which a session in it would outlive.
    sessions: BTreeMap<Place, Session>,
    machine: Option<Machine>,
}

impl Places {
    /// The shell in `place`, which is made for the first block that runs there.
    #[track_caller]
    fn session(&mut self, place: Place) -> &mut Session {
        if !self.sessions.contains_key(&place) {
            let shell = match place {
                Place::Here => here::shell(),
                Place::Machine => {
                    let machine = self.machine.insert(with_packages());
                    machine.command(["sh", "-c", "cd && exec bash --noprofile --norc"])
                }
                Place::Podman => containers::page_shell(root()),
            };
            self.sessions.insert(place, Session::start(shell));
        }
        self.sessions.get_mut(&place).expect("it was just made")
    }
}

/// A machine with the packages of einhyrningsins in root's home, where somebody has downloaded them.
#[track_caller]
fn with_packages() -> Machine {
    let debs = made::deb();
    let machine = Machine::builder(root()).option("--hostname=vm").boot();
    for package in [&debs.einhyrningsins, &debs.einhorn] {
        let name = package.file_name().expect("a file").to_string_lossy();
        machine.place(package, &format!("/root/{name}"));
    }
    machine
}

/// Does what the blocks of `page` say, in their order.
#[track_caller]
fn follow(page: &str) {
    let mut places = Places::default();
    for block in pages::blocks(page) {
        eprintln!("{}", block.at);
        match block.mark.as_ref().unwrap_or_else(|fault| panic!("{}: {fault}", block.at)) {
            Mark::Run(place, how) => places.session(*place).run(&block, how),
            Mark::File(place, path) => places.session(*place).write(path, &block.text),
            Mark::Kubernetes => containers::validate_block(page, &block),
            Mark::Tested(_) | Mark::Shown(_) => {}
        }
    }
}

fn the_readme_does_what_it_says() {
    follow("README.md");
}

fn the_one_on_gunicorn_does_what_it_says() {
    follow("einhyrningsins/doc/tutorials/gunicorn.md");
}

fn the_one_on_rails_does_what_it_says() {
    follow("einhyrningsins/doc/tutorials/rails.md");
}

fn the_one_on_node_in_kubernetes_does_what_it_says() {
    follow("einhyrningsins/doc/tutorials/node-kubernetes.md");
}

fn the_one_on_einhorn_does_what_it_says() {
    follow("einhyrningsins/doc/tutorials/einhorn.md");
}

fn the_one_on_pm2_does_what_it_says() {
    follow("einhyrningsins/doc/tutorials/pm2.md");
}
