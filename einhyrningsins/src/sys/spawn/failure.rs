//! The report of a child that does not reach its exec, and its form in a pipe.

use std::ffi::c_int;

use nix::libc;

use super::Stage;

/// The step that failed, and its errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) stage: Stage,
    pub(super) errno: c_int,
}

impl Failure {
    /// The length of a failure in a pipe. The kernel writes this few bytes at once or not at all (PIPE_BUF).
    pub(super) const BYTES: usize = 12;

    /// The bytes that came are not a failure. Only our own child writes to the pipe.
    pub(super) const UNINTELLIGIBLE: Self = Self { stage: Stage::Hear, errno: libc::EPROTO };

    /// The steps that can fail in a child, except those that carry a number. In a pipe, a step is its index
    /// here.
    const STAGES: [Stage; 15] = [
        Stage::ProcessGroup,
        Stage::Nice,
        Stage::Affinity,
        Stage::OomScoreAdj,
        Stage::ParentDeathSignal,
        Stage::Directory,
        Stage::Descriptors,
        Stage::Groups,
        Stage::Group,
        Stage::User,
        Stage::NoNewPrivileges,
        Stage::Dispositions,
        Stage::SignalMask,
        Stage::Exec,
        Stage::WritesTo,
    ];

    /// Stands for [`Stage::Limit`]; the number of the resource follows.
    const LIMIT: u32 = u32::MAX;

    /// The form in the pipe. The reader is this very program, so the form needs no version.
    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let (stage, resource) = match self.stage {
            Stage::Limit(resource) => (Self::LIMIT, resource),
            stage => {
                let place = Self::STAGES.iter().position(|other| *other == stage);
                (place.unwrap_or(Self::STAGES.len()) as u32, 0)
            }
        };
        let mut bytes = [0; Self::BYTES];
        let words = [stage, resource, self.errno.cast_unsigned()];
        for (to, from) in bytes.iter_mut().zip(words.iter().flat_map(|word| word.to_ne_bytes())) {
            *to = from;
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub(super) fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        let [stage, resource, errno] = [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_ne_bytes);
        let stage = match stage {
            Self::LIMIT => Some(Stage::Limit(resource)),
            place => Self::STAGES.get(place as usize).copied(),
        };
        let errno = errno.cast_signed();
        stage.map_or(Self::UNINTELLIGIBLE, |stage| Self { stage, errno })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_pipe() {
        let limits = [0, 7, u32::MAX].map(Stage::Limit);
        for stage in Failure::STAGES.into_iter().chain(limits) {
            for errno in [1, libc::EHWPOISON, -1] {
                let failure = Failure { stage, errno };
                assert_eq!(Failure::from_bytes(failure.to_bytes()), failure);
            }
        }
    }

    #[test]
    fn other_bytes_are_not_read_as_a_failure() {
        assert_eq!(Failure::from_bytes([0x7f; Failure::BYTES]), Failure::UNINTELLIGIBLE);
        let no_step_of_a_child = Failure { stage: Stage::Signal, errno: 1 };
        assert_eq!(Failure::from_bytes(no_step_of_a_child.to_bytes()), Failure::UNINTELLIGIBLE);
    }
}
