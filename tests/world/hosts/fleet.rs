//! Four hosts that serve one application, and the playbooks that deploy it.
//!
//! They boot once, for all tests here, which take turns. A test begins with hosts that all serve the same release, and
//! leaves them so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tests::load::{Load, Plan};
use tests::process::{Finished, run, run_within};
use tests::{binaries, install, pages};

use crate::machine::Machine;
use crate::made;
use crate::network::Network;
use crate::roots::root;

/// The hosts, by the names that Ansible and they themselves have for them.
pub(crate) const HOSTS: [&str; 4] = ["web1", "web2", "web3", "web4"];

/// How long a run of Ansible may take, on a slow day.
const RUN_MAX: Duration = Duration::from_secs(300);

/// The application that all hosts serve.
const NAME: &str = "web";

/// The options with which it is served. A release has one try, so that a failure takes no second one.
const OPTIONS: [&str; 5] = ["-b 127.0.0.1:8000", "-n 2", "-m", "-r 1", "--capture-startup"];

/// The file of a release that the unit runs.
const PROGRAM: &str = "server";

/// The hosts, and what they are deployed with.
#[derive(Debug)]
pub(crate) struct Fleet {
    network: Network,
    machines: Vec<Machine>,
    files: PathBuf,
    releases: u32,
}

/// What serves on a host, and what a restart would start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// The release that workers come from.
    pub(crate) release: String,
    /// Where `current` leads.
    pub(crate) link: String,
    pub(crate) master: i64,
    pub(crate) generation: u64,
    /// The pids of the workers that are up.
    pub(crate) workers: BTreeSet<i64>,
    pub(crate) options: String,
}

/// A run of Ansible that has ended.
#[derive(Debug)]
pub(crate) struct Played(Finished);

