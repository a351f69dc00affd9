//! The images and manifests of `einhyrningsins/contrib/container`, built and run by podman.

mod container;
mod engine;
mod health;
mod images;
mod kubernetes;
mod limits;
mod page;
mod pid_one;
mod rolling;

use tests::Trial;

pub(crate) use container::Container;
pub(crate) use engine::{Engine, end};
pub(crate) use page::{shell as page_shell, validate as validate_block};

pub(crate) fn trials() -> Vec<Trial> {
    let topics = [
        images::trials(),
        pid_one::trials(),
        health::trials(),
        limits::trials(),
        rolling::trials(),
        kubernetes::trials(),
        page::trials(),
    ];
    topics.into_iter().flatten().collect()
}
