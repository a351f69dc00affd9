//! Root directories of Debian, from which machines boot and containers are made: one of each suite, made once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tests::{binaries, process};

/// How long the making of a root may take, on a slow day and with a slow mirror.
const MAKING_MAX: Duration = Duration::from_secs(20 * 60);

/// What is in each root beside what Debian needs itself. Machines have no way to a mirror: what is installed in them may
/// depend on these only.
const PACKAGES: &[&str] = &[
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "libnss-systemd",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "systemd",
    "systemd-sysv",
];

/// Makes the root `$1` of the suite `$2` with the packages `$3`, from the mirror that this machine's apt uses.
const MAKE: &str = r#"
set -eu
mirror=$(sed -nE 's/^(URIs:|deb) *(\[[^]]*\] *)?([^ ]+).*/\3/p' /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null | head -n 1)
[ -n "$mirror" ] || { echo 'the configuration of apt names no mirror' >&2; exit 1; }
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
rm -rf --one-file-system "$1"
debootstrap --variant=minbase --keyring="$keyring" --include="$3" "$2" "$1" "$mirror"
rm -f "$1"/var/cache/apt/archives/*.deb
# Of each machine its own.
: >"$1/etc/machine-id"
rm -f "$1/etc/hostname" "$1/var/lib/dbus/machine-id"
cp -r /etc/apt/apt.conf.d "$1/etc/apt/"
echo "deb [signed-by=$keyring] $mirror $2 main" >"$1/etc/apt/sources.list"
"#;

/// The root of Debian's `suite`, which is made if it is not there. Whoever boots from it or copies it leaves it as it
/// is.
///
/// # Panics
/// If it cannot be made.
#[track_caller]
pub(crate) fn root(suite: &str) -> PathBuf {
    static MADE: Mutex<BTreeMap<String, Arc<OnceLock<PathBuf>>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let made_once = Arc::clone(made.entry(suite.to_owned()).or_default());
    // Others need not wait for this one.
    drop(made);
    made_once.get_or_init(|| make(suite)).clone()
}

fn make(suite: &str) -> PathBuf {
    let roots = binaries::installed_directory().join("world/roots");
    fs::create_dir_all(&roots).expect("a directory for roots");
    // Released with the file. Another program of tests may make the same.
    let lock = File::create(roots.join(format!("{suite}.lock"))).expect("a file to lock");
    lock.lock().expect("a lock");
    let (root, packages) = (roots.join(suite), PACKAGES.join(","));
    // Written last, so what is there without it is half a root.
    let complete = roots.join(format!("{suite}.packages"));
    if fs::read_to_string(&complete).is_ok_and(|made_with| made_with == packages) {
        return root;
    }
    let _ = fs::remove_file(&complete);
    run_script(MAKE, &[&root, Path::new(suite), Path::new(&packages)]);
    fs::write(&complete, &packages).expect("a note of what is in the root");
    root
}

#[track_caller]
fn run_script(script: &str, arguments: &[&Path]) {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    process::run_within(MAKING_MAX, command, "").assert_code(0);
}
