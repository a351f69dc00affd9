//! Process attributes of workers that come from options.

use einhyrningsins_supervisor::SlotNumber;
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::sys::account::Credentials;
use crate::sys::cpus::CpuSet;
use crate::sys::limits::ResourceLimit;

/// Attributes that are the master's own unless an option sets them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProcessOptions {
    /// The file mode creation mask, as permission bits.
    #[serde(default)]
    pub umask: Option<u32>,
    /// Resource limits. If two are for one resource, the later one wins.
    #[serde(default)]
    pub limits: Vec<ResourceLimit>,
    /// The out-of-memory score adjustment, from -1000 to 1000.
    #[serde(default)]
    pub oom_score_adj: Option<i16>,
    /// The CPUs of slot 0, slot 1 and so on; slots beyond the end start over.
    #[serde(default)]
    pub cpus: Vec<CpuSet>,
    /// Whether a worker is barred from gaining privileges by an exec.
    #[serde(default)]
    pub no_new_privileges: bool,
}

impl ProcessOptions {
    /// The CPUs of workers in `slot`; `None` for the master's.
    pub(crate) fn cpus_of(&self, slot: SlotNumber) -> Option<&CpuSet> {
        // Without sets, this is `None` before the remainder is used.
        self.cpus.get(slot.0 as usize % self.cpus.len().max(1))
    }

    pub(crate) fn umask(&self) -> Option<Mode> {
        self.umask.map(|bits| Mode::from_bits_truncate(bits as nix::libc::mode_t))
    }

    /// All attributes, with the user, for the `state` command.
    pub(crate) fn to_json(&self, nice: Option<i32>, credentials: &Credentials) -> Value {
        json!({
            "uid": credentials.uid,
            "gid": credentials.gid,
            "groups": credentials.groups,
            "nice": nice,
            "umask": self.umask.map(|umask| format!("{umask:04o}")),
            "rlimits": self.limits,
            "oom_score_adj": self.oom_score_adj,
            "cpu_affinity": self.cpus,
            "no_new_privs": self.no_new_privileges,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_cycle_through_the_sets_of_cpus() {
        let sets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let options = ProcessOptions { cpus: sets(&["0", "1+3"]), ..ProcessOptions::default() };
        let of = |slot| options.cpus_of(SlotNumber(slot)).unwrap().to_string();
        assert_eq!([of(0), of(1), of(2), of(9_999)], ["0", "1+3", "0", "1+3"]);
        assert_eq!(ProcessOptions::default().cpus_of(SlotNumber(0)), None);
    }

    #[test]
    fn options_missing_from_an_older_state_are_the_masters_own() {
        assert_eq!(serde_json::from_str::<ProcessOptions>("{}").unwrap(), ProcessOptions::default());
        let all = r#"{"umask":23,"limits":["nofile=9:infinity"],"oom_score_adj":-5,"cpus":["0-1"],"no_new_privileges":true}"#;
        let options: ProcessOptions = serde_json::from_str(all).unwrap();
        assert!(options.limits[0].to_string().ends_with(":infinity"));
        assert_eq!(serde_json::from_value::<ProcessOptions>(json!(options)).unwrap(), options);
    }
}
