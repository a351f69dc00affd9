// Shows what /events sends. Every text from the master is set as text, never as markup.
import {
  $, age, bytes, clock, count, drawPlot, el, known, moment, percent, plot, setChildren, setText, show, top, topBytes,
} from "/parts.js";

const GRID_ABOVE = 60;           // slots: more are a grid of cells, rather than rows
const EVENTS_MAX = 20;
const DEPLOYS_MAX = 30;
const PLOTTED_MS = 15 * 60e3;
const SILENT_MS = 25e3;          // without any event for this long, the connection is made anew
const RETRY_MS = [500, 1000, 2000, 5000];
const KEY = "einhyrningsins-token";

// --- what is known
let token = null;
let picture = null;       // the last one; events that came since are applied to it
let took = 0;             // when it came, on this browser's clock
let rollouts = null;      // of /history.json
let points = [];
let events = [];
let chosen = null;        // a slot, in the grid
let link = { state: "wait", text: "connecting" };

function takeToken() {
  const given = /(?:^#|&)token=([^&]*)/.exec(location.hash);
  if (given) {
    token = decodeURIComponent(given[1]);
    // It stays out of the history of the browser, and with this tab.
    history.replaceState(null, "", location.pathname);
    sessionStorage.setItem(KEY, token);
  } else {
    token = sessionStorage.getItem(KEY);
  }
}
function askToken(why) {
  sessionStorage.removeItem(KEY);
  if (why) setText($("ask-why"), why);
  show($("ask"), true);
  show($("main"), false);
  setLink("wait", "waiting for a token");
  $("token").focus();
}
const authorized = (path, more) => fetch(path, { headers: { Authorization: `Bearer ${token}` }, cache: "no-store", ...more });

// --- events from the server
let running = null;       // what aborts the connection
async function follow() {
  try {
    await keepFollowing();
  } finally {
    running = null;
  }
}
async function keepFollowing() {
  let failures = 0;
  while (!document.hidden && token) {
    const abort = new AbortController();
    running = abort;
    let silence = null;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => abort.abort(), SILENT_MS);
    };
    try {
      heard();
      const answer = await authorized("/events", { signal: abort.signal });
      if (answer.status === 401) {
        token = null;
        askToken("That token is not the one of this server.");
        return;
      }
      if (!answer.ok) throw new Error((await answer.text()).trim());
      show($("ask"), false);
      askHistory();
      await read(answer.body.getReader(), () => { failures = 0; heard(); });
      throw new Error("the server has closed the connection");
    } catch (error) {
      if (document.hidden) break;
      setLink("lost", abort.signal.aborted ? "no connection to serve" : `no connection to serve: ${error.message}`);
    } finally {
      clearTimeout(silence);
      abort.abort();
    }
    await new Promise((done) => setTimeout(done, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]));
    failures += 1;
  }
}
async function read(reader, heard) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    text += decoder.decode(value, { stream: true });
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const found = /^event: (\w+)\ndata: (.*)$/.exec(part);
      if (!found) continue;
      try {
        handle(found[1], JSON.parse(found[2]));
      } catch (error) {
        // A master of another version may say what this page does not know.
        console.error(error);
      }
    }
  }
}
function handle(kind, data) {
  if (kind === "start") {
    points = data.points;
    events = data.events.filter((each) => each.severity !== "debug");
    setText($("foot"), `Nothing on this page changes the pool. einhyrningsinsctl ${data.version}`);
  } else if (kind === "picture") {
    const before = picture;
    picture = data;
    took = performance.now();
    addPoint(data);
    if (data.link.link === "found") setLink("live", "live");
    else setLink("lost", "the master does not answer");
    const fact = (of) => of && of.status && JSON.stringify([of.status.master.pid, of.status.master.generation,
      !of.status.upgrade, of.status.last_upgrade && of.status.last_upgrade.generation]);
    if (isHistoryDue || (before && fact(before) !== fact(data))) askHistory();
  } else if (kind === "event") {
    if (data.severity !== "debug") events.push(data);
    events = events.slice(-EVENTS_MAX);
    if (data.notice) apply(data.notice);
  }
  render();
}
function addPoint(data) {
  const last = points[points.length - 1];
  if (last && data.at_ms - last.at_ms < 1000 && data.at_ms >= last.at_ms) return;
  const queues = data.status ? data.status.listeners.map((listener) => queueOf(listener).length) : [];
  points.push({
    at_ms: data.at_ms, queues,
    resident_bytes: data.total ? data.total.resident_bytes : null,
    cpu_percent: data.total ? data.total.cpu_percent : null,
  });
  points = points.filter((point) => point.at_ms > data.at_ms - PLOTTED_MS && point.at_ms <= data.at_ms);
}
let asking = null;
let isHistoryDue = false; // the last answer was none
function askHistory() {
  clearTimeout(asking);
  asking = setTimeout(async () => {
    try {
      const answer = await authorized("/history.json");
      isHistoryDue = !answer.ok;
      if (isHistoryDue) return;
      ({ rollouts } = await answer.json());
      render();
    } catch { isHistoryDue = true; }
  }, 200);
}

