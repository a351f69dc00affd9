//! The archive of the static programs, with its scripts `install` and `uninstall`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tests::Finished;
use tests::process::run;

use super::{assert_prints, listing};
use crate::made;

tests::trials! {
    installed_over_an_older_version_and_removed_it_leaves_what_was_there needs "musl target",
    installed_for_one_user_it_is_removed_by_the_copy_of_uninstall_alone needs "musl target",
    another_einhorn_is_not_replaced needs "musl target",
    with_nothing_but_busybox_it_installs_and_runs needs "musl target" "busybox",
}

/// The archive, unpacked.
struct Unpacked {
    /// With the archive's directory in it.
    directory: TempDir,
}

impl Unpacked {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(made::tarball()).arg("-C").arg(directory.path());
        run(tar).assert_code(0);
        Self { directory }
    }

    /// Where it is: the one directory that the archive has, named like it.
    fn path(&self) -> PathBuf {
        let archive = made::tarball().file_name().and_then(|name| name.to_str()).expect("a name");
        self.directory.path().join(archive.strip_suffix(".tar.gz").expect("an archive"))
    }

    /// A directory beside, for what is installed.
    fn root(&self) -> PathBuf {
        let root = self.directory.path().join("root");
        fs::create_dir_all(&root).expect("a root");
        root
    }

    fn install(&self, arguments: &[&str], variables: &[(&str, &Path)]) -> Finished {
        script(&self.path().join("install"), arguments, variables)
    }
}

fn script(path: &Path, arguments: &[&str], variables: &[(&str, &Path)]) -> Finished {
    let mut command = Command::new(path);
    command.args(arguments).current_dir("/").env_remove("PREFIX").env_remove("DESTDIR");
    command.envs(variables.iter().copied());
    run(command)
}

/// Asks a program for its version.
fn version(program: &Path) -> String {
    let mut command = Command::new(program);
    command.arg("--version");
    let answered = run(command);
    answered.assert_code(0);
    answered.stdout
}

fn installed_over_an_older_version_and_removed_it_leaves_what_was_there() {
    let unpacked = Unpacked::new();
    let root = unpacked.root();
    for file in ["usr/local/bin/mine", "usr/local/share/man/man1/mine.1"] {
        fs::create_dir_all(root.join(file).parent().expect("a directory")).expect("directories");
        fs::write(root.join(file), "mine").expect("a file");
    }
    let before = listing(&root);
    unpacked.install(&[], &[("DESTDIR", &root)]).assert_code(0);
    let prefix = root.join("usr/local");
    for (name, package) in [
        ("einhyrningsins", "einhyrningsins "),
        ("einhyrningsinsctl", "einhyrningsinsctl "),
        ("einhornsh", "einhornsh "),
    ] {
        let said = version(&prefix.join("bin").join(name));
        assert!(said.starts_with(package), "{name}: {said}");
    }
    for file in [
        "share/man/man1/einhyrningsins.1",
        "share/man/man1/einhornsh.1",
        "share/man/man7/einhorn-worker.7",
        "share/bash-completion/completions/einhyrningsinsctl.bash",
        "share/zsh/site-functions/_einhyrningsins",
        "share/fish/vendor_completions.d/einhyrningsins.fish",
        "lib/sysusers.d/einhyrningsins.conf",
    ] {
        let mode = fs::metadata(prefix.join(file)).expect(file).permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{file}");
    }
    let unit = fs::read_to_string(prefix.join("lib/systemd/system/einhyrningsins@.service")).expect("a unit");
    assert!(unit.contains("\nExecStart=/usr/local/bin/einhyrningsins "), "{unit}");

    // A version that had one more file, and a program that runs: they are replaced, not written into.
    fs::write(prefix.join("bin/einhyrningsins-old"), "old").expect("an old program");
    let files = prefix.join("share/einhyrningsins/files");
    let list = fs::read_to_string(&files).expect("a list");
    fs::write(&files, list + "/usr/local/bin/einhyrningsins-old\n").expect("a list");
    let held = fs::File::open(prefix.join("bin/einhyrningsins")).expect("a program");
    unpacked.install(&[], &[("DESTDIR", &root)]).assert_code(0);
    assert!(!prefix.join("bin/einhyrningsins-old").exists(), "a file of the version before is left");
    let links = std::os::unix::fs::MetadataExt::nlink(&held.metadata().expect("a program"));
    assert_eq!(links, 0, "the program that may run was written into");

    script(&unpacked.path().join("uninstall"), &[], &[("DESTDIR", &root)]).assert_code(0);
    assert_eq!(listing(&root), before);
    let again = script(&unpacked.path().join("uninstall"), &[], &[("DESTDIR", &root)]);
    again.assert_code(1).assert_says("nothing is installed in ").assert_says("  hint: ");
}

