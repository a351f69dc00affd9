//! The manifest: valid for three versions of Kubernetes, with times that fit, and played by podman.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tests::install;
use tests::process::{run, run_with_input};

use super::images::{Image, contrib};
use super::{Container, Engine};

tests::trials! {
    the_manifest_is_valid_for_three_versions needs "kubernetes-validate",
    a_misspelt_field_is_found needs "kubernetes-validate",
    the_grace_period_covers_pre_stop_and_the_workers needs "kubernetes-validate",
    the_pod_may_do_nothing_that_it_need_not needs "kubernetes-validate",
    the_pod_is_played_upgraded_and_stopped_under_load needs "root" "podman" "machine" "musl target" "kubernetes-validate",
}

/// Of what kubernetes-validate has: the oldest, one that is in wide use, and the newest.
pub(crate) const VERSIONS: [&str; 3] = ["1.25", "1.31", "1.37"];

/// Between the moment at which the master has killed the last worker and the one at which Kubernetes kills all.
const MARGIN: Duration = Duration::from_secs(5);

/// Validates a manifest of any number of documents, and gives what is wrong with it.
pub(crate) fn validate(manifest: &str, version: &str) -> Result<(), String> {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    fs::write(file.path(), manifest).expect("the manifest");
    let mut command = Command::new(install::python_program("kubernetes-validate"));
    command.args(["--strict", "--kubernetes-version", version]).arg(file.path());
    let found = run(command);
    if found.status.success() { Ok(()) } else { Err(found.to_string()) }
}

/// The documents of a manifest.
pub(crate) fn documents(manifest: &str) -> Vec<Value> {
    let python = install::python_program("kubernetes-validate").with_file_name("python");
    let mut command = Command::new(python);
    command
        .args(["-c", "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)"]);
    let read = run_with_input(command, manifest);
    read.assert_code(0);
    serde_json::from_str(&read.stdout).expect("JSON")
}

