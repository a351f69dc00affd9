//! The units under the systemd for which they are written.

mod app;
mod deaths;
mod logs;
mod machines;
mod reloads;
mod serve;
mod sockets;
mod stops;

use tests::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    let topics = [
        deaths::trials(),
        logs::trials(),
        machines::trials(),
        reloads::trials(),
        serve::trials(),
        sockets::trials(),
        stops::trials(),
    ];
    topics.into_iter().flatten().collect()
}
