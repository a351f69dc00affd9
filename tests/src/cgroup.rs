//! A cgroup for a master and its workers, of either version.

use crate::wait;

/// Makes a cgroup of the name `$1` with the memory `$2`, and runs the rest in it.
const ENTER: &str = r#"
for directory in /sys/fs/cgroup/memory /sys/fs/cgroup; do
    group=$directory/$1
    mkdir "$group" || continue
    for limit in "$group/memory.limit_in_bytes" "$group/memory.max"; do
        [ ! -e "$limit" ] || { echo "$2" >"$limit"; shift 2; echo $$ >"$group/cgroup.procs"; exec "$@"; }
    done
    rmdir "$group"
done
exit 1
"#;

/// A cgroup, which is removed when nobody is left in it. Drop it after the master.
#[derive(Debug)]
pub struct Cgroup {
    name: String,
    mebibytes: u32,
}

impl Cgroup {
    /// One with so much memory, in MiB. What enters it makes it.
    pub fn with_memory(name: &str, mebibytes: u32) -> Self {
        Self { name: format!("einhyrningsins-test-{}-{name}", std::process::id()), mebibytes }
    }

    /// The words in front of a command that is to run in it.
    pub fn enter(&self) -> [String; 6] {
        let memory = format!("{}M", self.mebibytes);
        ["/bin/sh".into(), "-c".into(), ENTER.into(), "sh".into(), self.name.clone(), memory]
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        wait::within(wait::patience(), || {
            let removed = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"]
                .map(|directory| std::fs::remove_dir(format!("{directory}/{}", self.name)).is_ok());
            removed.contains(&true).then_some(())
        });
    }
}