fn manifest() -> String {
    let path = contrib("kubernetes.yaml");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// The pod of the first Deployment.
pub(crate) fn pod(documents: &[Value]) -> &Value {
    let deployment = documents.iter().find(|document| document["kind"] == "Deployment");
    &deployment.expect("a Deployment")["spec"]["template"]["spec"]
}

/// A list of words.
fn words(value: &Value) -> Vec<&str> {
    let list = value.as_array().unwrap_or_else(|| panic!("not a list: {value}"));
    list.iter().map(|word| word.as_str().unwrap_or_else(|| panic!("not a word: {word}"))).collect()
}

/// The number after `option` in a command line.
fn seconds_after(words: &[&str], option: &str) -> Option<u64> {
    words.iter().skip_while(|word| **word != option).nth(1)?.parse().ok()
}

/// The words of the instruction `name` in a Dockerfile.
pub(crate) fn instruction(dockerfile: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(dockerfile).expect("the Dockerfile");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
    serde_json::from_str(line.trim()).expect("a list of words")
}

fn the_manifest_is_valid_for_three_versions() {
    for version in VERSIONS {
        validate(&manifest(), version).unwrap_or_else(|error| panic!("Kubernetes {version}: {error}"));
    }
}

fn a_misspelt_field_is_found() {
    let wrong = manifest().replace("terminationGracePeriodSeconds", "terminationGraceSeconds");
    for version in VERSIONS {
        let error = validate(&wrong, version).expect_err("a field that does not exist");
        assert!(error.contains("terminationGraceSeconds"), "{error}");
    }
}

/// The grace period of a pod, and what it must cover: the delay of preStop, the time that the master gives its workers,
/// and a margin.
pub(crate) fn grace_and_need(pod: &Value, entrypoint: &[&str]) -> (Duration, Duration) {
    let container = &pod["containers"][0];
    let pre_stop = words(&container["lifecycle"]["preStop"]["exec"]["command"]);
    assert!(pre_stop.starts_with(&["einhyrningsinsctl", "die"]), "{pre_stop:?}");
    let delay = seconds_after(&pre_stop, "--delay").expect("a delay");
    let kill = seconds_after(entrypoint, "-t").expect("-t: without it, the master never kills a worker");
    let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("a grace period");
    (Duration::from_secs(grace), Duration::from_secs(delay + kill) + MARGIN)
}

fn the_grace_period_covers_pre_stop_and_the_workers() {
    let documents = documents(&manifest());
    for dockerfile in ["Dockerfile", "Dockerfile.scratch"] {
        let entrypoint = instruction(&contrib(dockerfile), "ENTRYPOINT");
        let entrypoint: Vec<_> = entrypoint.iter().map(String::as_str).collect();
        let (grace, need) = grace_and_need(pod(&documents), &entrypoint);
        assert!(grace >= need, "{dockerfile}: {grace:?} are less than {need:?}");
        // The manifest's arguments take the place of the image's.
        assert_eq!(
            words(&pod(&documents)["containers"][0]["args"]),
            instruction(&contrib(dockerfile), "CMD")
        );
    }
}

fn the_pod_may_do_nothing_that_it_need_not() {
    let documents = documents(&manifest());
    let (pod, container) = (pod(&documents), &pod(&documents)["containers"][0]);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let context = &container["securityContext"];
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    // The only directory that it writes to is that of its socket, which is in memory.
    assert_eq!(container["volumeMounts"], json!([{"name": "run", "mountPath": "/run/einhyrningsins"}]));
    assert_eq!(pod["volumes"], json!([{"name": "run", "emptyDir": {"medium": "Memory"}}]));
    // A boot that is slow is not killed, and one that is quick is seen at once.
    let (startup, readiness) = (&container["startupProbe"], &container["readinessProbe"]);
    assert_eq!(startup["exec"], readiness["exec"]);
    assert_eq!(startup["periodSeconds"], 1);
    // A service finds the pods.
    let (deployment, service) = (&documents[0]["spec"], &documents[1]["spec"]);
    assert_eq!(deployment["selector"]["matchLabels"], deployment["template"]["metadata"]["labels"]);
    assert_eq!(service["selector"], deployment["template"]["metadata"]["labels"]);
    assert_eq!(service["ports"][0]["targetPort"], container["ports"][0]["name"]);
}

/// Pods and their volumes, as `podman kube play` made them from a manifest; removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Played {
    engine: Arc<Engine>,
    /// Volumes have the names of the manifest, so there is one pod at a time.
    _alone: MutexGuard<'static, ()>,
    file: tempfile::NamedTempFile,
    volumes: Vec<String>,
}