/// The fleet. A test that runs at the same time waits for its turn.
pub(crate) fn fleet() -> MutexGuard<'static, Fleet> {
    static FLEET: OnceLock<Mutex<Fleet>> = OnceLock::new();
    FLEET.get_or_init(|| Mutex::new(Fleet::boot())).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// Boots the hosts, and deploys a first release to them, with the package.
    fn boot() -> Self {
        let files = made::directory().join("hosts");
        let _ = fs::remove_dir_all(&files);
        fs::create_dir_all(&files).expect("a directory for keys and releases");
        let package = made::deb().einhyrningsins.display().to_string();
        let (network, root) = (Network::new(), root("bookworm"));
        let builders = (11..)
            .zip(HOSTS)
            .map(|(number, host)| Machine::builder(&root).on(&network, &format!("10.77.0.{number}"), host));
        let machines = thread::scope(|scope| {
            let boots: Vec<_> = builders.map(|builder| scope.spawn(|| builder.boot())).collect();
            boots.into_iter().map(|boot| boot.join().expect("a machine")).collect()
        });
        let mut fleet = Self { network, machines, files, releases: 0 };
        fleet.write_inventory();
        let first = fleet.release(None);
        fleet.deploy(&first, &["-e", &format!("einhyrningsins_package={package}")]).assert_code(0);
        fleet.assert_all_serve(&first);
        fleet
    }

    /// Makes a key that the hosts let in, and tells Ansible where the hosts are and by which keys it knows them.
    fn write_inventory(&self) {
        let file = |name: &str| self.files.join(name).display().to_string();
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &file("key")]);
        run(keygen).assert_code(0);
        let user_key = fs::read_to_string(file("key.pub")).expect("a key");
        let (mut known, mut hosts, mut ssh_config) = (String::new(), BTreeMap::new(), String::new());
        for (number, (host, machine)) in (11..).zip(self.hosts()) {
            machine.write("/root/.ssh/authorized_keys", &user_key);
            let host_key = machine.run(["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout;
            known.push_str(&format!("10.77.0.{number} {host_key}"));
            hosts.insert(host, json!({ "ansible_host": format!("10.77.0.{number}") }));
            ssh_config.push_str(&format!("Host {host}\n  HostName 10.77.0.{number}\n"));
        }
        ssh_config.push_str(&format!(
            "Host *\n  User root\n  BatchMode yes\n  IdentityFile {}\n  UserKnownHostsFile {}\n",
            file("key"),
            file("known_hosts"),
        ));
        fs::write(file("known_hosts"), known).expect("a file");
        fs::write(file("ssh_config"), ssh_config).expect("a file");
        let arguments =
            format!("-F none -o StrictHostKeyChecking=yes -o UserKnownHostsFile={}", file("known_hosts"));
        let variables = json!({
            "ansible_user": "root",
            "ansible_ssh_private_key_file": file("key"),
            "ansible_ssh_common_args": arguments,
            "ansible_python_interpreter": "/usr/bin/python3",
            "einhyrningsins_name": NAME,
            "einhyrningsins_options": OPTIONS,
        });
        let inventory = json!({ "all": { "hosts": hosts, "vars": variables } });
        fs::write(file("inventory.json"), inventory.to_string()).expect("a file");
    }

    /// The hosts by their names.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = (&'static str, &Machine)> {
        HOSTS.into_iter().zip(&self.machines)
    }

    /// One of them.
    ///
    /// # Panics
    /// If there is none of this name.
    pub(crate) fn host(&self, name: &str) -> &Machine {
        self.hosts().find(|(host, _)| *host == name).expect("a host of this name").1
    }

    /// Makes the archive of a release, and gives its name. A release that serves as it should is called `./good`, and is
    /// the program itself without a `script`.
    pub(crate) fn release(&mut self, script: Option<&str>) -> String {
        self.releases += 1;
        let name = format!("r{}", self.releases);
        let directory = self.files.join(&name);
        fs::create_dir(&directory).expect("a directory for the release");
        let program = directory.join(if script.is_some() { "good" } else { PROGRAM });
        fs::copy(binaries::worker("serve"), program).expect("a server");
        if let Some(script) = script {
            let path = directory.join(PROGRAM);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
            fs::set_permissions(path, Permissions::from_mode(0o755)).expect("its mode");
        }
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&directory).arg("-czf").arg(self.archive(&name)).arg(".");
        run(tar).assert_code(0);
        fs::remove_dir_all(directory).expect("nothing left but the archive");
        name
    }

    fn archive(&self, release: &str) -> PathBuf {
        self.files.join(format!("{release}.tar.gz"))
    }

    /// Runs `deploy.yml` for a release, with further arguments.
    #[track_caller]
    pub(crate) fn deploy(&self, release: &str, arguments: &[&str]) -> Played {
        self.play(self.deployment(release, arguments))
    }

    /// The command line of that.
    pub(crate) fn deployment(&self, release: &str, arguments: &[&str]) -> Command {
        let archive = format!("einhyrningsins_archive={}", self.archive(release).display());
        let mut command = self.playbook("deploy.yml");
        command.args(["-e", &format!("einhyrningsins_release={release}"), "-e", &archive]).args(arguments);
        command
    }

    /// The command line that runs a playbook on the hosts, in their network. What Ansible writes and starts on this
    /// machine goes with it.
    pub(crate) fn playbook(&self, playbook: &str) -> Command {
        let directory = pages::repository().join("einhyrningsins/contrib/ansible");
        let mut command = self.in_network("mount -t tmpfs none /mnt");
        command.arg(install::python_program("ansible-playbook"));
        command.arg("-i").arg(self.files.join("inventory.json")).arg(directory.join(playbook));
        command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("LANG", "C.UTF-8");
        command.env("HOME", "/mnt").env("ANSIBLE_CONFIG", directory.join("ansible.cfg"));
        command
    }

    /// This client, where ssh knows the hosts.
    pub(crate) fn client(&self, words: &[&str]) -> Finished {
        let config = self.files.join("ssh_config");
        let mut command = self.in_network(&format!("mount --bind {} /etc/ssh/ssh_config", config.display()));
        command.arg(binaries::einhyrningsinsctl()).args(words);
        run(command)
    }

    /// A command that is to follow, in the network of the hosts and after `script`, which may mount something.
    fn in_network(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network.namespace().display()));
        command.args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["sh", "-ec", &format!("{script}; exec \"$@\""), "sh"]);
        command
    }

    /// Runs such a command line to its end.
    #[track_caller]
    pub(crate) fn play(&self, command: Command) -> Played {
        Played(run_within(RUN_MAX, command, ""))
    }

    /// What serves on each host.
    #[track_caller]
    pub(crate) fn states(&self) -> BTreeMap<&'static str, State> {
        self.hosts().map(|(host, machine)| (host, State::of(machine))).collect()
    }

    /// Asserts that this release serves on every host, and a restart would start it.
    #[track_caller]
    pub(crate) fn assert_all_serve(&self, release: &str) {
        for (host, state) in self.states() {
            state.assert_serves(host, release);
        }
    }

    /// Clients of each host, until they are told to stop.
    pub(crate) fn load(&self) -> Vec<Load> {
        let plan = Plan {
            fresh: 2,
            keep_alive: 2,
            pause: Duration::from_millis(10),
            duration_max: RUN_MAX * 2,
            ..Plan::new(std::net::SocketAddr::from(([127, 0, 0, 1], 8000)))
        };
        let start = |machine: &Machine| machine.in_network(|| plan.clone().start());
        let loads: Vec<_> = self.machines.iter().map(start).collect();
        loads.iter().for_each(|load| load.wait_for_answers(20));
        loads
    }
}

