//! `einhyrningsinsctl serve`: who gets which answer, and when the master is asked for it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::wait::wait_for;
use tests::{Master, Serving};

tests::trials! {
    metrics_and_the_page_are_open_and_the_rest_wants_the_token,
    every_answer_has_the_headers_that_protect_a_browser,
    only_requests_to_known_hosts_are_answered,
    there_is_nothing_but_to_get_what_is_there,
    the_pool_its_history_and_its_events_are_as_the_master_has_them,
    the_master_is_asked_while_somebody_reads_and_at_scrapes_and_else_never,
    a_master_that_hangs_holds_up_nobody_but_who_asks_for_it,
    a_master_that_was_killed_is_found_again,
}

const SECRETS: [&str; 3] = ["/status.json", "/history.json", "/events"];
const OPEN: [&str; 6] = ["/metrics", "/", "/page.css", "/page.js", "/parts.js", "/icon.svg"];

fn metrics_and_the_page_are_open_and_the_rest_wants_the_token() {
    let master = Master::builder().workers(1).start();
    let serving = Serving::start(master.socket());
    for path in OPEN {
        let answer = serving.ask(&format!("GET {path}"), &[]);
        assert!(answer.status == 200 && !answer.body.is_empty(), "{path}: {answer:?}");
        assert!(!answer.body.contains(serving.token()), "{path} shows the token");
    }
    let metrics = serving.ask("GET /metrics", &[]);
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(metrics.body.contains("\neinhyrningsins_workers_wanted 1\n"), "{metrics:?}");
    assert!(
        metrics.body.contains("\neinhyrningsins_worker_resident_memory_bytes{slot=\"0\"} "),
        "{metrics:?}"
    );
    let token = serving.token();
    assert_eq!(token.len(), 64, "{token}");
    let nearly = format!("{}{}", &token[1..], &token[..1]);
    let wrong = [
        String::new(),
        "Bearer".to_owned(),
        token.to_owned(),
        format!("Basic {token}"),
        format!("Bearer {}", &token[1..]),
        format!("Bearer {token}{token}"),
        format!("Bearer {nearly}"),
    ];
    for path in SECRETS {
        let refused = |headers: &[(&str, &str)]| {
            let answer = serving.ask(&format!("GET {path}"), headers);
            assert_eq!(answer.status, 401, "{path} with {headers:?}: {answer:?}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            assert!(!answer.body.contains('{'), "{answer:?}");
        };
        refused(&[]);
        wrong.iter().for_each(|value| refused(&[("Authorization", value)]));
        let right = format!("Bearer {token}");
        refused(&[("Authorization", &wrong[1]), ("Authorization", &right)]);
        let in_query = serving.ask(&format!("GET {path}?token={token}"), &[]);
        assert_eq!(in_query.status, 401, "a query gets into logs");
        if path != "/events" {
            assert_eq!(serving.ask(&format!("GET {path}"), &[("authorization", &right)]).status, 200);
        }
    }
    let other = Serving::start(master.socket());
    assert_ne!(other.token(), token, "each has its own");
}

fn every_answer_has_the_headers_that_protect_a_browser() {
    let master = Master::builder().workers(1).start();
    let serving = Serving::start(master.socket());
    let answers = [
        serving.get("/"),
        serving.get("/metrics"),
        serving.get("/status.json"),
        serving.get("/nothing"),
        serving.ask("GET /status.json", &[]),
        serving.ask("POST /metrics", &[]),
        serving.ask("GET /", &[("Host", "evil.com")]),
        serving.ask("HEAD /", &[]),
    ];
    for answer in &answers {
        let header = |name: &str| answer.headers.get(name).map_or("", String::as_str);
        let policy = header("content-security-policy");
        for part in
            ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'"]
        {
            assert!(policy.contains(part), "{part}: {answer:?}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{answer:?}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{answer:?}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{answer:?}");
    }
    assert_eq!(answers.map(|answer| answer.status), [200, 200, 200, 404, 401, 405, 403, 200]);
    for path in OPEN.iter().filter(|path| **path != "/metrics") {
        let body = serving.get(path).body.replace("http://www.w3.org/2000/svg", "");
        assert!(!body.contains("http://") && !body.contains("https://"), "{path} asks others");
    }
}

fn only_requests_to_known_hosts_are_answered() {
    let master = Master::builder().workers(1).start();
    let serving = Serving::start_with(master.socket(), &["--host", "Ops.example.org"]);
    let port = serving.address().port();
    let authorization = format!("Bearer {}", serving.token());
    let status = |path: &str, host: &str| {
        let headers = [("Host", host), ("Authorization", &*authorization)];
        serving.ask(&format!("GET {path}"), &headers).status
    };
    for path in OPEN.iter().chain(&SECRETS[..2]) {
        for host in ["localhost", "127.0.0.1", "[::1]", "ops.example.org"] {
            assert_eq!(status(path, host), 200, "{path} at {host}");
            assert_eq!(status(path, &format!("{host}:{port}")), 200, "{path} at {host} with a port");
        }
        for host in ["localhost.evil.com", "evil.com", "[::2]", "127.0.0.1.evil.com", "evil.com:80", "a b"] {
            assert_eq!(status(path, host), 403, "{path} at {host}");
        }
    }
    let rest = "Connection: close\r\n\r\n";
    for (request, expected) in [
        (format!("GET /metrics HTTP/1.1\r\n{rest}"), 400),
        (format!("GET /metrics HTTP/1.0\r\n{rest}"), 400),
        (format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n{rest}"), 400),
        (format!("GET http://evil.com/metrics HTTP/1.1\r\nHost: localhost\r\n{rest}"), 403),
        (format!("GET http://localhost/metrics HTTP/1.1\r\nHost: evil.com\r\n{rest}"), 403),
        (format!("GET http://localhost/metrics HTTP/1.1\r\nHost: localhost\r\n{rest}"), 200),
    ] {
        assert_eq!(serving.send(&request).status, expected, "{request}");
    }
}

fn there_is_nothing_but_to_get_what_is_there() {
    let mut master = Master::builder().workers(1).start();
    let serving = Serving::start(master.socket());
    let authorization = format!("Bearer {}", serving.token());
    let ask = |line: &str| serving.ask(line, &[("Authorization", &authorization)]);
    for path in OPEN.iter().chain(&SECRETS) {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            let answer = ask(&format!("{method} {path}"));
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.headers["allow"], "GET,HEAD");
        }
    }
    for path in ["/metrics", "/", "/status.json"] {
        let answer = ask(&format!("HEAD {path}"));
        assert_eq!((answer.status, &*answer.body), (200, ""), "{path}");
    }
    for path in [
        "/../etc/passwd",
        "/page.js/../../etc/passwd",
        "//etc/passwd",
        "/%2e%2e/etc/passwd",
        "/page/page.html",
        "/metrics/",
        "/Metrics",
        "/status.json/",
        "/%00",
    ] {
        assert_eq!(ask(&format!("GET {path}")).status, 404, "{path}");
    }
    assert_eq!(ask("GET").status, 400);
    // A body is for nothing.
    let body = serving
        .send("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
    assert_eq!(body.status, 200);
    assert_eq!(master.wait_up(1).master.generation, 1);
}

fn the_pool_its_history_and_its_events_are_as_the_master_has_them() {
    let master = Master::builder().workers(2).start();
    let serving = Serving::start(master.socket());
    let picture = serving.get("/status.json").json();
    assert_eq!(picture["link"]["link"], "found");
    assert_eq!(picture["status"]["master"]["pid"], master.process().pid());
    assert_eq!(picture["usages"].as_array().expect("a list").len(), 2);
    assert!(picture["total"]["resident_bytes"].as_u64() > Some(0), "{picture}");
    assert_eq!(serving.get("/history.json").json(), json!({ "rollouts": [] }));
    let mut events = serving.events();
    let start = events.wait("start", |_| true);
    assert_eq!((&start["every_ms"], start["points"].as_array().expect("a list").len()), (&json!(5000), 1));
    assert_eq!(events.wait("picture", |_| true)["status"]["master"]["generation"], 1);
    master.ctl(["upgrade", "--label", "v2 <b>"]).assert_code(0);
    let is_new = |picture: &Value| picture["status"]["master"]["generation"] == 2;
    let picture = events.wait("picture", is_new);
    assert_eq!(picture["status"]["workers"].as_array().map(Vec::len), Some(2), "{picture}");
    master.ctl(["inc"]).assert_code(0);
    events.wait("event", |event| event["notice"]["event"] == "resized");
    let rollouts = serving.get("/history.json").json();
    let rollout = &rollouts["rollouts"][0];
    assert_eq!((&rollout["release"], &rollout["outcome"]), (&json!("v2 <b>"), &json!("done")), "{rollouts}");
    assert_eq!(rollout["with"], "einhyrningsinsctl", "{rollouts}");
    assert!(rollout["who"].as_str().is_some_and(|who| !who.is_empty()), "{rollouts}");
    // Whoever comes later sees what was before.
    let start = serving.events().wait("start", |_| true);
    assert!(start["points"].as_array().is_some_and(|points| points.len() > 1), "{start}");
    assert!(start["events"].as_array().is_some_and(|events| !events.is_empty()), "{start}");
}

/// A master that answers every request with `status` or what was counted, and counts the requests.
fn counting_master(path: &Path, status: Value, counted: Value) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(path).expect("a socket");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (status, counted, count) = (status.clone(), counted.clone(), Arc::clone(&count));
            thread::spawn(move || {
                let requests = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
                for request in requests.map_while(Result::ok) {
                    let request: Value = serde_json::from_str(&request).expect("JSON");
                    let mut reply = json!({ "message": "", "ok": true, "request_id": request["id"] });
                    match request["command"].as_str().expect("a command") {
                        "status" => reply["data"] = status.clone(),
                        "metrics" => reply["data"] = counted.clone(),
                        _ => continue,
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    let _ = (&stream).write_all(format!("{reply}\n").as_bytes());
                }
            });
        }
    });
    asked
}

