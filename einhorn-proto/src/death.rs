//! How workers and other processes end.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Seconds;

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Termination {
    /// It exited with this status.
    Exited(i32),
    /// A signal ended it.
    Killed {
        /// The signal's name, for instance `SIGKILL`.
        signal: String,
        /// Whether the kernel wrote a core dump.
        core_dumped: bool,
        /// Whether the kernel killed it because its cgroup was out of memory.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        out_of_memory: bool,
    },
    /// It ended while another program ran in the master's place, during a re-exec; that program got its exit status.
    Unseen,
}

impl fmt::Display for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Killed { signal, core_dumped, out_of_memory } => {
                write!(f, "was killed by {signal}")?;
                f.write_str(match (out_of_memory, core_dumped) {
                    (true, _) => " (out of memory)",
                    (false, true) => " (core dumped)",
                    (false, false) => "",
                })
            }
            Self::Unseen => f.write_str("ended while the master was being replaced"),
        }
    }
}

/// The end of a worker, or of a spawn that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// Its pid; `None` if it could not be spawned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Its generation.
    pub generation: u64,
    /// How it ended, in words: `exited with status 1`, `cannot execute /srv/app: ...`.
    pub reason: String,
    /// The same for programs; `None` if it could not be spawned, or lives on past its boot deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination: Option<Termination>,
    /// Its age, in milliseconds since it was spawned.
    pub age_ms: u64,
    /// Whether it had acked.
    pub acked: bool,
    /// If it had not: its last lines on standard error, with `--capture-startup`. The log has all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stderr_tail: Vec<String>,
}

impl Termination {
    /// The signal that ended it, by name.
    #[must_use]
    pub fn signal(&self) -> Option<&str> {
        match self {
            Self::Killed { signal, .. } => Some(signal),
            Self::Exited(_) | Self::Unseen => None,
        }
    }
}

/// What to do about a program that may have put itself into the background.
///
/// Sources: nginx.org, "daemon"; httpd(8); php-fpm(8); haproxy(1); the options of gunicorn, starman and unicorn.
pub const IN_BACKGROUND: &str = "a program that puts itself into the background exits with status 0 like this; run it in \
    the foreground (nginx -g 'daemon off;', apache2 -D FOREGROUND, php-fpm -F, haproxy -Ws; gunicorn, starman and unicorn \
    without -D)";

impl Death {
    /// Whether it is what is seen of a program that puts itself into the background: a child of it goes on elsewhere.
    #[must_use]
    pub fn may_be_in_background(&self) -> bool {
        !self.acked && self.termination == Some(Termination::Exited(0))
    }

    /// Whether it looks intended: the worker was up, and exited with status 0.
    #[must_use]
    pub fn is_on_purpose(&self) -> bool {
        self.acked && self.termination == Some(Termination::Exited(0))
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, reason, .. } = self;
        let Some(pid) = self.pid else {
            return write!(f, "spawn (generation {generation}) failed: {reason}");
        };
        write!(f, "worker {pid} (generation {generation}) {reason} after {}", Seconds(self.age_ms))?;
        if self.acked { Ok(()) } else { f.write_str(", unacked") }
    }
}
