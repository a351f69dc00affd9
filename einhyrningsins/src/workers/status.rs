//! Releases, and the processes that are made of them, as `status` and `state` show them.

use einhorn_proto::ReleaseStatus;
use einhyrningsins_supervisor::Generation;
use serde_json::Value;

use super::Workers;
use crate::release::Release;

impl Workers {
    /// The process attributes of `generation`, for the `state` command.
    pub(crate) fn process_state(&self, generation: Generation) -> Value {
        self.options.process.to_json(self.options.nice, self.release(generation))
    }

    /// Every kept release, oldest first.
    pub(crate) fn release_statuses(&self) -> Vec<ReleaseStatus> {
        let mut statuses: Vec<_> = self.releases.iter().map(Release::status).collect();
        statuses.sort_by_key(|status| status.generation);
        statuses
    }
}
