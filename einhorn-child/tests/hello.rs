//! The example `hello` as a worker under load, and its connections when it stops.
#![allow(clippy::unwrap_used, reason = "all of it is a test")]

mod common;

use common::Running;
use common::load::{Client, Pool};
use nix::sys::signal::Signal;

/// How `worker` prints `line`.
fn said(worker: &Running, line: &str) -> String {
    format!("hello[{}]: {line}", worker.pid())
}

#[test]
fn nothing_is_lost_when_workers_are_replaced_under_load() {
    let (answers, lost) = Pool::of("hello").replace_under_load(10, 8);
    assert!(lost.is_empty(), "lost {} of {answers}: {lost:#?}", lost.len());
}

#[test]
fn an_answer_names_the_process_and_its_generation() {
    let pool = Pool::of("hello");
    let worker = pool.spawn();
    let body = Client::connect(pool.address).unwrap().get().unwrap().body;
    assert_eq!(body, format!("hello from process {}, generation 7\n", worker.pid()));
}

#[test]
fn a_stopping_worker_answers_requests_in_flight_and_then_each_connection_once_more() {
    let pool = Pool::of("hello");
    let mut worker = pool.spawn();
    let [mut idle, mut begun, mut pipelined] = [(); 3].map(|()| Client::connect(pool.address).unwrap());
    for client in [&mut idle, &mut begun, &mut pipelined] {
        assert!(!client.get().unwrap().closes, "it keeps connections while it runs");
    }
    begun.send("POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nha").unwrap();
    worker.signal(Signal::SIGUSR2);
    let _successor = pool.spawn_successor();

    begun.send("lf").unwrap();
    assert!(begun.answer().unwrap().closes);
    begun.see_close().unwrap();
    pipelined.send("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n").unwrap();
    assert!(!pipelined.answer().unwrap().closes, "the second request is there already");
    assert!(pipelined.answer().unwrap().closes);
    pipelined.see_close().unwrap();
    assert!(idle.get().unwrap().closes);
    drop((begun, pipelined, idle));
    assert!(worker.end().success());
}

#[test]
fn a_worker_that_is_asked_twice_exits_at_once_and_reports_unfinished_connections() {
    let pool = Pool::of("hello");
    let mut worker = pool.spawn();
    let mut client = Client::connect(pool.address).unwrap();
    client.get().unwrap();
    worker.signal(Signal::SIGUSR2);
    worker.signal(Signal::SIGTERM);
    worker.hear(&said(&worker, "asked to stop again: 1 connections left unfinished"));
    assert_eq!(worker.end().code(), Some(1));
}

/// Closing a socket with unread input resets the connection, and the client may lose its answer.
#[test]
fn the_last_answer_is_not_reset_by_what_the_client_still_sends() {
    let pool = Pool::of("hello");
    let _worker = pool.spawn();
    let mut client = Client::connect(pool.address).unwrap();
    client.send(&format!("GET / HTTP/1.1\r\nConnection: close\r\n\r\n{}", "x".repeat(8192))).unwrap();
    assert!(client.answer().unwrap().closes);
    client.see_close().unwrap();
}

#[test]
fn requests_are_read_as_http_has_them() {
    let pool = Pool::of("hello");
    let _worker = pool.spawn();
    for (request, status, closes) in [
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 200, true),
        ("GET / HTTP/1.1\r\nconnection: Foo, Close\r\n\r\n", 200, true),
        ("GET / HTTP/1.0\r\n\r\n", 200, true),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, false),
        ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 200, false),
        ("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: x\r\n\r\n", 400, true),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411, true),
        ("POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413, true),
        ("GET / HTTP/2.0\r\n\r\n", 505, true),
        ("nonsense\r\n\r\n", 400, true),
    ] {
        let mut client = Client::connect(pool.address).unwrap();
        client.send(request).unwrap();
        let answer = client.answer().unwrap();
        assert_eq!((answer.status, answer.closes), (status, closes), "for {request}");
        if closes {
            client.see_close().unwrap();
        } else {
            assert_eq!(client.get().unwrap().status, 200, "after {request}");
        }
    }
}
