//! The page of `einhyrningsinsctl serve`, in a real browser.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::json;
use tests::browser::Browser;
use tests::{Gate, Master, Releases, Serving};

tests::trials! {
    an_upgrade_and_one_that_is_rolled_back_are_seen_as_they_happen needs "chromium",
    the_page_of_a_master_that_was_killed_finds_the_next_one needs "chromium",
    the_page_wants_a_token_and_keeps_it_out_of_its_address needs "chromium",
    whatever_workers_and_deploys_are_called_stays_text needs "chromium",
    the_page_fits_a_telephone_in_light_and_dark needs "chromium",
}

/// The text of the cells of a slot's row.
fn row(slot: u32) -> String {
    format!("document.querySelector('#slots tr[data-slot=\"{slot}\"]').innerText")
}

/// Whether a person sees the text in an element. Of one that is hidden, `innerText` would give it too.
fn contains(selector: &str, text: &str) -> String {
    let node = format!("document.querySelector({})", json!(selector));
    format!("{node}.checkVisibility() && {node}.innerText.includes({})", json!(text))
}

/// What the page complained of, but for what a test brings about: requests without an answer.
fn complaints(browser: &Browser) -> Vec<String> {
    let mut log = browser.log();
    log.retain(|entry| {
        !["net::ERR_", "status of 401", "status of 503"].iter().any(|part| entry.contains(part))
    });
    log
}

fn an_upgrade_and_one_that_is_rolled_back_are_seen_as_they_happen() {
    let builder = Master::builder().workers(3).options(["-s", "0.01", "--max-unacked", "1", "-r", "1"]);
    let gate_file = builder.file("gate");
    let mut gate = Gate::closed(gate_file.clone());
    let releases = Releases::new(builder.file("app"));
    releases.add(2, &gate.knob());
    releases.add(3, "exit_before_ack=3");
    let master = releases.run_by(builder).start();
    let serving = Serving::start(master.socket());
    let browser = Browser::start();
    browser.open(&serving.page());
    browser.wait(&contains("#link", "live"));
    browser.wait(&contains("#facts", "3 of 3 up"));
    for slot in 0..3 {
        browser.wait(&format!("/^{slot}\\s+up/.test({})", row(slot)));
        browser.wait(&format!("/[0-9.]+M/.test({})", row(slot)));
    }
    browser.wait(&contains("#listeners", &format!("{} (tcp)", master.address())));
    browser.wait(&contains("#deploys", "No upgrade or rollback has ended yet."));
    assert!(!browser.holds("document.querySelector('#rollout').offsetHeight"), "no rollout runs");

    releases.link(2);
    let upgrade = std::thread::spawn({
        let command = master.ctl_command(["upgrade", "--label", "v2"]);
        move || tests::process::run(command)
    });
    browser.wait("document.querySelector('#rollout').offsetHeight");
    browser.wait(&contains("#rollout-text", "Upgrade to"));
    browser.wait(&contains("#rollout-text", "0 of 3 acked"));
    browser.wait(&contains("#rollout-text", "1 starting"));
    browser.wait(&contains("#slots", "starting"));
    assert!(browser.holds(&contains("#facts", "3 of 3 up")), "nothing is taken away");
    assert_eq!(browser.run("return document.querySelector('#rollout-bar').max"), 3);
    gate.open();
    upgrade.join().expect("a client").assert_code(0);
    browser.wait("!document.querySelector('#rollout').offsetHeight");
    browser.wait("document.querySelector('#release').innerText === 'v2'");
    browser.wait(&contains("#deploys", "Upgrade to v2, generation 2"));
    browser.wait(&contains("#deploys", "done"));
    browser.wait(&contains("#events", "upgrade to generation 2 done"));

    releases.link(3);
    master.ctl(["upgrade", "--label", "v3"]).assert_code(1);
    browser.wait(&contains("#deploys", "Upgrade to v3, generation 3"));
    browser.wait(&contains("#deploys", "rolled back"));
    browser.wait(&contains("#deploys", "exited with status 3"));
    browser.wait(&contains("#facts", "generation 3 rolled back"));
    assert_eq!(browser.text("#release"), "v2", "what runs");
    browser.wait(&contains("#facts", "3 of 3 up"));
    assert_eq!(complaints(&browser), [""; 0]);
    drop(master);
    let _ = fs::remove_file(gate_file);
}

fn the_page_of_a_master_that_was_killed_finds_the_next_one() {
    let mut master = Master::builder().workers(1).start();
    let socket = master.socket().to_owned();
    let mut serving = Serving::start(&socket);
    let browser = Browser::start();
    browser.open(&serving.page());
    browser.wait(&contains("#link", "live"));
    let workers = master.workers_up();
    master.signal(Signal::SIGKILL);
    master.wait_exit();
    browser.wait(&contains("#lost", "The master does not answer: cannot connect"));
    browser.wait(&contains("#lost", "how it was"));
    browser.wait(&contains("#link", "the master does not answer"));
    for worker in workers {
        worker.signal(Signal::SIGKILL);
    }
    let next = Master::builder().workers(2).without_socket();
    let mut next = next.options(["-d", socket.to_str().expect("UTF-8")]).start_unready();
    next.at_socket(&socket);
    browser.wait(&contains("#link", "live"));
    browser.wait("!document.querySelector('#lost').offsetHeight");
    browser.wait(&contains("#facts", "2 of 2 up"));
    browser.wait(&contains("#facts", &format!("pid {}", next.process().pid())));
    // And when the server itself goes.
    serving.signal(Signal::SIGTERM);
    serving.wait_exit_code(0);
    browser.wait(&contains("#lost", "no connection to serve"));
    assert_eq!(complaints(&browser), [""; 0]);
}

