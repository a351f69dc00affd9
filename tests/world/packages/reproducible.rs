//! The same sources give the same bytes, wherever they are built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tests::process::{run, run_within};

use crate::made;

tests::trials! {
    two_builds_in_two_directories_give_the_same_archive_and_packages needs "musl target" "cargo-deb" "dpkg-dev",
}

/// How long a build from nothing may take, on a slow day.
const BUILD_MAX: Duration = Duration::from_secs(40 * 60);

/// Copies the sources as they are now, with their times, to a directory of another length. It is the same in each run,
/// so that only what has changed is built again.
fn copy_of_sources() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let copy = made::directory().join("another-directory/with the sources");
    if copy.exists() {
        fs::remove_dir_all(&copy).expect("the copy of before");
    }
    fs::create_dir_all(&copy).expect("a directory");
    let mut command = Command::new("sh");
    command.arg("-ec").arg(
        "git -C \"$1\" -c safe.directory=\"$1\" ls-files -z --cached --others --exclude-standard |
            while IFS= read -r -d '' file; do [ ! -e \"$1/$file\" ] || printf '%s\\0' \"$file\"; done |
            tar -C \"$1\" --null -T - -cf - | tar -C \"$2\" -xf -",
    );
    // A shell that reads up to a NUL.
    let mut bash = Command::new("bash");
    bash.args(command.get_args());
    bash.arg("bash").arg(top).arg(&copy);
    run(bash).assert_code(0);
    copy
}

fn two_builds_in_two_directories_give_the_same_archive_and_packages() {
    // What the scripts take from Git, which the copy is not.
    const TIME: (&str, &str) = ("SOURCE_DATE_EPOCH", "1700000000");
    let copy = copy_of_sources();
    let work = copy.parent().expect("a directory").to_owned();
    let _ = fs::remove_file(work.join("cargo"));
    let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cargo"),
        PathBuf::from,
    );
    std::os::unix::fs::symlink(&cargo_home, work.join("cargo")).expect("another way to the registry");
    let run_script = |mut command: Command, output: &Path| {
        let _ = fs::remove_dir_all(output);
        command.env(TIME.0, TIME.1).arg("--output").arg(output).arg(made::MUSL);
        let made = run_within(BUILD_MAX, command, "");
        made.assert_code(0);
        made.stdout.lines().map(PathBuf::from).collect::<Vec<_>>()
    };
    for name in ["tarball", "deb"] {
        let here = run_script(made::script(name), &work.join("first"));
        let mut second = Command::new(copy.join("einhyrningsins/package").join(name));
        for (variable, value) in made::script(name).get_envs() {
            match value {
                Some(value) => second.env(variable, value),
                None => second.env_remove(variable),
            };
        }
        second.env("CARGO_TARGET_DIR", work.join("target")).env("CARGO_HOME", work.join("cargo"));
        second.envs([("TZ", "Asia/Tokyo"), ("LANG", "C.UTF-8"), ("LC_ALL", "C.UTF-8")]);
        let there = run_script(second, &work.join("second"));
        assert_eq!(here.len(), there.len());
        assert!(!here.is_empty());
        for (one, other) in here.iter().zip(&there) {
            assert_eq!(one.file_name(), other.file_name());
            let (one, other) = (fs::read(one).expect("a package"), fs::read(other).expect("a package"));
            assert!(one == other, "{name}: two builds differ; compare {}", work.display());
        }
    }
}
