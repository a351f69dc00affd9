//! The master as PID 1, as in a container: it reaps whatever is left to it, hears signals although it is the init of its
//! namespace, and exits with the code that it should. And the files for containers, as far as that can be tried without
//! one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use einhorn_proto::{MasterState, Status};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;
use tempfile::TempDir;
use tests::process::{Captured, run, run_with_input};
use tests::wait::wait_for;
use tests::{Control, Process, binaries};

tests::trials! {
    a_thousand_orphans_are_reaped_while_the_pool_serves needs "pid namespace" "python3",
    signals_reach_it_from_outside_and_stop_it_with_their_codes needs "pid namespace",
    signals_reach_it_from_inside needs "pid namespace" "systemd",
    other_signals_do_what_they_do_elsewhere needs "pid namespace",
    exit_codes_say_what_was_wrong needs "pid namespace",
    an_orphan_that_stays_does_not_hold_the_end_up needs "pid namespace",
    the_dockerfile_copies_what_there_is_and_runs_as_nobody_special,
    the_image_and_the_manifest_run_probe_and_stop_the_master_as_pid_one needs "pid namespace" "ruby",
    the_manifest_gives_the_workers_their_time_and_no_privilege needs "ruby",
}

/// A master that is PID 1 of a pid namespace of its own. Pids in its answers are those of that namespace. It all ends
/// when this is dropped.
struct Container {
    directory: TempDir,
    unshare: Child,
    log: Captured,
}

impl Container {
    /// Runs the master with these options and this program.
    #[track_caller]
    fn run<S: Into<String>>(directory: TempDir, words: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new("unshare");
        if !geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--"]);
        command.arg(binaries::einhyrningsins()).args(words.into_iter().map(Into::into));
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "FDSTORE"] {
            command.env_remove(name);
        }
        let log = Captured::new();
        command.stdin(Stdio::null()).stdout(log.writer()).stderr(log.writer());
        let unshare = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        Self { directory, unshare, log }
    }

    /// Runs `program` as COUNT workers, and waits until they are up.
    #[track_caller]
    fn serving<S: AsRef<str>>(count: u32, options: &[&str], program: &[S]) -> Self {
        let container = Self::starting(count, options, program);
        container.wait_up(count);
        container
    }

    #[track_caller]
    fn starting<S: AsRef<str>>(count: u32, options: &[&str], program: &[S]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("einhorn.sock").display().to_string();
        let count = count.to_string();
        let words = ["-d", &socket, "-n", &count, "-m", "-b", "127.0.0.1:0"].into_iter();
        let words = words.chain(options.iter().copied()).chain(["--"]);
        let words: Vec<_> = words.chain(program.iter().map(AsRef::as_ref)).map(str::to_owned).collect();
        Self::run(directory, words)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("einhorn.sock")
    }

    /// The master.
    #[track_caller]
    fn init(&self) -> Process {
        let unshare = Process::of(self.unshare.id().cast_signed());
        let children = unshare.map(|process| process.children()).unwrap_or_default();
        *children.first().unwrap_or_else(|| panic!("there is no master\n{}", self.log.text()))
    }

    #[track_caller]
    fn status(&self) -> Status {
        Control::connect(&self.socket()).status()
    }

    #[track_caller]
    fn wait_status(&self, what: &str, is_good: impl Fn(&Status) -> bool) -> Status {
        wait_for(what, || {
            let status = Control::try_connect(&self.socket()).ok()?.status();
            is_good(&status).then_some(status)
        })
    }

    #[track_caller]
    fn wait_up(&self, count: u32) -> Status {
        self.wait_status("workers that are up", |status| {
            let master = &status.master;
            (master.wanted, master.up, master.starting, master.draining, master.state)
                == (count, count, 0, 0, MasterState::Running)
        })
    }

    #[track_caller]
    fn wait_exit(&mut self) -> ExitStatus {
        wait_for("the end of PID 1", || self.unshare.try_wait().ok().flatten())
    }

    #[track_caller]
    fn wait_exit_code(&mut self, code: i32) {
        let status = self.wait_exit();
        assert_eq!(status.code(), Some(code), "{status}\n{}", self.log.text());
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log.text());
        }
        // The kernel kills the rest of the namespace when its init is gone, and that goes with its parent.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

fn serve() -> String {
    binaries::worker("serve").display().to_string()
}

fn a_thousand_orphans_are_reaped_while_the_pool_serves() {
    let told = tempfile::NamedTempFile::new().expect("a file");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/servers/orphans.py");
    let told_path = told.path().display().to_string();
    let container = Container::serving(2, &[], &["python3", script, "500", &told_path]);
    let init = container.init();
    wait_for("the last words of a thousand orphans", || {
        let length = told.path().metadata().map_or(0, |file| file.len());
        (length == 1000).then_some(())
    });
    wait_for("none of them to be left", || (init.zombies() == 0 && init.children().len() == 2).then_some(()));
    let status = container.status();
    assert_eq!((status.master.pid, status.master.up), (1, 2));
    assert!(
        status.slots.iter().all(|slot| slot.restarts == 0),
        "a stranger's death was taken for a worker's"
    );
}

