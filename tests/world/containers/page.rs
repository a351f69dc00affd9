//! The place of tutorials in which podman runs, and what can be said of blocks for a cluster that is not there.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tests::pages::{self, Block, Mark};
use tests::{binaries, process};

use super::engine::{DIRECTORY, Engine};
use super::images::{self, build, context, debian};
use super::kubernetes::{
    Played, VERSIONS, documents, grace_and_need, instruction, pod, validate as validate_manifest,
};
use crate::tutorials;

tests::trials! {
    what_kubectl_is_told_is_checked needs "kubernetes-validate",
    the_pod_of_the_tutorial_takes_new_settings_and_refuses_bad_ones
        needs "root" "podman" "machine" "musl target" "kubernetes-validate" "pm2",
}

/// The page about Node.
const PAGE: &str = "einhyrningsins/doc/tutorials/node-kubernetes.md";

/// A shell in an empty directory with the archive `$1` of the release.
const ENTER: &str = r#"
cd "$(mktemp -d)"
chmod 755 .
cp "$1" .
exec bash --noprofile --norc
"#;

/// Subcommands of kubectl that pages use, with their options that have a value.
const KUBECTL: [(&str, &[&str]); 7] = [
    ("apply", &["-f"]),
    ("rollout status", &["--timeout"]),
    ("rollout undo", &[]),
    ("set image", &[]),
    ("get", &["-l", "-o"]),
    ("exec", &[]),
    ("logs", &[]),
];

/// A shell for the blocks of a page. Containers that they run share its network, which has a loopback interface only, so
/// `-p` has nothing to do. Base images are there under the names that the pages use: Debian, and Node of the root
/// directory `node`.
#[track_caller]
pub(crate) fn shell(node: &Path) -> Command {
    debian();
    import_node(node);
    let archive = images::release().display().to_string();
    let mut command = Engine::get().page_command(["sh", "-ec", ENTER, "sh", &archive]);
    command.env("TMPDIR", DIRECTORY);
    command
}

/// Makes the base image of the page about Node: Debian with Debian's Node.
#[track_caller]
fn import_node(root: &Path) {
    static IMPORTED: OnceLock<()> = OnceLock::new();
    IMPORTED.get_or_init(|| images::import("docker.io/library/node:22-bookworm-slim", root));
}

/// Checks a block that is marked `validate: kubernetes`: a manifest with the schemas of three versions, commands of
/// kubectl against the manifests of the same page.
///
/// # Panics
/// If something is wrong with it.
#[track_caller]
pub(crate) fn validate(page: &str, block: &Block) {
    if block.language == "yaml" {
        for version in VERSIONS {
            validate_manifest(&block.text, version)
                .unwrap_or_else(|error| panic!("{}: Kubernetes {version}: {error}", block.at));
        }
        return;
    }
    let manifests = manifests(page);
    let commands = kubectl_commands(&block.text);
    assert!(!commands.is_empty(), "{} has no command of kubectl", block.at);
    for command in commands {
        check(&command, &manifests)
            .unwrap_or_else(|fault| panic!("{}: kubectl {command:?}: {fault}", block.at));
    }
}

/// The documents of all manifests of a page.
pub(crate) fn manifests(page: &str) -> Vec<Value> {
    let blocks = pages::blocks(page).into_iter();
    let blocks = blocks.filter(|block| block.language == "yaml" && block.mark == Ok(Mark::Kubernetes));
    blocks.flat_map(|block| documents(&block.text)).collect()
}

/// The words after each `kubectl` in a script.
fn kubectl_commands(script: &str) -> Vec<Vec<String>> {
    let lines = script.split(['\n', ';', '|']).flat_map(|part| part.split("$("));
    let commands = lines.filter_map(|part| part.trim().strip_prefix("kubectl "));
    let words = commands.map(|command| command.trim_end().trim_end_matches(')').split_whitespace());
    words.map(|words| words.map(|word| word.trim_matches('"').to_owned()).collect()).collect()
}

/// Whether kubectl has such a command, and what it names is in the manifests.
fn check(command: &[String], manifests: &[Value]) -> Result<(), String> {
    let line = command.join(" ");
    let known = KUBECTL.iter().find(|(name, _)| line == *name || line.starts_with(&format!("{name} ")));
    let (name, valued) = known.ok_or("not a command that pages use")?;
    let mut words = command[name.split(' ').count()..].iter().map(String::as_str);
    while let Some(word) = words.next() {
        let (option, value) =
            word.split_once('=').map_or((word, None), |(option, value)| (option, Some(value)));
        match word {
            "--" => return check_inside(&words.collect::<Vec<_>>()),
            _ if word.starts_with('-') => {
                if !valued.contains(&option) {
                    return Err(format!("no option {option}"));
                }
                let value = value.or_else(|| words.next()).ok_or("an option without a value")?;
                if option == "-l" && !has_label(manifests, value) {
                    return Err(format!("no pod has the label {value}"));
                }
            }
            _ => check_name(word, manifests)?,
        }
    }
    Ok(())
}