fn the_master_is_asked_while_somebody_reads_and_at_scrapes_and_else_never() {
    let mut master = Master::builder().workers(1).start();
    let status = serde_json::to_value(master.status()).expect("JSON");
    let counted = serde_json::to_value(master.control().ask("metrics", &[]).data).expect("JSON");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let asked = counting_master(&path, status, counted);
    let count = || asked.load(Ordering::SeqCst);
    let serving = Serving::start(&path);
    // While nobody reads, nothing is due: it sleeps until somebody connects.
    let wait_idle = || {
        let is_idle = || serving.process().sleeps_without_limit().then_some(());
        wait_for("serve to sleep without a limit", is_idle);
    };
    wait_idle();
    assert_eq!(count(), 0);
    assert_eq!(serving.get("/metrics").status, 200);
    assert_eq!(count(), 2, "the pool and what was counted");
    assert_eq!(serving.get("/").status, 200);
    wait_idle();
    assert_eq!(count(), 2);
    let mut readers = [serving.events(), serving.events(), serving.events()];
    for reader in &mut readers {
        reader.wait("picture", |_| true);
    }
    let first = count();
    assert!((3..=4).contains(&first), "{first}: one picture for all who read, or one more for who came late");
    for reader in &mut readers {
        reader.wait("picture", |_| true);
    }
    assert!(count() <= first + 2, "{} requests for two pictures", count());
    drop(readers);
    wait_idle();
    let last = count();
    assert_eq!(serving.get("/metrics").status, 200);
    assert_eq!(count(), last + 2);
}