/** Changes the last picture by an event, so that it is right until the next one. */
function apply(notice) {
  const status = picture && picture.status;
  if (!status) return;
  const workers = status.workers;
  const at = workers.findIndex((worker) => worker.pid === (notice.pid ?? (notice.death && notice.death.pid)));
  const worker = workers[at];
  switch (notice.event) {
    case "spawned":
      if (!worker) {
        const { slot, pid, index, generation } = notice;
        workers.push({ slot, pid, index, generation, state: "starting", age_ms: -sinceTaken() });
        if (picture.usages.length) picture.usages.push(null);
      }
      break;
    case "acked": if (worker) worker.state = "up"; break;
    case "draining": if (worker) worker.state = "draining"; break;
    case "drained":
    case "died":
      if (worker) {
        workers.splice(at, 1);
        picture.usages.splice(at, 1);
      }
      break;
    case "upgrade_started":
      status.upgrade = {
        kind: notice.kind, stage: "replacing", generation: notice.generation, from: status.master.generation,
        upgraded: 0, wanted: notice.workers, starting: 0, age_ms: -sinceTaken(),
      };
      break;
    case "rollback_started":
      if (status.upgrade) status.upgrade.stage = "rolling_back";
      break;
    case "upgrade_done":
      status.upgrade = null;
      status.master.generation = notice.generation;
      askHistory();
      break;
    case "upgrade_failed":
    case "upgrade_reported":
      status.upgrade = null;
      askHistory();
      break;
  }
  if (status.upgrade && status.upgrade.stage === "replacing") {
    const { generation } = status.upgrade;
    const count = (state) => workers.filter((each) => each.generation === generation && each.state === state).length;
    status.upgrade.upgraded = count("up");
    status.upgrade.starting = count("starting");
  }
  status.master.up = workers.filter((each) => each.state === "up" && typeof each.slot === "number").length;
}
const sinceTaken = () => performance.now() - took;

// --- the page
function setLink(state, text) {
  link = { state, text };
  render();
}
let isDue = false;
function render() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => { isDue = false; draw(); });
}
function draw() {
  $("link").dataset.state = link.state;
  setText($("link"), link.text);
  const status = picture && picture.status;
  const isLost = picture && picture.link.link === "lost";
  show($("lost"), isLost || (link.state === "lost" && status));
  if (isLost) {
    const { why, hint } = picture.link;
    setText($("lost"), `The master does not answer: ${why}${hint ? ` (${hint})` : ""}. ${status ? "What follows is how it was." : ""}`);
  } else if (link.state === "lost") {
    setText($("lost"), `${link.text}. What follows is how it was.`);
  }
  show($("main"), Boolean(picture) && $("ask").hidden);
  for (const section of document.querySelectorAll("main > section")) show(section, Boolean(status));
  if (!status) return;
  drawRuns(status);
  drawPlots(status);
  drawSlots(status);
  drawListeners(status);
  drawDeploys();
  drawEvents();
}

