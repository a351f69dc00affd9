//! A real Prometheus scrapes `einhyrningsinsctl serve` through deploys.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tests::process::{Captured, run_with_input};
use tests::serving::Answer;
use tests::wait::wait_for;
use tests::{Master, Releases, Serving};

tests::trials! {
    prometheus_scrapes_a_pool_through_upgrades_and_a_reload needs "prometheus" "promtool",
}

/// A Prometheus with a target, and the shipped alerts. It goes when it is dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    log: Captured,
}

impl Prometheus {
    fn start(directory: &Path, target: SocketAddr) -> Self {
        let alerts =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../einhyrningsins/contrib/prometheus/alerts.yml");
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms }}\n\
             rule_files: [{}]\n\
             scrape_configs: [{{ job_name: web, static_configs: [{{ targets: ['{target}'] }}] }}]\n",
            alerts.display()
        );
        let file = directory.join("prometheus.yml");
        fs::write(&file, config).expect("a file");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("its address");
        drop(free);
        let log = Captured::new();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        command.stdin(Stdio::null()).stdout(log.writer()).stderr(log.writer());
        let child = command.spawn().expect("prometheus");
        let prometheus = Self { child, address, log };
        wait_for("prometheus to be ready", || (prometheus.get("/-/ready")?.status == 200).then_some(()));
        prometheus
    }

    fn get(&self, path: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).ok()?;
        Some(Answer::read(stream))
    }

    /// The value of an expression that gives one; `None` if it gives none.
    fn value(&self, expression: &str) -> Option<f64> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}"))?.json();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let results = answer["data"]["result"].as_array().expect("a vector");
        assert!(results.len() <= 1, "{expression}: {answer}");
        results.first()?["value"][1].as_str()?.parse().ok()
    }

    #[track_caller]
    fn wait_value(&self, expression: &str, expected: f64) {
        let mut last = None;
        let is_it = || {
            last = self.value(expression);
            (last == Some(expected)).then_some(())
        };
        let found = tests::wait::within(tests::wait::patience(), is_it);
        assert!(found.is_some(), "{expression} is {last:?}, not {expected}\n{}", self.log.text());
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn prometheus_scrapes_a_pool_through_upgrades_and_a_reload() {
    let builder = Master::builder().workers(3).options(["-s", "0.01", "-r", "1"]);
    let directory = builder.file("prometheus");
    let releases = Releases::new(builder.file("app"));
    releases.add(2, "version=2");
    releases.add(3, "exit_before_ack=3");
    let mut master = releases.run_by(builder).start();
    let serving = Serving::start(master.socket());
    fs::create_dir(&directory).expect("a directory");
    let prometheus = Prometheus::start(&directory, serving.address());
    prometheus.wait_value("up", 1.0);
    let upgrades = |outcome: &str, count: f64| {
        let metric = format!("einhyrningsins_upgrades_total{{kind=\"upgrade\",outcome=\"{outcome}\"}}");
        prometheus.wait_value(&metric, count);
    };
    upgrades("done", 0.0);
    prometheus.wait_value("einhyrningsins_workers{state=\"up\",release=\"current\"}", 3.0);
    for round in 1..=2 {
        releases.link(2);
        master.ctl(["upgrade"]).assert_code(0);
        upgrades("done", f64::from(round));
        master.ctl(["reload"]).assert_code(0);
        prometheus.wait_value("einhyrningsins_master_reexecs_total", f64::from(round));
    }
    releases.link(3);
    master.ctl(["upgrade"]).assert_code(1);
    upgrades("rolled_back", 1.0);
    master.wait_up(3);
    prometheus.wait_value("sum(einhyrningsins_workers{state=\"up\"})", 3.0);
    prometheus.wait_value("count(einhyrningsins_worker_resident_memory_bytes > 1000000)", 3.0);
    prometheus.wait_value("resets(einhyrningsins_worker_spawns_total[1h])", 0.0);
    // No scrape has failed on the way.
    prometheus.wait_value("min_over_time(up[1h])", 1.0);
    assert!(prometheus.value("count_over_time(up[1h])").is_some_and(|count| count > 3.0));
    let alerting = prometheus.get("/api/v1/rules").expect("rules").json();
    let rules = alerting["data"]["groups"][0]["rules"].as_array().expect("rules");
    assert!(rules.len() > 4, "{alerting}");
    let healths = || {
        let rules = prometheus.get("/api/v1/rules")?.json();
        let rules = rules["data"]["groups"][0]["rules"].as_array()?.clone();
        rules.iter().all(|rule: &Value| rule["health"] == "ok").then_some(())
    };
    wait_for("every alert to be evaluated", healths);
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]);
    let checked = run_with_input(promtool, &serving.get("/metrics").body);
    checked.assert_code(0);
    assert_eq!((checked.stdout.as_str(), checked.stderr.as_str()), ("", ""));
}
