//! Requests that wait for an answer, and its form.

use std::collections::BTreeMap;

use einhorn_proto::{Language, Notice, RequestId};
use einhyrningsins_supervisor::RequestKey;
use serde::{Deserialize, Serialize};

use super::{ClientId, Control, View};
use crate::config::Dialect;
use crate::forms::{self, Written};

/// A client that waits for the answer to one request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Asker {
    pub(super) client: ClientId,
    pub(super) id: Option<RequestId>,
    pub(super) language: Language,
    pub(super) dialect: Dialect,
    /// The name of the command.
    pub(super) command: String,
}

impl Written for BTreeMap<RequestKey, Asker> {
    type As = Vec<(RequestKey, Asker)>;

    fn write(&self) -> Result<Self::As, String> {
        Ok(self.iter().map(|(request, asker)| (*request, asker.clone())).collect())
    }

    fn read(written: Self::As) -> Result<Self, String> {
        Ok(written.into_iter().collect())
    }
}

impl Asker {
    /// Whether it gets progress, not only the last line.
    pub(super) fn has_progress(&self) -> bool {
        self.dialect.manners().has_progress(self.id.is_some(), &self.command)
    }
}

impl Control {
    /// Adds a request that waits for a last reply.
    pub(super) fn enter(&mut self, asker: Asker) -> RequestKey {
        let request = RequestKey(self.next_request);
        self.next_request += 1;
        self.requests.insert(request, asker);
        request
    }

    /// Reports the state of the upgrade that requests have joined; the next progress may be far off. A request that was
    /// refused, or that ended the upgrade at once, must be answered by now.
    pub(in crate::master) fn report_joined(&mut self, view: &View<'_>) {
        for request in std::mem::take(&mut self.joining) {
            if let Some(upgrade) = view.core.summary(forms::now()).upgrade {
                self.send_progress(request, &Notice::UpgradeJoined(upgrade), view.core.counts());
            }
        }
    }
}