function releaseOf(status, generation) {
  const release = status.releases.find((each) => each.generation === generation);
  const name = release && (release.label || release.real_directory.split("/").pop());
  return name || `generation ${generation}`;
}
function drawRuns(status) {
  const { master, upgrade } = status;
  // While a rollout runs, the master's generation is the one that it begins.
  const serving = upgrade && upgrade.from ? upgrade.from : master.generation;
  const name = master.name || master.command[0].split("/").pop();
  setText($("title"), name);
  document.title = `${name}: ${master.up} of ${master.wanted} up`;
  setText($("release"), releaseOf(status, serving));
  const done = (rollouts || []).filter((each) => each.generation === serving && each.outcome === "done").pop();
  // The first generation began with the master; of any other, the history tells.
  const first = serving === 1 ? picture.at_ms - master.age_ms : null;
  const since = done ? Date.parse(done.ended_at) : first;
  const ended = status.last_upgrade;
  const facts = [
    ["Generation", String(serving)],
    ["Since", since ? `${moment(since)} (${age(Date.now() - since)})` : "not known"],
    ["Workers", `${master.up} of ${master.wanted} up`],
    ["Master", `${master.state}, pid ${master.pid}, ${age(master.age_ms + sinceTaken())}`],
    ["Version", master.version],
    ["Command", master.command.join(" ")],
  ];
  if (ended && ended.outcome !== "done" && !upgrade) {
    facts.push(["Last deploy", `generation ${ended.generation} ${ended.outcome.replace("_", " ")}`]);
  }
  setChildren($("facts"), ...facts.map(([term, value]) => el("div", { class: term === "Command" || value.length > 40 ? "long" : null }, el("dt", null, term), el("dd", null, value))));
  show($("rollout"), Boolean(upgrade));
  if (!upgrade) return;
  const words = {
    resolving: "begins", checking: "is checked", replacing: "replaces workers", soaking: "soaks", rolling_back: "rolls back",
  };
  const what = upgrade.kind === "rollback" ? "Rollback" : "Upgrade";
  const parts = [
    `${what} to ${releaseOf(status, upgrade.generation)} (generation ${upgrade.generation}) ${words[upgrade.stage] || upgrade.stage}`,
    `${upgrade.upgraded} of ${upgrade.wanted} acked`,
    upgrade.starting ? `${upgrade.starting} starting` : null,
    upgrade.soak_left_ms ? `${age(upgrade.soak_left_ms - sinceTaken())} of the soak left` : null,
    age(upgrade.age_ms + sinceTaken()),
  ];
  setText($("rollout-text"), parts.filter(Boolean).join(", "));
  $("rollout-bar").max = Math.max(1, upgrade.wanted);
  $("rollout-bar").value = upgrade.upgraded;
}

function drawPlots(status) {
  const { total } = picture;
  const holder = $("plots");
  drawPlot(plot(holder, "memory", "memory"), points, {
    name: "Memory (RSS)", value: known(total && total.resident_bytes, bytes), of: (point) => point.resident_bytes,
    highest: topBytes, words: bytes,
  });
  drawPlot(plot(holder, "cpu", "cpu"), points, {
    name: "CPU (one core is 100 %)", value: known(total && total.cpu_percent, percent), of: (point) => point.cpu_percent,
    highest: (values) => top(values, 1), words: percent,
  });
  const limit = status.master.max_rss;
  show($("unseen"), Boolean(picture.unseen || limit));
  if (picture.unseen) setText($("unseen"), `Memory and CPU are not known: ${picture.unseen}.`);
  else if (limit) setText($("unseen"), `A worker that grows beyond ${bytes(limit)} is replaced.`);
}
function queueOf(listener) {
  const queues = listener.slots && listener.slots.length
    ? listener.slots.map((slot) => slot.queue) : [listener.queue];
  const there = queues.filter(Boolean);
  if (!there.length) return { length: null, limit: null, drops: null };
  const sum = (of) => there.reduce((sum, queue) => sum + (queue[of] || 0), 0);
  return { length: sum("length"), limit: sum("limit"), drops: sum("drops") };
}
function drawListeners(status) {
  const holder = $("listeners");
  status.listeners.forEach((listener, number) => {
    const queue = queueOf(listener);
    const unit = listener.kind.includes("udp") || listener.kind.includes("dgram") ? " bytes" : "";
    const drops = queue.drops ? `, ${queue.drops} dropped` : "";
    drawPlot(plot(holder, `listener-${number}`, "queue"), points, {
      name: `${listener.address} (${listener.kind})`,
      value: queue.length === null ? "queue unknown" : `${queue.length} of ${queue.limit}${unit} wait${drops}`,
      of: (point) => point.queues[number],
      highest: (values) => top(values, 10),
      words: (value) => `${value}${unit}`,
    });
  });
  while (holder.children.length > status.listeners.length) holder.lastChild.remove();
  if (!status.listeners.length) holder.replaceChildren(el("p", { class: "faint" }, "There are none."));
}