fn installed_for_one_user_it_is_removed_by_the_copy_of_uninstall_alone() {
    let unpacked = Unpacked::new();
    let home = unpacked.root().join("a home");
    fs::create_dir(&home).expect("a home");
    let prefix = home.join(".local");
    let installed = unpacked.install(&["--without-einhorn"], &[("PREFIX", &prefix)]);
    assert_prints(&installed, "no units for systemd");
    assert!(version(&prefix.join("bin/einhyrningsins")).starts_with("einhyrningsins "));
    assert!(!prefix.join("bin/einhorn").is_symlink() && !prefix.join("lib").exists());
    script(&prefix.join("share/einhyrningsins/uninstall"), &[], &[]).assert_code(0);
    assert!(listing(&home).is_empty(), "{:?}", listing(&home));
}

fn another_einhorn_is_not_replaced() {
    let unpacked = Unpacked::new();
    let root = unpacked.root();
    let bin = root.join("opt/bin");
    fs::create_dir_all(&bin).expect("a directory");
    symlink("/var/lib/gems/einhorn", bin.join("einhorn")).expect("einhorn in Ruby");
    let before = listing(&root);
    let variables: &[(&str, &Path)] = &[("DESTDIR", &root), ("PREFIX", Path::new("/opt"))];
    // A link that leads nowhere here is a program elsewhere.
    let refused = unpacked.install(&[], variables);
    refused.assert_code(1).assert_says("bin/einhorn is there, and is another program");
    refused.assert_says("--without-einhorn");
    assert_eq!(listing(&root), before);
    unpacked.install(&["--without-einhorn"], variables).assert_code(0);
    script(&unpacked.path().join("uninstall"), &[], variables).assert_code(0);
    assert_eq!(listing(&root), before);

    unpacked.install(&["--no-such"], variables).assert_code(2).assert_says("--help");
    let relative = unpacked.install(&[], &[("DESTDIR", &root), ("PREFIX", Path::new("opt"))]);
    relative.assert_code(1).assert_says("no absolute path");
    assert_eq!(listing(&root), before);
}

fn with_nothing_but_busybox_it_installs_and_runs() {
    let root = tempfile::tempdir().expect("a root");
    let bin = root.path().join("bin");
    fs::create_dir(&bin).expect("a directory");
    fs::create_dir(root.path().join("tmp")).expect("a directory");
    fs::create_dir(root.path().join("dev")).expect("a directory");
    fs::write(root.path().join("dev/null"), "").expect("a file in the place of a device");
    fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox");
    fs::copy(made::tarball(), root.path().join("release.tar.gz")).expect("the archive");
    fs::copy(made::musl().join("hello"), bin.join("hello")).expect("a worker");
    let inside = "set -e
        /bin/busybox --install -s /bin
        tar -xzf /release.tar.gz
        find / -xdev ! -path '/tmp*' ! -path '/dev*' | sort >/tmp/before
        /einhyrningsins-*/install
        einhyrningsins -n 2 -m -b 127.0.0.1:0 -d /tmp/control -- /bin/hello 2>/tmp/log &
        until einhyrningsinsctl -d /tmp/control status --ready 2>/dev/null; do kill -0 $!; done
        einhyrningsinsctl -d /tmp/control upgrade
        einhornsh -d /tmp/control -e die
        wait $!
        /einhyrningsins-*/uninstall
        find / -xdev ! -path '/tmp*' ! -path '/dev*' | sort >/tmp/after
        diff /tmp/before /tmp/after";
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c"]);
    command.arg(format!(
        "mkdir -p {0}/proc && mount -t proc proc {0}/proc && ip link set lo up && \
         exec chroot {0} /bin/busybox env -i PATH=/usr/local/bin:/bin HOME=/tmp /bin/busybox sh -c \"$1\"",
        root.path().display()
    ));
    command.args(["sh", inside]);
    assert_prints(&run(command), "upgrade to generation 2 done");
}
