//! Releases, and the processes that are made of them, as `status` and `state` show them.

use einhorn_proto::ReleaseStatus;
use einhyrningsins_supervisor::Generation;
use serde_json::Value;

use super::Workers;
use crate::release::Release;

impl Workers {
    /// The process attributes of `generation`, for the `state` command.
    pub(crate) fn process_state(&self, generation: Generation) -> Value {
        let attributes = self.attributes_of(generation);
        let credentials = self.credentials(generation).cloned().unwrap_or_default();
        attributes.process.to_json(attributes.nice, &credentials)
    }

    /// Every kept release, oldest first.
    pub(crate) fn release_statuses(&self) -> Vec<ReleaseStatus> {
        let mut statuses: Vec<_> = self.releases.iter().map(Release::status).collect();
        statuses.sort_by_key(|status| status.generation);
        statuses
    }
}