// --- slots
const MARKS = { up: "", starting: "▲", draining: "▼", empty: "–", bad: "✕" };
function slotRows(status) {
  const usage = new Map(status.workers.map((worker, number) => [worker.pid, picture.usages[number]]));
  const of = new Map();
  for (const worker of status.workers) {
    const all = of.get(worker.slot) || [];
    all.push(worker);
    of.set(worker.slot, all);
  }
  const rank = { up: 2, starting: 1, draining: 0 };
  return status.slots.map((slot) => {
    const workers = (of.get(slot.slot) || []).slice().sort((a, b) => rank[b.state] - rank[a.state]);
    const worker = workers[0];
    const others = workers.slice(1);
    const notes = others.map((each) => `${each.state === "starting" ? "successor" : "worker"} ${each.pid} ${each.state}`);
    const row = { slot, worker, usage: worker && usage.get(worker.pid), notes };
    row.isPassing = others.some((each) => each.state === "starting");
    row.isOld = Boolean(worker && worker.generation !== status.master.generation);
    if (slot.given_up) row.state = ["bad", "given up"];
    else if (!worker) {
      row.state = ["empty", "empty"];
      if (slot.next_spawn_ms) row.notes.push(`next spawn in ${age(Math.max(0, slot.next_spawn_ms - sinceTaken()))}`);
    } else {
      row.state = [worker.state, worker.state];
    }
    if (worker && worker.stopped) row.notes.push("stopped by a signal");
    if (slot.tries > 1 && slot.last_death) row.notes.push(`${slot.last_death.reason}, ${slot.tries} tries`);
    return row;
  });
}
function drawSlots(status) {
  const rows = slotRows(status);
  const counts = new Map();
  for (const row of rows) counts.set(row.state[0], (counts.get(row.state[0]) || 0) + 1);
  const drains = status.workers.filter((worker) => worker.state === "draining").length;
  const words = { up: "up", starting: "starting", draining: "draining", empty: "empty", bad: "given up" };
  const legend = Object.keys(words).filter((state) => counts.get(state)).map((state) =>
    el("li", { class: `state ${state}` }, `${count(counts.get(state), "slot")} ${words[state]}${MARKS[state] && rows.length > GRID_ABOVE ? ` ${MARKS[state]}` : ""}`));
  const passing = rows.filter((row) => row.isPassing).length;
  if (passing) legend.push(el("li", { class: "state starting" }, `${count(passing, "successor")} starting ${MARKS.starting}`));
  if (drains) legend.push(el("li", { class: "state draining" }, `${count(drains, "old worker")} draining`));
  setChildren($("legend"), ...legend);
  const isGrid = rows.length > GRID_ABOVE;
  show($("slots"), !isGrid);
  show($("grid"), isGrid);
  show($("chosen"), isGrid);
  if (isGrid) drawGrid(rows);
  else drawTable(rows);
}
function details({ slot, worker, usage, notes }) {
  return {
    age: known(worker && worker.age_ms, (ms) => age(ms + sinceTaken())),
    memory: known(usage && usage.resident_bytes, bytes),
    cpu: known(usage && usage.cpu_percent, percent),
    generation: known(worker && worker.generation, String),
    pid: known(worker && worker.pid, String),
    restarts: String(slot.restarts),
    text: (worker && worker.text) || "",
    notes: notes.join("; "),
  };
}
function drawTable(rows) {
  const cell = (text, kind) => el("td", { class: kind }, text);
  setChildren($("slots").tBodies[0], ...rows.map((row) => {
    const shown = details(row);
    const state = el("td", null, el("span", { class: `state ${row.state[0]}` }, row.state[1]),
      shown.notes ? el("span", { class: "note" }, shown.notes) : null,
      row.isOld ? el("span", { class: "note narrow" }, `generation ${row.worker.generation}`) : null);
    return el("tr", { "data-slot": row.slot.slot },
      el("th", { scope: "row", class: "num" }, String(row.slot.slot)), state, cell(shown.age, "num"),
      cell(shown.memory, "num"), cell(shown.cpu, "num"), cell(shown.generation, "num wide"),
      cell(shown.pid, "num wide"), cell(shown.restarts, "num wide"), cell(shown.text, "wide"));
  }));
}
function drawGrid(rows) {
  const grid = $("grid");
  while (grid.children.length > rows.length) grid.lastChild.remove();
  rows.forEach((row, number) => {
    let cell = grid.children[number];
    if (!cell) {
      cell = el("button", { type: "button" }, el("span", { class: "number" }), el("span", { class: "mark", "aria-hidden": "true" }));
      cell.addEventListener("click", () => { chosen = number; draw(); });
      grid.append(cell);
    }
    const text = rowText(row);
    cell.className = `cell ${row.state[0]}`;
    cell.dataset.slot = row.slot.slot;
    cell.title = text;
    cell.setAttribute("aria-label", text);
    cell.setAttribute("aria-pressed", String(chosen === number));
    setText(cell.firstChild, String(row.slot.slot));
    setText(cell.lastChild, row.isPassing ? MARKS.starting : MARKS[row.state[0]]);
  });
  const row = rows[chosen];
  setText($("chosen"), row ? rowText(row) : "Choose a slot to see more of it.");
}
function rowText(row) {
  const shown = details(row);
  const parts = [
    `Slot ${row.slot.slot}: ${row.state[1]}`,
    row.worker ? `age ${shown.age}, RSS ${shown.memory}, CPU ${shown.cpu}, generation ${shown.generation}, pid ${shown.pid}` : null,
    `${count(row.slot.restarts, "restart")}`, shown.notes || null, shown.text || null,
  ];
  return parts.filter(Boolean).join("; ");
}

