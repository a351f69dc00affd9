//! `serve`: the example `axum` as a worker under load, and what becomes of each connection when it stops.
#![allow(clippy::unwrap_used, reason = "all of it is a test")]

mod common;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use common::load::{Client, Pool};
use common::{PATIENCE, Running, Worker, role, say};
use einhorn_child::Stop;
use nix::sys::signal::Signal;

/// How long a handler of the worker below takes.
const SLOW: Duration = Duration::from_millis(500);

/// The worker's side: an application whose server lingers for as many milliseconds as `ROLE` has.
#[test]
fn worker() {
    let Some(role) = role() else { return };
    let linger = Duration::from_millis(role.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stop = Stop::install().unwrap();
        let listener: tokio::net::TcpListener = einhorn_child::inherit_or_bind("127.0.0.1:0").unwrap();
        let app = Router::new()
            .route("/", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
            .route("/slow", get(slow))
            .route("/switch", get(switch));
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        say("ready");
        einhorn_child::serve(listener, app, stop).linger(linger).await.unwrap();
        say("served");
    });
}

async fn slow() -> &'static str {
    say("slow");
    tokio::time::sleep(SLOW).await;
    "late"
}

/// Changes to another protocol, in which nothing is said for a while.
async fn switch(request: Request) -> impl IntoResponse {
    tokio::spawn(async {
        let _connection = hyper::upgrade::on(request).await.unwrap();
        say("switched");
        tokio::time::sleep(SLOW).await;
        say("hung up");
    });
    (StatusCode::SWITCHING_PROTOCOLS, [(header::CONNECTION, "upgrade"), (header::UPGRADE, "silence")])
}

/// A worker that serves and lingers for `linger_ms`, and its address; nobody else has its listener.
fn serving(linger_ms: u32) -> (Running, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut worker = Worker::new(&linger_ms.to_string()).fd(&listener).numbered().spawn();
    worker.hear("ready");
    (worker, address)
}

/// Waits until `worker` has closed its listener, which shows that it is stopping.
fn see_stopping(address: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    // A connection that came in time is still accepted, or reset when the listener is closed.
    while TcpStream::connect(address).map_err(|error| error.kind()).err()
        != Some(ErrorKind::ConnectionRefused)
    {
        assert!(Instant::now() < deadline, "the listener stays open");
    }
}

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
    let mut fresh = Client::connect(pool.address).unwrap();
    assert!(
        !Client::connect(pool.address).unwrap().get().unwrap().closes,
        "the connection before it was accepted"
    );
    worker.signal(Signal::SIGUSR2);
    let _successor = pool.spawn_successor();
    for client in [&mut client, &mut fresh] {
        assert!(client.get().unwrap().closes);
        client.see_close().unwrap();
    }
    assert!(worker.end().success());
}

#[test]
fn connections_without_a_request_are_closed_in_the_end() {
    let (worker, address) = serving(700);
    // Accepted before the other one, because it came first.
    let mut silent = Client::connect(address).unwrap();
    let mut idle = Client::connect(address).unwrap();
    assert_eq!(idle.get().unwrap().body, idle.local_address().to_string(), "the address of the client");
    let asked = Instant::now();
    worker.signal(Signal::SIGUSR2);
    idle.see_close().unwrap();
    silent.see_close().unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(700), "after {:?}", asked.elapsed());
    worker.finish();
}

#[test]
fn a_second_request_to_stop_ends_the_wait_and_answers_what_has_arrived() {
    let (mut worker, address) = serving(3_600_000);
    let [mut idle, mut slow] = [(); 2].map(|()| Client::connect(address).unwrap());
    idle.get().unwrap();
    slow.send("GET /slow HTTP/1.1\r\n\r\n").unwrap();
    worker.hear("slow");
    worker.signal(Signal::SIGUSR2);
    see_stopping(address);
    worker.signal(Signal::SIGTERM);
    idle.see_close().unwrap();
    let answer = slow.answer().unwrap();
    assert_eq!((answer.body.as_str(), answer.closes), ("late", true));
    slow.see_close().unwrap();
    worker.finish();
}

#[test]
fn a_connection_in_another_protocol_is_waited_for() {
    let (mut worker, address) = serving(0);
    let mut client = Client::connect(address).unwrap();
    client.get().unwrap();
    client.send("GET /switch HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: silence\r\n\r\n").unwrap();
    worker.hear("switched");
    worker.signal(Signal::SIGUSR2);
    let lines = worker.finish();
    assert_eq!(lines[1..], ["switched", "hung up", "served"]);
}

/// With `Connection: close` in place of `Connection: upgrade`, a client would not know what it got.
#[test]
fn a_stopping_worker_still_changes_protocols() {
    let (mut worker, address) = serving(3_600_000);
    let mut client = Client::connect(address).unwrap();
    client.get().unwrap();
    worker.signal(Signal::SIGUSR2);
    see_stopping(address);
    client.send("GET /switch HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: silence\r\n\r\n").unwrap();
    worker.hear("switched");
    assert!(client.head().unwrap().contains("\r\nconnection: upgrade\r\n"));
    client.see_close().unwrap();
    worker.finish();
}
