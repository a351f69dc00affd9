//! What workers report of themselves over `NOTIFY_SOCKET`.

mod ack;
mod socket;

pub(super) use ack::Strangers;
pub use socket::{NotifyRecord, NotifySocket};