// --- lists
function drawDeploys() {
  const list = $("deploys");
  const shown = (rollouts || []).slice(-DEPLOYS_MAX).reverse();
  const items = shown.map((each) => {
    const outcome = each.untouched ? `${each.outcome.replace("_", " ")}, no worker touched` : each.outcome.replace("_", " ");
    const what = each.kind === "rollback" ? "Rollback" : "Upgrade";
    const kind = each.outcome === "done" ? "good" : each.outcome === "superseded" ? "" : "wrong";
    const who = [each.who, each.with].filter((word) => word && word !== "-").join(" with ");
    const facts = [each.order !== "smooth" ? each.order : null, `took ${age(each.took_ms)}`, who ? `by ${who}` : null];
    const left = each.listening ? `${count(each.listening, "old worker")} left processes that hold a listener and may still serve` : null;
    const ended = each.ended_with ? `ended by ${each.ended_with}` : null;
    const why = [each.reason, left, ended].filter(Boolean).join("; ");
    return el("li", null, el("span", { class: "when" }, moment(Date.parse(each.ended_at))),
      el("span", { class: "what" }, `${what} to ${each.release ? `${each.release}, ` : ""}generation ${each.generation}`),
      el("span", { class: `outcome ${kind}` }, outcome),
      el("span", { class: "more" }, facts.filter(Boolean).join(", ")),
      why ? el("span", { class: "why" }, why) : null);
  });
  setChildren(list, ...(items.length ? items : [el("li", { class: "faint" }, rollouts ? "No upgrade or rollback has ended yet." : "Not known yet.")]));
}
function drawEvents() {
  const items = events.slice().reverse().map((each) =>
    el("li", null, el("span", { class: "when" }, clock(each.at_ms)),
      el("span", { class: each.severity === "error" || each.severity === "warn" ? each.severity : null },
        each.severity === "error" || each.severity === "warn" ? `${each.severity}: ${each.message}` : each.message)));
  setChildren($("events"), ...(items.length ? items : [el("li", { class: "faint" }, "None since somebody reads this page.")]));
}

// --- begin
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  sessionStorage.setItem(KEY, token);
  $("token").value = "";
  if (!running) follow();
});
// Nobody reads a page that is hidden, so the master need not be asked for it.
document.addEventListener("visibilitychange", () => {
  if (document.hidden && running) running.abort();
  else if (!document.hidden && token && !running) follow();
});
window.addEventListener("hashchange", () => {
  takeToken();
  if (token && !running) follow();
});
setInterval(() => { if (picture && !document.hidden) render(); }, 1000);
takeToken();
if (token) follow();
else askToken();