fn signals_reach_it_from_outside_and_stop_it_with_their_codes() {
    for (signal, code) in
        [(Signal::SIGTERM, 0), (Signal::SIGINT, 0), (Signal::SIGUSR2, 0), (Signal::SIGQUIT, 1)]
    {
        let mut container = Container::serving(2, &[], &[serve()]);
        container.init().signal(signal);
        container.wait_exit_code(code);
        assert!(!container.socket().exists() || code != 0, "{signal} left the control socket behind");
    }
}

fn signals_reach_it_from_inside() {
    // What the kernel keeps from an init is signals that it does nothing about.
    let script = "trap 'exit 0' TERM USR2; trap 'kill -TERM 1' USR1; systemd-notify --ready; \
                  while :; do sleep 1000 & wait $!; kill $!; done";
    let mut container = Container::serving(1, &[], &["/bin/sh", "-c", script]);
    container.init().signal(Signal::SIGUSR1);
    container.wait_exit_code(0);
    assert!(container.log.text().contains("SIGTERM from process"), "{}", container.log.text());
}

fn other_signals_do_what_they_do_elsewhere() {
    let container = Container::serving(1, &[], &[serve()]);
    let init = container.init();
    for signal in [Signal::SIGWINCH, Signal::SIGPIPE, Signal::SIGALRM, Signal::SIGCONT, Signal::SIGCHLD] {
        init.signal(signal);
    }
    init.signal(Signal::SIGTTIN);
    container.wait_up(2);
    init.signal(Signal::SIGHUP);
    let upgraded = container.wait_status("the upgrade", |status| {
        (status.master.generation, status.master.up, status.master.draining, status.master.state)
            == (2, 2, 0, MasterState::Running)
    });
    assert_eq!(upgraded.master.pid, 1);
    // It replaces itself and is PID 1 still.
    let reply = Control::connect(&container.socket()).ask("reload", &[]);
    assert_eq!(reply.ok, Some(true), "{}", reply.message);
    container.wait_up(2);
    assert_eq!(container.init(), init);
}

fn exit_codes_say_what_was_wrong() {
    let mut no_worker = Container::starting(2, &["-r", "1"], &[&serve(), "exit_before_ack=3"]);
    no_worker.wait_exit_code(1);
    let mut no_program = Container::starting(1, &[], &["/nowhere/server"]);
    no_program.wait_exit_code(1);
    let mut usage = Container::starting(1, &["--frob"], &[serve()]);
    usage.wait_exit_code(2);
}

fn an_orphan_that_stays_does_not_hold_the_end_up() {
    let script = "(sleep 1000 &); exec \"$0\"";
    let mut container = Container::serving(1, &[], &["/bin/sh", "-c", script, &serve()]);
    let init = container.init();
    wait_for("an orphan", || (init.children().len() == 2).then_some(()));
    init.signal(Signal::SIGTERM);
    container.wait_exit_code(0);
}

/// A file for containers.
fn contrib(name: &str) -> String {
    let path = repository().join("einhyrningsins/contrib/container").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The instructions of the Dockerfile, with what follows each, in order.
fn instructions() -> Vec<(String, String)> {
    let text = contrib("Dockerfile").replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let instructions = lines.map(|line| {
        let (name, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no instruction: {line}"));
        (name.to_owned(), rest.trim().to_owned())
    });
    instructions.collect()
}

/// What the last instruction of this name has, which must be there.
fn last<'a>(instructions: &'a [(String, String)], name: &str) -> &'a str {
    let found = instructions.iter().rev().find(|(other, _)| other == name);
    &found.unwrap_or_else(|| panic!("the Dockerfile has no {name}")).1
}

/// A command in the form that needs no shell.
fn words(text: &str) -> Vec<String> {
    let list = text.find('[').map_or(text, |at| &text[at..]);
    serde_json::from_str(list).unwrap_or_else(|error| panic!("{text} is no list of words: {error}"))
}