/// Whether a word that is no option names something: `deployment/shop`, `pods`, `web=IMAGE`, `$pod`.
fn check_name(word: &str, manifests: &[Value]) -> Result<(), String> {
    let deployments = || manifests.iter().filter(|document| document["kind"] == "Deployment");
    let containers = || {
        let lists = deployments().map(|document| &document["spec"]["template"]["spec"]["containers"]);
        lists.filter_map(Value::as_array).flatten()
    };
    let is_there = match (word.split_once('/'), word.split_once('=')) {
        _ if word == "pods" || word == "$pod" => true,
        (_, Some((name, _image))) => containers().any(|container| container["name"] == name),
        (Some(("deployment", name)), _) => deployments().any(|document| document["metadata"]["name"] == name),
        _ => false,
    };
    if is_there { Ok(()) } else { Err(format!("{word} is in no manifest of the page")) }
}

fn has_label(manifests: &[Value], label: &str) -> bool {
    let (name, value) = label.split_once('=').unwrap_or((label, ""));
    manifests.iter().any(|document| document["spec"]["template"]["metadata"]["labels"][name] == value)
}

/// Whether a command that runs in a pod exists.
fn check_inside(words: &[&str]) -> Result<(), String> {
    match words {
        ["cat", _] => Ok(()),
        ["einhyrningsinsctl", command, ..] => {
            let mut help = Command::new(binaries::einhyrningsinsctl());
            help.args([command, "--help"]);
            let help = process::run(help);
            if help.status.success() { Ok(()) } else { Err(help.to_string()) }
        }
        _ => Err("not a command of the image".into()),
    }
}

fn what_kubectl_is_told_is_checked() {
    let manifests = manifests(PAGE);
    let fault = |script: &str| {
        let commands = kubectl_commands(script);
        commands.iter().find_map(|command| check(command, &manifests).err())
    };
    let good = "for pod in $(kubectl get pods -l app=shop -o name); do\n    \
                kubectl exec \"$pod\" -- einhyrningsinsctl upgrade || break\ndone\n\
                kubectl rollout status deployment/shop --timeout=2m\n";
    assert_eq!(kubectl_commands(good).len(), 3);
    assert_eq!(fault(good), None);
    for (from, to) in [
        ("app=shop", "app=other"),
        ("deployment/shop", "deployment/other"),
        ("--timeout", "--tiemout"),
        ("rollout status", "rollout state"),
        ("einhyrningsinsctl upgrade", "einhyrningsinsctl upgarde"),
    ] {
        assert!(fault(&good.replace(from, to)).is_some(), "{to} is not found");
    }
}

fn the_pod_of_the_tutorial_takes_new_settings_and_refuses_bad_ones() {
    debian();
    import_node(tutorials::root());
    let context = context();
    for block in pages::blocks(PAGE) {
        if let Ok(Mark::File(_, path)) = &block.mark {
            let path = context.path().join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("a directory of the tutorial");
            fs::write(path, &block.text).expect("a file of the tutorial");
        }
    }
    let manifests = manifests(PAGE);
    let container = &pod(&manifests)["containers"][0];
    build(container["image"].as_str().expect("an image"), &[], context.path());
    let entrypoint = instruction(&context.path().join("Dockerfile"), "ENTRYPOINT");
    let entrypoint: Vec<_> = entrypoint.iter().map(String::as_str).collect();
    let (grace, need) = grace_and_need(pod(&manifests), &entrypoint);
    assert!(grace >= need, "{grace:?} are less than {need:?}");

    let played = Played::play(&manifests);
    let shop = played.container("shop", "shop");
    shop.wait_ready();
    let ask = || {
        let fetch = "fetch('http://127.0.0.1:8000').then((answer) => answer.text()).then(console.log)";
        shop.exec(&["node", "-e", fetch]).stdout.trim().to_owned()
    };
    // What the kubelet does, some time after the ConfigMap has changed.
    let set = |settings: &str| played.write_volume("shop-settings", "env", settings);
    assert_eq!(ask(), "hello, generation 1");
    let load = shop.load();
    load.wait_for_answers(300);
    set("GREETING='good day'\n");
    shop.ctl(&["upgrade"]).assert_code(0);
    assert_eq!(ask(), "good day, generation 2");
    load.wait_for_answers(300);
    // Not what is mounted now, but what the previous release had.
    shop.ctl(&["rollback"]).assert_code(0);
    assert!(ask().starts_with("hello, generation"), "{}", ask());
    load.wait_for_answers(300);
    set("GREETNIG=oops\n");
    shop.ctl(&["upgrade"]).assert_code(1).assert_says("GREETING is not set");
    assert!(ask().starts_with("hello, generation"), "{}", ask());
    load.wait_for_answers(300);
    let report = load.stop();
    report.assert_nothing_lost();
    println!(
        "new settings, a rollback and bad settings inside a pod: 0 of {} requests lost",
        report.requests
    );
}