impl State {
    /// # Panics
    /// If no master answers there.
    #[track_caller]
    pub(crate) fn of(machine: &Machine) -> Self {
        let socket = format!("/run/einhyrningsins/{NAME}/einhorn.sock");
        let status = machine.run(["einhyrningsinsctl", "-d", &socket, "--json", "status"]);
        status.assert_code(0);
        let answer: Value = serde_json::from_str(status.stdout.trim()).expect("JSON");
        let generation = answer["master"]["generation"].as_u64().expect("a generation");
        let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
        let release = list("releases").into_iter().find(|release| release["generation"] == generation);
        let directory = release.expect("a release")["real_directory"].as_str().expect("a path").to_owned();
        let up = list("workers").into_iter().filter(|worker| worker["state"] == "up");
        Self {
            release: Path::new(&directory).file_name().expect("a name").to_string_lossy().into_owned(),
            link: machine.run(["readlink", &format!("/srv/{NAME}/current")]).stdout.trim().to_owned(),
            master: answer["master"]["pid"].as_i64().expect("a pid"),
            generation,
            workers: up.map(|worker| worker["pid"].as_i64().expect("a pid")).collect(),
            options: machine.run(["cat", &format!("/etc/einhyrningsins/{NAME}.conf")]).stdout,
        }
    }

    /// Asserts that this release serves, and a restart would start it.
    #[track_caller]
    pub(crate) fn assert_serves(&self, host: &str, release: &str) {
        let link = format!("releases/{release}");
        assert_eq!((self.release.as_str(), self.link.as_str()), (release, link.as_str()), "{host}: {self:?}");
        assert_eq!(self.workers.len(), 2, "{host}: {self:?}");
    }
}

impl Played {
    /// Asserts the exit code of Ansible.
    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        self.0.assert_code(code);
        self
    }

    /// Asserts that it printed this, in lines that may be broken elsewhere.
    #[track_caller]
    pub(crate) fn assert_says(&self, text: &str) -> &Self {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let Finished { stdout, stderr, .. } = &self.0;
        let said = words(stdout).contains(&words(text)) || words(stderr).contains(&words(text));
        assert!(said, "it does not say {text:?}\n{}", self.0);
        self
    }

    /// How many times it printed this.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.0.stdout.matches(text).count()
    }

    /// How many tasks changed something on this host; `None` if it is not in the summary.
    pub(crate) fn changes(&self, host: &str) -> Option<u32> {
        let summary = self.0.stdout.split_once("PLAY RECAP")?.1;
        let line = summary.lines().find(|line| line.starts_with(&format!("{host} ")))?;
        line.split_whitespace().find_map(|word| word.strip_prefix("changed="))?.parse().ok()
    }
}