/// There is no container engine here. So: what it copies is there, what it builds is what it takes from the build, and
/// what it runs is run by the tests below.
fn the_dockerfile_copies_what_there_is_and_runs_as_nobody_special() {
    let instructions = instructions();
    let known = BTreeMap::from([
        ("FROM", 2),
        ("USER", 1),
        ("STOPSIGNAL", 1),
        ("ENTRYPOINT", 1),
        ("CMD", 1),
        ("HEALTHCHECK", 1),
    ]);
    for (name, count) in known {
        assert_eq!(instructions.iter().filter(|(other, _)| other == name).count(), count, "{name}");
    }
    let build = instructions.iter().find(|(_, rest)| rest.starts_with("cargo build")).expect("the build");
    for (_, copy) in instructions.iter().filter(|(name, _)| name == "COPY") {
        let mut paths: Vec<_> = copy.split_whitespace().collect();
        paths.pop();
        let from_build = paths[0].starts_with("--from=build");
        for path in paths.iter().filter(|path| !path.starts_with("--")) {
            if from_build {
                let name = path.rsplit('/').next().expect("a name");
                assert!(path.starts_with("/src/target/release/"), "{path}");
                assert!(build.1.split(' ').any(|word| word == name), "{name} is not built by {}", build.1);
            } else {
                assert!(repository().join(path).exists(), "there is no {path} to copy");
            }
        }
    }
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).expect("the manifest");
    let copied: Vec<_> = instructions.iter().filter(|(name, _)| name == "COPY").collect();
    let members = manifest.lines().find(|line| line.starts_with("members")).expect("members");
    for member in members.split('"').skip(1).step_by(2) {
        let top = member.split('/').next().expect("a folder");
        assert!(copied.iter().any(|(_, copy)| copy.starts_with(&format!("{top} "))), "{member} is needed");
    }
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("a version");
    assert!(
        instructions[0].1.contains(&format!("rust:{}-", version.trim_matches('"'))),
        "{:?}",
        instructions[0]
    );
    let user = last(&instructions, "USER").split(':').next().and_then(|user| user.parse::<u32>().ok());
    assert!(user.is_some_and(|user| user > 0), "a number, so that runAsNonRoot can tell, and not root's");
    assert_eq!(last(&instructions, "STOPSIGNAL"), "SIGUSR2");
}

/// The manifest's documents.
fn manifest() -> Vec<Value> {
    let mut command = Command::new("ruby");
    command.args(["-ryaml", "-rjson", "-e", "puts JSON.generate(YAML.load_stream(STDIN.read))"]);
    let read = run_with_input(command, &contrib("kubernetes.yaml"));
    read.assert_code(0);
    serde_json::from_str(&read.stdout).expect("JSON")
}

/// A list of words in the manifest.
fn command_of(value: &Value) -> Vec<String> {
    serde_json::from_value(value["exec"]["command"].clone()).unwrap_or_else(|_| panic!("no command: {value}"))
}

/// With the program, the place of its socket and its port as they are here.
fn here(words: &[String], socket: &Path) -> Vec<String> {
    let socket = socket.display().to_string();
    let words = words.iter().map(|word| {
        let word = word.replace("/run/einhyrningsins/einhorn.sock", &socket).replace("sleep 5; ", "");
        let ctl = binaries::einhyrningsinsctl().display().to_string();
        match word.as_str() {
            ":8000" => "127.0.0.1:0".to_owned(),
            "./server" => serve(),
            _ => word.replace("einhyrningsinsctl", &ctl),
        }
    });
    words.collect()
}

fn the_image_and_the_manifest_run_probe_and_stop_the_master_as_pid_one() {
    let instructions = instructions();
    let documents = manifest();
    let pod = &documents[0]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    // The manifest's arguments take the place of the image's.
    assert_eq!(
        words(last(&instructions, "CMD")),
        serde_json::from_value::<Vec<String>>(container["args"].clone()).expect("arguments")
    );
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("einhorn.sock");
    let mut line = words(last(&instructions, "ENTRYPOINT"));
    assert_eq!(line.remove(0), "einhyrningsins");
    line.extend(words(last(&instructions, "CMD")));
    let mut running = Container::run(directory, here(&line, &socket));
    running.wait_up(4);
    let health = last(&instructions, "HEALTHCHECK");
    let probes =
        [words(health), command_of(&container["readinessProbe"]), command_of(&container["livenessProbe"])];
    let probe = |words: &[String]| {
        let words = here(words, &socket);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        run(command)
    };
    for words in &probes {
        probe(words).assert_code(0);
    }
    probe(&command_of(&container["lifecycle"]["preStop"])).assert_code(0);
    running.wait_exit_code(0);
    for words in &probes {
        probe(words).assert_code(3);
    }
}

fn the_manifest_gives_the_workers_their_time_and_no_privilege() {
    let documents = manifest();
    assert_eq!(
        documents.iter().map(|document| &document["kind"]).collect::<Vec<_>>(),
        ["Deployment", "Service"]
    );
    let pod = &documents[0]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let entrypoint = words(last(&instructions(), "ENTRYPOINT"));
    let grace =
        entrypoint.iter().skip_while(|word| *word != "-t").nth(1).and_then(|grace| grace.parse::<u64>().ok());
    let period = pod["terminationGracePeriodSeconds"].as_u64().expect("a grace period");
    assert!(period >= grace.expect("-t") + 5 + 5, "the sleep of preStop, the workers' grace, and some more");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    // The only directory that it writes to is one of its own.
    let mounts = container["volumeMounts"].as_array().expect("mounts");
    assert_eq!(mounts.iter().map(|mount| &mount["mountPath"]).collect::<Vec<_>>(), ["/run/einhyrningsins"]);
    for selector in [&documents[0]["spec"]["selector"]["matchLabels"], &documents[1]["spec"]["selector"]] {
        assert_eq!(*selector, documents[0]["spec"]["template"]["metadata"]["labels"]);
    }
    assert_eq!(documents[1]["spec"]["ports"][0]["targetPort"], container["ports"][0]["name"]);
    for time in ["periodSeconds", "timeoutSeconds", "failureThreshold"] {
        assert!(container["readinessProbe"][time].is_u64(), "{time}");
    }
}
