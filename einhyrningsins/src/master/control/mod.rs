//! The control socket and its clients.

mod clients;
mod socket;

pub(super) use clients::{CLIENTS_MAX, ClientId, Clients, ClientsRecord, Input, Peer};
pub use socket::{ControlSocket, ControlSocketRecord};
