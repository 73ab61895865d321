// The monitor's page. It shows what /api/events sends, and asks /api/command for everything that it does; the command line
// uses the same API. All text goes into the page as text, never as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
let token = sessionStorage.getItem("byway-token") || "";
if (location.hash.length > 1) {
  token = decodeURIComponent(location.hash.slice(1));
  sessionStorage.setItem("byway-token", token);
  // It does not stay in the address, which people copy.
  history.replaceState(null, "", location.pathname);
}

function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") made.addEventListener("click", value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function drawing(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const percent = (share) => `${(100 * share).toFixed(0)} %`;
const millis = (time) => (time === null ? "–" : `${time < 10 ? time.toFixed(1) : time.toFixed(0)} ms`);

function status(text, bad = false) {
  if ($("status").textContent !== text) $("status").textContent = text;
  $("status").className = bad ? "bad" : "";
}

// Shares now and as the model proposes them.
function shares(server) {
  const bar = (y, share, kind) => [
    drawing("rect", { x: 0, y, width: 200, height: 8, rx: 2, class: "track" }),
    drawing("rect", { x: 0, y, width: Math.max(200 * share, share > 0 ? 1 : 0), height: 8, rx: 2, class: `bar ${kind}` }),
  ];
  const label = `share now ${percent(server.share)}, proposed ${percent(server.proposed)}`;
  return drawing("svg", { viewBox: "0 0 200 20", role: "img", "aria-label": label }, ...bar(0, server.share, "now"), ...bar(11, server.proposed, "proposed"));
}

// Response times of the last ten seconds on a logarithmic scale, from 0.1 ms to 100 s.
function distribution(server) {
  const [left, right] = [Math.log10(0.1), 5];
  const place = (time) => (200 * (Math.log10(Math.min(Math.max(time, 0.1), 1e5)) - left)) / (right - left);
  const most = Math.max(1, ...server.buckets.map((bucket) => bucket[2]));
  const bars = server.buckets.map(([from, to, count]) => {
    const [x, end, height] = [place(from), place(to), (40 * count) / most];
    return drawing("rect", { x, y: 42 - height, width: Math.max(end - x - 0.4, 0.6), height, class: "bar" });
  });
  const marks = [["1 ms", 1], ["100 ms", 100], ["10 s", 10000]].map(([text, time]) =>
    drawing("text", { x: place(time), y: 54, "text-anchor": "middle" }, text));
  const label = server.buckets.length ? `response times: median ${millis(server.median)}, 99 % below ${millis(server.p99)}` : "no response times";
  return drawing("svg", { viewBox: "0 0 200 57", role: "img", "aria-label": label },
    drawing("line", { x1: 0, x2: 200, y1: 42.5, y2: 42.5, stroke: "currentColor", "stroke-opacity": 0.3 }), ...bars, ...marks);
}

function facts(pairs) {
  return node("dl", {}, ...pairs.flatMap(([name, value]) => [node("dt", {}, name), node("dd", {}, String(value))]));
}

function state_of(server) {
  if (server.excluded_by) return node("p", { class: "bad" }, `gets nothing new: ${server.excluded_by}`);
  if (server.ejected) return node("p", { class: "bad" }, "ejected: it has failed");
  if (server.pinned !== null) return node("p", {}, `pinned to ${server.pinned} % by the operator`);
  if (server.maximum) return node("p", {}, `at most ${percent(server.maximum.share)}: ${server.maximum.by}`);
  return node("p", { class: "good" }, "the model decides");
}

