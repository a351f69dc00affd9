//! What the process of a worker is given by options, whatever release it runs.

use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::release::Release;
use crate::supervisor::SlotNumber;
use crate::sys::cpus::CpuSet;
use crate::sys::limits::ResourceLimit;

/// What is as the master has it unless an option says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProcessOptions {
    /// File mode creation mask, as permission bits.
    #[serde(default)]
    pub umask: Option<u32>,
    /// Resource limits; of two of one resource the later counts.
    #[serde(default)]
    pub limits: Vec<ResourceLimit>,
    /// What is added to its badness when memory runs out, from -1000 to 1000.
    #[serde(default)]
    pub oom_score_adj: Option<i16>,
    /// The CPUs of slot 0, of slot 1 and so on, and from the first again.
    #[serde(default)]
    pub cpus: Vec<CpuSet>,
    /// Whether it can gain no privilege by executing a program.
    #[serde(default)]
    pub no_new_privileges: bool,
}

impl ProcessOptions {
    /// Where the workers of `slot` may run; `None` for wherever the master may.
    pub(super) fn cpus_of(&self, slot: SlotNumber) -> Option<&CpuSet> {
        // None of no sets: the remainder is not taken then.
        self.cpus.get(slot.0 as usize % self.cpus.len().max(1))
    }

    pub(super) fn umask(&self) -> Option<Mode> {
        self.umask.map(|bits| Mode::from_bits_truncate(bits as nix::libc::mode_t))
    }

    /// All of it, for the state, with who runs `release`.
    pub(super) fn to_json(&self, nice: Option<i32>, release: Option<&Release>) -> Value {
        let credentials = release.and_then(|release| release.credentials.clone()).unwrap_or_default();
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
    fn slots_take_turns_with_the_sets_of_cpus() {
        let sets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let options = ProcessOptions { cpus: sets(&["0", "1+3"]), ..ProcessOptions::default() };
        let of = |slot| options.cpus_of(SlotNumber(slot)).unwrap().to_string();
        assert_eq!([of(0), of(1), of(2), of(9_999)], ["0", "1+3", "0", "1+3"]);
        assert_eq!(ProcessOptions::default().cpus_of(SlotNumber(0)), None);
    }

    #[test]
    fn what_an_older_master_did_not_write_down_is_as_it_has_it() {
        assert_eq!(serde_json::from_str::<ProcessOptions>("{}").unwrap(), ProcessOptions::default());
        let all = r#"{"umask":23,"limits":["nofile=9:infinity"],"oom_score_adj":-5,"cpus":["0-1"],"no_new_privileges":true}"#;
        let options: ProcessOptions = serde_json::from_str(all).unwrap();
        assert_eq!(options.limits[0].hard(), None);
        assert_eq!(serde_json::from_value::<ProcessOptions>(json!(options)).unwrap(), options);
    }
}
