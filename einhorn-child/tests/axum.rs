//! The example `axum` as a worker under load.
#![allow(clippy::unwrap_used, reason = "all of it is a test")]

mod common;

use common::load::{Client, Pool};
use nix::sys::signal::Signal;

#[test]
fn nothing_is_lost_when_workers_are_replaced_under_load() {
    let (answers, lost) = Pool::of("axum").replace_under_load(10, 8);
    assert!(lost.is_empty(), "lost {} of {answers}: {lost:#?}", lost.len());
}

#[test]
fn a_stopping_worker_answers_each_connection_once_more() {
    let pool = Pool::of("axum");
    let mut worker = pool.spawn();
    let mut client = Client::connect(pool.address).unwrap();
    assert!(!client.get().unwrap().closes, "it keeps connections while it runs");
    worker.signal(Signal::SIGUSR2);
    let _successor = pool.spawn_successor();
    assert!(client.get().unwrap().closes);
    client.see_close().unwrap();
    assert!(worker.end().success());
}