function server_card(service, server) {
  const ask = (what, title, inputs = []) => ({ onclick: () => preview({ do: what, service: service.name, server: server.name }, `${title} ${server.name}`, inputs) });
  const others = service.servers.filter((other) => other.name !== server.name).map((other) => other.name);
  const to = node("select", { name: "to", id: "in-to" }, ...others.map((name) => node("option", {}, name)));
  const how = node("select", { name: "how", id: "in-how" }, ...["switch", "reset", "hand-over", "hand-over-or-reset"].map((name) => node("option", {}, name)));
  const share = node("input", { name: "share", id: "in-share", type: "number", min: 0, max: 100, value: Math.round(100 * server.share) });
  const key = (name) => ({ "data-key": `${service.name} ${server.name} ${name}` });
  return node("article", { class: "server" },
    node("h3", {}, server.name), state_of(server), shares(server),
    node("p", { class: "legend" }, `share now ${percent(server.share)}, proposed ${percent(server.proposed)}`),
    distribution(server),
    facts([["connections", server.connections], ["requests that wait", server.waiting], ["failures", server.failures],
      ["median, 99 %", `${millis(server.median)}, ${millis(server.p99)}`],
      ["served", `${server.rate.toFixed(0)}/s`], ["capacity, estimated", server.capacity ? `${server.capacity.toFixed(0)}/s` : "not known"],
      ...(server.reported ? [["load, reported", `${percent(server.reported.load)}, ${server.reported.age.toFixed(0)} s ago`]] : [])]),
    node("div", { class: "buttons" },
      server.drained || server.pinned !== null
        ? node("button", { ...ask("restore", "Give back to the model:"), ...key("restore") }, "Restore")
        : node("button", { ...ask("drain", "Drain"), ...key("drain") }, "Drain"),
      node("button", { ...ask("only", "All to"), ...key("only") }, "Divert all here"),
      node("button", { ...ask("pin", "Pin", [["Share in per cent", share]]), ...key("pin") }, "Pin"),
      others.length ? node("button", { ...ask("move", "Move open connections of", [["To", to], ["How", how]]), ...key("move") }, "Move") : null));
}

function decision_item(decision) {
  const outcome = decision.outcome;
  const promise = decision.promise > 0 ? `promised: ${decision.promise.toFixed(2)} s of waiting less in 10 s` : null;
  const came = outcome ? `; came: ${millis(1000 * outcome.after)} instead of ${millis(1000 * outcome.before)}` +
    (outcome.realised === null ? ", not comparable" : `, ${percent(outcome.realised)} of the promise`) : promise ? "; outcome not known yet" : "";
  return node("li", {},
    node("div", {}, `${decision.decision}. ${decision.text}`),
    node("div", { class: "faint" }, `${decision.time} · because of ${decision.cause}${decision.dry_run ? " · dry run" : ""}`),
    promise ? node("div", { class: outcome && outcome.is_worse ? "bad" : "faint" }, promise + came) : null,
    node("button", { "data-key": `undo ${decision.decision}`, onclick: () => preview({ do: "undo", decision: decision.decision }, `Undo decision ${decision.decision}`) }, "Undo"));
}

let newest = null;
function show(state) {
  newest = state;
  $("main").hidden = false;
  status(state.dry_run ? "dry run: nothing is sent" : state.watching || "live");
  // What has the focus keeps it, though everything is drawn anew.
  const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.key : undefined;
  $("translators").replaceChildren(...state.translators.map((translator) => {
    const odd = Object.entries(translator.distrusted).map(([why, count]) => `${count} not believed: ${why}`);
    const more = [translator.watching ? `watching: ${translator.watching}` : null, translator.missed ? `${translator.missed} reports lost` : null, translator.unknown ? `${translator.unknown} about unknown servers` : null, ...odd].filter(Boolean);
    return node("li", { class: translator.open ? "" : "bad" }, `${translator.name} (${translator.at}): ${translator.open ? "open" : "away"}${more.map((text) => `; ${text}`).join("")}`);
  }));
  $("services").replaceChildren(...state.services.map((service) => node("section", { "aria-label": `service ${service.name}` },
    node("h2", {}, `${service.name}: ${service.divert}`),
    ...service.left_out.map((rule) => node("p", { class: "bad" }, `left out, since no server would be left: ${rule}`)),
    node("div", { class: "servers" }, ...service.servers.map((server) => server_card(service, server))),
    node("div", { class: "buttons" }, node("button", { "data-key": `release ${service.name}`,
      onclick: () => preview({ do: "release", service: service.name }, `Leave ${service.name} to the model`) }, "Leave all to the model")))));
  $("decisions").replaceChildren(...(state.decisions.length ? state.decisions.map(decision_item) : [node("li", { class: "faint" }, "none yet")]));
  if (focused) for (const one of document.querySelectorAll("[data-key]")) if (one.dataset.key === focused) one.focus({ preventScroll: true });
}