fn a_master_that_hangs_holds_up_nobody_but_who_asks_for_it() {
    let mut master = Master::builder().workers(1).start();
    let serving = Serving::start(master.socket());
    assert_eq!(serving.get("/metrics").status, 200);
    master.signal(Signal::SIGSTOP);
    thread::scope(|scope| {
        let asked: Vec<_> = (0..5).map(|_| scope.spawn(|| serving.get("/metrics"))).collect();
        let history = scope.spawn(|| serving.get("/history.json"));
        assert_eq!(serving.get("/").status, 200, "meanwhile");
        for answer in asked.into_iter().chain([history]) {
            let answer = answer.join().expect("an answer");
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(answer.body.contains("no answer"), "{answer:?}");
        }
    });
    master.signal(Signal::SIGCONT);
    wait_for("an answer", || (serving.get("/metrics").status == 200).then_some(()));
    master.assert_well(1);
}

fn a_master_that_was_killed_is_found_again() {
    let builder = Master::builder().workers(1);
    let mut master = builder.start();
    let socket = master.socket().to_owned();
    let serving = Serving::start(&socket);
    let mut events = serving.events();
    events.wait("picture", |picture| picture["link"]["link"] == "found");
    let workers = master.workers_up();
    master.signal(Signal::SIGKILL);
    master.wait_exit();
    let lost = events.wait("picture", |picture| picture["link"]["link"] == "lost");
    assert!(lost["link"]["why"].as_str().is_some_and(|why| why.contains("cannot connect")), "{lost}");
    assert_eq!(lost["status"]["master"]["wanted"], 1, "how it was");
    for path in ["/metrics", "/status.json", "/history.json"] {
        let answer = serving.get(path);
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.body.contains("cannot connect"), "{answer:?}");
    }
    for worker in workers {
        worker.signal(Signal::SIGKILL);
    }
    let next = Master::builder().without_socket().options(["-d", socket.to_str().expect("UTF-8")]);
    let mut next = next.start_unready();
    next.at_socket(&socket);
    let found = events.wait("picture", |picture| picture["link"]["count"] == 2);
    assert_eq!(found["status"]["master"]["pid"], next.process().pid());
    assert_eq!(serving.get("/metrics").status, 200);
    next.ctl(["inc"]).assert_code(0);
    events.wait("event", |event| event["notice"]["event"] == "resized");
}