fn the_page_wants_a_token_and_keeps_it_out_of_its_address() {
    let master = Master::builder().workers(1).start();
    let serving = Serving::start(master.socket());
    let browser = Browser::start();
    let page = format!("http://{}/", serving.address());
    browser.open(&page);
    browser.wait("document.querySelector('#ask').offsetHeight");
    assert!(!browser.holds("document.querySelector('main').offsetHeight"));
    let enter = |token: &str| {
        browser.run(&format!(
            "document.querySelector('#token').value = {}; document.querySelector('#ask button').click()",
            json!(token)
        ));
    };
    enter("not the token");
    browser.wait(&contains("#ask", "not the one of this server"));
    enter(serving.token());
    browser.wait(&contains("#facts", "1 of 1 up"));
    assert!(!browser.holds("document.querySelector('#ask').offsetHeight"));
    // In this tab it stays, also over a reload.
    browser.open(&page);
    browser.wait(&contains("#facts", "1 of 1 up"));
    browser.open("about:blank");
    browser.open(&serving.page());
    browser.wait(&contains("#facts", "1 of 1 up"));
    assert_eq!(browser.run("return location.href"), page.as_str(), "the token is out of the address");
    assert_eq!(complaints(&browser), [""; 0]);
}

fn whatever_workers_and_deploys_are_called_stays_text() {
    let evil = "<img src=x onerror='document.title=1'><script>document.title=1</script>";
    let mut master = Master::builder().workers(1).start();
    let serving = Serving::start(master.socket());
    let browser = Browser::start();
    browser.open(&serving.page());
    browser.wait(&contains("#link", "live"));
    master.ctl(["upgrade", "--label", evil]).assert_code(0);
    let worker = master.workers_up()[0];
    browser.wait(&format!("document.querySelector('#release').innerText === {}", json!(evil)));
    browser.wait(&contains("#deploys", evil));
    browser.wait(&format!("{}.includes('{}')", row(0), worker.pid()));
    assert_eq!(browser.run("return document.querySelectorAll('main img, main script').length"), 0);
    assert!(browser.holds("document.title.includes('1 of 1 up')"));
    assert_eq!(complaints(&browser), [""; 0], "nothing that the policy had to stop");
}

fn the_page_fits_a_telephone_in_light_and_dark() {
    for workers in [4, 70] {
        let master = Master::builder().workers(workers).serve(["chatter=2", "ack=notify"]).start();
        master.ctl(["upgrade", "--label", &"long-label-".repeat(11)]).assert_code(0);
        let serving = Serving::start(master.socket());
        let browser = Browser::start();
        browser.open(&serving.page());
        browser.wait(&contains("#facts", &format!("{workers} of {workers} up")));
        browser.wait(&contains("#deploys", "done"));
        for (width, is_dark) in [(360, false), (360, true), (1200, false), (1200, true)] {
            browser.show_on(width, 740, is_dark);
            browser.wait(&format!("innerWidth === {width}"));
            let wide = browser.run("return document.documentElement.scrollWidth");
            assert!(wide.as_u64() <= Some(width.into()), "{wide} of {width} columns, {workers} workers");
            assert_eq!(browser.run(CONTRAST), json!([]), "too little contrast, dark: {is_dark}");
        }
        let is_grid = workers > 60;
        assert_eq!(browser.holds("document.querySelector('#grid').offsetHeight"), is_grid);
        assert_eq!(browser.holds("document.querySelector('#slots').offsetHeight"), !is_grid);
        if is_grid {
            assert_eq!(browser.run("return document.querySelectorAll('#grid .cell.up').length"), workers);
            browser.run("document.querySelector('#grid [data-slot=\"69\"]').click()");
            browser.wait(&contains("#chosen", "Slot 69: up; age "));
        }
        assert_eq!(complaints(&browser), [""; 0]);
    }
}

/// The texts on the page whose contrast with what is behind them is below 4.5, which is what WCAG 2.1 wants (1.4.3).
const CONTRAST: &str = r"
const parts = (color) => color.match(/[0-9.]+/g).map(Number);
const light = (color) => {
  const [r, g, b] = parts(color).map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const color = getComputedStyle(node).backgroundColor;
    if ((parts(color)[3] ?? 1) > 0) return color;
  }
  return 'rgb(255, 255, 255)';
};
const found = new Set();
for (const node of document.querySelectorAll('body *')) {
  const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!own || !node.offsetHeight) continue;
  const [a, b] = [light(getComputedStyle(node).color), light(behind(node))];
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) found.add(`${node.tagName}.${node.className} ${contrast.toFixed(2)}`);
}
return [...found];";
