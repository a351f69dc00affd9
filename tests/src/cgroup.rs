//! A cgroup for a master and its workers, of either version.

use std::fs;
use std::path::Path;

use crate::Process;
use crate::wait;

/// Where cgroups that limit memory are, of version 1 and of version 2.
const PARENTS: [&str; 2] = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];

/// The files of their limits.
const LIMITS: [&str; 2] = ["memory.limit_in_bytes", "memory.max"];

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

    /// Makes it, and puts a process into it. What that has already is not counted; more than the limit allows it does
    /// not get.
    ///
    /// # Panics
    /// If there is no cgroup with a limit on memory, or the process is gone.
    #[track_caller]
    pub fn adopt(&self, process: Process) {
        let made = PARENTS.into_iter().find_map(|parent| {
            let group = Path::new(parent).join(&self.name);
            fs::create_dir(&group).ok()?;
            let limit = LIMITS.map(|name| group.join(name)).into_iter().find(|limit| limit.exists());
            let set = limit.and_then(|limit| fs::write(limit, format!("{}M", self.mebibytes)).ok());
            if set.is_none() {
                let _ = fs::remove_dir(&group);
            }
            set.map(|()| group)
        });
        let group = made.expect("a cgroup with a limit on memory");
        fs::write(group.join("cgroup.procs"), process.pid().to_string()).expect("a process of the cgroup");
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
            let removed =
                PARENTS.map(|directory| fs::remove_dir(format!("{directory}/{}", self.name)).is_ok());
            removed.contains(&true).then_some(())
        });
    }
}
