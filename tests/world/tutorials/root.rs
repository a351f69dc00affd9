//! The root directory of the machines that tutorials run in: Debian with the packages that they install already there,
//! because a machine has no way to a mirror. Their lines for apt and pip run as written.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tests::{install, needs, process};

use crate::roots;

/// How long the making may take, on a slow day and with a slow mirror.
const MAKING_MAX: Duration = Duration::from_secs(20 * 60);

/// The packages of Debian.
const PACKAGES: &str = "nodejs puma python3-venv ruby ruby-railties ruby-sd-notify";

/// Makes the root `$1` of the root `$2` with the packages `$3`, the wheels of `$4` and the npm package pm2 of the directory `$5`.
const MAKE: &str = r#"
set -eu
rm -rf --one-file-system "$1"
cp -a "$2" "$1"
cp -L /etc/resolv.conf "$1/etc/resolv.conf"
chroot "$1" apt-get -qq update
chroot "$1" apt-get -qq install --no-install-recommends $3 >/dev/null
rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1/etc/resolv.conf"
python3 -m venv "$1/tmp/venv"
"$1/tmp/venv/bin/pip" download --quiet --disable-pip-version-check --dest "$1/var/cache/wheels" "$4"
rm -r "$1/tmp/venv"
printf '[global]\nno-index = true\nfind-links = /var/cache/wheels\n' >"$1/etc/pip.conf"
mkdir -p "$1/usr/local/lib"
cp -a "$5" "$1/usr/local/lib/node_modules"
ln -s ../lib/node_modules/pm2/bin/pm2 "$1/usr/local/bin/pm2"
"#;

/// The root, which is made if it is not there.
///
/// # Panics
/// If it cannot be made.
#[track_caller]
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(make)
}

fn make() -> PathBuf {
    let base = roots::root("bookworm");
    let roots = base.parent().expect("the directory of roots");
    let lock = File::create(roots.join("tutorials.lock")).expect("a file to lock");
    lock.lock().expect("a lock");
    let root = roots.join("tutorials");
    let (wheels, npm) = (needs::package("gunicorn"), needs::package("pm2"));
    let made_with =
        fs::read_to_string(base.with_extension("packages")).expect("a note of what is in the base");
    let made_with = format!("{made_with} {PACKAGES} {wheels} {npm}");
    // Written last, so what is there without it is half a root.
    let complete = roots.join("tutorials.packages");
    if fs::read_to_string(&complete).is_ok_and(|text| text == made_with) {
        return root;
    }
    let _ = fs::remove_file(&complete);
    let mut command = Command::new("sh");
    command
        .args(["-c", MAKE, "sh"])
        .arg(&root)
        .arg(&base)
        .args([PACKAGES, wheels])
        .arg(install::node_modules("pm2"));
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    process::run_within(MAKING_MAX, command, "").assert_code(0);
    fs::write(&complete, &made_with).expect("a note of what is in the root");
    root
}
