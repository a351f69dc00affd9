//! `version`: this client's, and the master's.

use einhorn_proto::{self as proto, PROTOCOL_VERSION};

use crate::error::Error;
use crate::options::Answer;
use crate::output::Output;
use crate::session::Session;

use super::as_text;

/// Shows both versions, this client's first: it is known though no master be there.
pub(super) fn run(session: &mut Session, output: &Output, answer: Answer) -> Result<(), Error> {
    let client = env!("CARGO_PKG_VERSION");
    output.text(&format!("einhyrningsinsctl {client} (protocol {PROTOCOL_VERSION})"))?;
    as_text(session, output, &proto::Command::Version, answer)
}
