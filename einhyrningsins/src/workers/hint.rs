//! What to do about a spawn that fails, for whoever started the master.

use nix::errno::Errno;

use crate::sys::limits::{in_words, own_hard_limit, resource_name};
use crate::sys::spawn::{ExecFault, SpawnError, Stage};

/// A next step for the reader.
pub(crate) fn spawn_hint(error: &SpawnError) -> Option<String> {
    let hint = match (&error.stage, error.errno, &error.fault) {
        (Stage::Clone | Stage::Exec, Errno::EAGAIN, _) => {
            "the limit is RLIMIT_NPROC of the user, pids.max of the cgroup or kernel.pid_max".into()
        }
        (Stage::Descriptors | Stage::Hear, Errno::EMFILE, _) => {
            "raise the limit on open files (ulimit -n, LimitNOFILE=)".into()
        }
        (Stage::Nice, Errno::EACCES | Errno::EPERM, _) => {
            "a lower nice value needs CAP_SYS_NICE or a limit that allows it (LimitNICE=)".into()
        }
        (Stage::Affinity, Errno::EINVAL, _) => {
            "the cpuset of its cgroup leaves it none of these CPUs (taskset -p shows which it may use)".into()
        }
        (Stage::OomScoreAdj, Errno::EACCES | Errno::EPERM, _) => {
            "a lower value than the master's needs CAP_SYS_RESOURCE, or a master that has it itself \
             (OOMScoreAdjust=)"
                .into()
        }
        (Stage::Limit(resource), Errno::EPERM, _) => limit_hint(*resource),
        (Stage::Groups | Stage::Group | Stage::User, Errno::EPERM, _) => {
            "to be another user or group than the master, it must have a master that is root, or that has \
             CAP_SETUID, CAP_SETGID and CAP_KILL"
                .into()
        }
        (Stage::Groups | Stage::Group | Stage::User, Errno::EINVAL, _) => {
            "the user namespace of the master has no such number".into()
        }
        (Stage::Signal, Errno::EPERM, _) => {
            "the master could not stop workers of another user: it must be root, or have CAP_KILL".into()
        }
        (Stage::Stopped, ..) => {
            "another process of the worker's user can do that: find out which one sends SIGSTOP".into()
        }
        (Stage::Hung, ..) => {
            "is the file system that the program lies on slow to answer, or the system out of memory?".into()
        }
        (Stage::Directory, _, Some(ExecFault::NotSearchable { directory, .. })) => {
            format!(
                "give a directory that the workers' user may enter (--chdir DIR), or chmod a+x {directory}"
            )
        }
        (_, _, Some(ExecFault::MountedNoexec)) => {
            "move it to a file system that is not mounted noexec".into()
        }
        (_, _, Some(ExecFault::NotSearchable { directory, .. })) => {
            format!("chmod a+x {directory}, or give it to the user or one of its groups")
        }
        (_, _, Some(ExecFault::NotForUser { .. })) => {
            format!("chmod a+x {}, or give it to the user or one of its groups", error.program)
        }
        (_, _, Some(ExecFault::InterpreterMissing { interpreter })) if interpreter.ends_with('\r') => {
            format!("the script has line ends of another system; sed -i 's/\\r$//' {}", error.program)
        }
        (_, _, Some(ExecFault::NotExecutable { .. })) => format!("chmod +x {}", error.program),
        (_, _, Some(ExecFault::LoaderMissing)) => {
            "was it built for another distribution? ldd shows what it wants".into()
        }
        (_, _, Some(ExecFault::DirectoryDeleted { .. })) => {
            "keep a release's directory for as long as workers run from it".into()
        }
        _ => return None,
    };
    Some(hint)
}

fn limit_hint(resource: u32) -> String {
    let own = own_hard_limit(resource).map_or_else(|_| "unknown".to_owned(), in_words);
    let mut hint = format!(
        "the master's own hard limit is {own}: raise that (ulimit -H, Limit...= of systemd), or give the master \
         CAP_SYS_RESOURCE"
    );
    if resource_name(resource) == "nofile" {
        hint += "; the limit of all is the sysctl fs.nr_open";
    }
    hint
}