impl Played {
    /// Plays a manifest, without two things that podman 4.3 cannot do here: several replicas, and the ports of containers,
    /// which it would map to ports of this machine.
    #[track_caller]
    pub(crate) fn play(documents: &[Value]) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let engine = Engine::get();
        let mut stripped = Vec::new();
        let mut documents = documents.to_vec();
        for deployment in documents.iter_mut().filter(|document| document["kind"] == "Deployment") {
            let spec = &mut deployment["spec"];
            stripped.push(format!("replicas: {}", spec["replicas"]));
            spec["replicas"] = 1.into();
            let containers = spec["template"]["spec"]["containers"].as_array_mut().expect("containers");
            for container in containers {
                let ports = container.as_object_mut().and_then(|container| container.remove("ports"));
                stripped.push(format!("ports: {}", ports.unwrap_or_default()));
            }
        }
        println!("not played by podman: {}", stripped.join("; "));
        let names = |kind: &str, name: fn(&Value) -> &Value| {
            let ours = documents.iter().filter(|document| document["kind"] == kind);
            ours.map(|document| name(document).as_str().expect("a name").to_owned()).collect::<Vec<_>>()
        };
        let mut volumes = names("ConfigMap", |map| &map["metadata"]["name"]);
        let named = pod(&documents)["volumes"].as_array().cloned().unwrap_or_default();
        volumes.extend(named.iter().filter_map(|volume| volume["name"].as_str()).map(str::to_owned));
        let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
        // JSON is YAML.
        let text: Vec<_> = documents.iter().map(|document| format!("---\n{document:#}\n")).collect();
        fs::write(file.path(), text.concat()).expect("the manifest");
        let played = Self { engine, _alone: alone, file, volumes };
        played.kube(&["play", "--network", "none"]).assert_code(0);
        played
    }

    fn kube(&self, words: &[&str]) -> tests::Finished {
        let path = self.file.path().display().to_string();
        self.engine.podman(["kube"].into_iter().chain(words.iter().copied()).chain([path.as_str()]))
    }

    /// Changes a file of a volume.
    #[track_caller]
    pub(crate) fn write_volume(&self, volume: &str, file: &str, text: &str) {
        let find = self.engine.podman(["volume", "inspect", "--format", "{{.Mountpoint}}", volume]);
        find.assert_code(0);
        let path = format!("{}/{file}", find.stdout.trim());
        // Renamed into its place, as the kubelet does it in its way.
        let script = "cat >\"$1.new\" && chmod 644 \"$1.new\" && mv \"$1.new\" \"$1\"";
        let write = self.engine.command(["sh", "-c", script, "sh", &path]);
        run_with_input(write, text).assert_code(0);
    }

    /// The container of the pod of a Deployment.
    pub(crate) fn container(&self, deployment: &str, container: &str) -> Container {
        Container::of(Arc::clone(&self.engine), &format!("{deployment}-pod-0-{container}"))
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        let path = self.file.path().display().to_string();
        let _ = self.engine.command(["podman", "kube", "down", &path]).output();
        for volume in &self.volumes {
            let _ = self.engine.command(["podman", "volume", "rm", "--force", volume]).output();
        }
    }
}

fn the_pod_is_played_upgraded_and_stopped_under_load() {
    let documents = documents(&manifest());
    let wanted = &pod(&documents)["containers"][0];
    let engine = Engine::get();
    let image = wanted["image"].as_str().expect("an image");
    engine.podman(["tag", Image::Slim.name(), image]).assert_code(0);
    let played = Played::play(&documents);
    let web = played.container("web", "web");
    web.wait_ready();
    let probe = |name: &str| web.exec(&words(&wanted[name]["exec"]["command"]));
    for name in ["startupProbe", "readinessProbe", "livenessProbe"] {
        probe(name).assert_code(0);
    }
    // podman makes a health check of the liveness probe.
    web.podman(&["healthcheck", "run"]).assert_code(0);
    let user = web.init().status("Uid").expect("its user");
    assert!(user.split_whitespace().all(|id| id == "10001"), "it runs as {user}");
    assert_eq!(web.init().status("CapBnd").as_deref(), Some("0000000000000000"));

    let load = web.load();
    load.wait_for_answers(300);
    web.ctl(&["upgrade"]).assert_code(0);
    probe("readinessProbe").assert_code(0);
    load.wait_for_answers(300);
    let die = words(&wanted["lifecycle"]["preStop"]["exec"]["command"]);
    let pre_stop = web.command(&die);
    let init = web.init();
    thread::scope(|scope| {
        let stop = scope.spawn(|| run(pre_stop));
        web.wait_runs(&die);
        // Kubernetes takes the pod out of the Service meanwhile, which podman does not have.
        load.wait_for_answers(1000);
        let report = load.stop();
        report.assert_nothing_lost();
        println!("an upgrade inside the pod and preStop: 0 of {} requests lost", report.requests);
        assert!(init.is_alive(), "preStop did not wait");
        stop.join().expect("preStop");
    });
    init.wait_gone();
    let logs = web.logs();
    assert!(logs.contains("exiting: the last worker has gone"), "{logs}");
}