async function command(body) {
  const response = await fetch("api/command", { method: "POST", body: JSON.stringify(body), headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" } });
  const told = await response.json();
  if (!response.ok) throw new Error(told.error);
  return told;
}

// Says what a command would do, as the translators see it, and does it when that is wanted.
async function preview(wanted, title, inputs = []) {
  const back = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.key : undefined;
  $("d-title").textContent = title;
  $("d-inputs").replaceChildren(...inputs.map(([text, input]) => node("p", {}, node("label", { for: input.id }, text), input)));
  const body = () => {
    const full = { ...wanted };
    for (const [, input] of inputs) full[input.name] = input.type === "number" ? Number(input.value) : input.value;
    return full;
  };
  const look = async () => {
    $("d-do").disabled = true;
    $("d-body").replaceChildren(node("p", { class: "faint" }, "asking the translators"));
    try {
      const told = await command({ ...body(), dry_run: true });
      const sum = (weights) => Math.max(1, Object.values(weights).reduce((a, b) => a + b, 0));
      const [before, after] = [sum(told.before), sum(told.after)];
      $("d-body").replaceChildren(
        node("p", {}, "Shares: "),
        facts(Object.keys(told.after).map((name) => [name, `${percent(told.before[name] / before)} → ${percent(told.after[name] / after)}`])),
        ...told.translators.map((line) => node("p", { class: "faint" }, line)));
      $("d-do").disabled = false;
    } catch (error) {
      $("d-body").replaceChildren(node("p", { class: "bad" }, error.message));
    }
  };
  inputs.forEach(([, input]) => (input.onchange = look));
  $("d-do").onclick = async () => {
    try {
      await command(body());
      $("dialog").close();
    } catch (error) {
      $("d-body").replaceChildren(node("p", { class: "bad" }, error.message));
    }
  };
  $("d-cancel").onclick = () => $("dialog").close();
  $("dialog").onclose = () => {
    if (newest) show(newest);
    for (const one of document.querySelectorAll("[data-key]")) if (one.dataset.key === back) one.focus();
  };
  $("dialog").showModal();
  await look();
}

// Server-sent events, read with fetch: an EventSource cannot send the token.
async function listen() {
  let lines = "";
  const response = await fetch("api/events", { headers: { Authorization: `Bearer ${token}` } });
  if (response.status === 401) throw new Error("token");
  if (!response.ok) throw new Error(`refused: ${response.status}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the monitor has ended");
    lines += value;
    const events = lines.split("\n\n");
    lines = events.pop();
    const last = events.map((event) => event.split("\n").find((line) => line.startsWith("data: "))).filter(Boolean).pop();
    if (last && !$("dialog").open) show(JSON.parse(last.slice(6)));
  }
}

async function forever() {
  for (;;) {
    try {
      $("login").hidden = true;
      await listen();
    } catch (error) {
      if (error.message === "token") {
        status("the token is missing or wrong", true);
        $("main").hidden = true;
        $("login").hidden = false;
        $("token").focus();
        return;
      }
      status(`no monitor: trying again (${error.message})`, true);
      await new Promise((wake) => setTimeout(wake, 1000));
    }
  }
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  sessionStorage.setItem("byway-token", token);
  forever();
});
forever();
