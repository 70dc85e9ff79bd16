"use strict";
// Everything that comes from the catalog enters the page as text, never as markup.

const ROW_HEIGHT = 32; // of a table row with its border, in CSS pixels
const SPARE_ROWS = 10; // drawn above and below what can be seen
const NODE = { width: 196, height: 44, gap: 16, column: 74, bend: 10 };
const TAIL = 9; // the end of a name that a narrow column keeps
const MOST_NODES = 60;
const POLL = 2000; // milliseconds between two looks of a live page
const COLUMNS = [
  ["table_name", "Table", ""], ["status", "Status", "80px"], ["staleness", "Freshness", "112px"],
  ["verdict", "Verdict", "146px"], ["row_count", "Rows", "76px"], ["created_at", "Created", "172px"],
  ["task", "Task", "136px"], ["kind", "Kind", "132px"], ["source_id", "Source", "100px"],
];
const TENANT = ["tenant_id", "Tenant", "170px"];
const TONES = {
  ready: "good", building: "busy", failed: "bad", fresh: "good", stale: "bad", undecidable: "warn",
  missing_manifest: "warn", match: "good", match_with_unpinned_inputs: "warn", mismatch: "bad",
  missing_artifact: "bad", unsigned: "warn", bad_signature: "bad", error: "bad",
};
const $ = (id) => document.getElementById(id);

let data, byName, inputsOf, derivedOf, shownRows = [];
const state = { sort: "created_at", down: true, active: 0, filters: {}, fromPicture: false };

// --- text ---

/** Spell out what a page would not simply show: controls, bidirectional marks, separators. */
function printable(text) {
  return String(text).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (mark) => {
    const code = mark.codePointAt(0);
    return code < 256 ? "\\x" + code.toString(16).padStart(2, "0") : "\\u" + code.toString(16).padStart(4, "0");
  });
}

function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
  for (const child of children) node.append(child instanceof Node ? child : printable(child));
  return node;
}

const place = (name) => "#result=" + encodeURIComponent(name);
const second = (instant) => (instant ? instant.slice(0, 19).replace("T", " ") : "");
/** Part a name, so that what sets it apart stays in sight where its start is cut. */
const parted = (name) => [[...name].slice(0, -TAIL).join(""), [...name].slice(-TAIL).join("")];
const short = (text, most) => (text.length <= most ? text : text.slice(0, most - 9) + "…" + text.slice(-8));

// --- data ---

function take(fresh) {
  data = fresh;
  byName = new Map(data.results.map((row) => [row.table_name, row]));
  inputsOf = new Map();
  derivedOf = new Map();
  for (const [input, derived, kind] of data.edges) {
    add(inputsOf, derived, [input, kind]);
    add(derivedOf, input, [derived, kind]);
  }
  for (const row of data.results) {
    const words = [row.table_name, row.source_id, row.model_id, row.tenant_id, row.derived_from];
    for (const [key, value] of Object.entries(row.properties || {})) words.push(key, value);
    row.words = words.filter(Boolean).join("\n").toLowerCase();
  }
  const scope = data.admin ? "all tenants" : data.tenant ? `tenant ${data.tenant}` : "results without a tenant";
  const when = data.committed_at ? `, ${second(data.committed_at)} UTC` : "";
  $("about").textContent = printable(`${data.root} · version ${data.version}${when} · ${scope}`);
  $("trouble").hidden = !data.trouble;
  $("trouble").textContent = printable(data.trouble || "");
}

function add(map, key, value) {
  if (map.has(key)) map.get(key).push(value);
  else map.set(key, [value]);
}

// --- the table ---

const columns = () => (data.results.some((row) => row.tenant_id) ? [...COLUMNS, TENANT] : COLUMNS);
const valueOf = (row, column) => (column === "verdict" ? (row.verdict || {}).tag : row[column]);

function drawFilters() {
  const counts = new Map([["ready", 0], ["building", 0], ["failed", 0]]);
  for (const row of data.results) counts.set(row.status, (counts.get(row.status) || 0) + 1);
  $("counts").replaceChildren(...[...counts].map(([status, count]) => {
    const pressed = state.filters.status === status;
    const button = make("button", { type: "button", "aria-pressed": pressed }, make("b", {}, count), make("span", { class: TONES[status] || "" }, status));
    button.addEventListener("click", () => {
      state.filters.status = pressed ? "" : status;
      drawList();
    });
    return button;
  }));
  for (const select of document.querySelectorAll("#filters select")) {
    const column = select.dataset.column;
    const values = [...new Set(data.results.map((row) => valueOf(row, column)).filter(Boolean))].sort();
    const chosen = state.filters[column] || "";
    if (chosen && !values.includes(chosen)) values.push(chosen);
    select.replaceChildren(make("option", { value: "" }, "any"), ...values.map((value) => make("option", { value }, value)));
    select.value = chosen;
    select.parentElement.hidden = values.length === 0;
  }
}

function drawHead() {
  const head = document.querySelector("#table thead tr");
  const focused = document.activeElement && document.activeElement.dataset.sort;
  head.replaceChildren(...columns().map(([column, title, width]) => {
    const sorted = state.sort !== column ? null : state.down ? "descending" : "ascending";
    const button = make("button", { type: "button", "data-sort": column }, title);
    button.addEventListener("click", () => {
      state.down = state.sort === column ? !state.down : false;
      state.sort = column;
      state.active = 0;
      drawList();
    });
    const cell = make("th", { scope: "col", "aria-sort": sorted, class: column === "row_count" ? "number" : null }, button);
    cell.style.width = width;
    return cell;
  }));
  if (focused) head.querySelector(`[data-sort="${focused}"]`)?.focus();
}

function drawList() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = Object.entries(state.filters).filter(([, value]) => value);
  shownRows = data.results.filter((row) =>
    words.every((word) => row.words.includes(word)) && wanted.every(([column, value]) => valueOf(row, column) === value));
  const sign = state.down ? -1 : 1;
  const key = (row) => valueOf(row, state.sort) ?? null;
  shownRows.sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    if (a === b) return one.table_name < other.table_name ? -1 : 1;
    if (a === null || b === null) return a === null ? 1 : -1;
    return a < b ? -sign : sign;
  });
  state.active = Math.max(0, Math.min(state.active, shownRows.length - 1));
  $("shown").textContent = `${shownRows.length} of ${data.results.length} results`;
  $("table").setAttribute("aria-rowcount", shownRows.length + 1);
  drawFilters();
  drawHead();
  drawRows();
}

/** Draw the rows that can be seen, and as much empty space as the others would take. */
function drawRows() {
  const scroll = $("scroll");
  const focused = document.activeElement?.closest("#table tbody") !== null;
  const first = Math.max(0, Math.floor(scroll.scrollTop / ROW_HEIGHT) - SPARE_ROWS);
  const last = Math.min(shownRows.length, Math.ceil((scroll.scrollTop + scroll.clientHeight) / ROW_HEIGHT) + SPARE_ROWS);
  const shape = columns();
  const rows = [space(first, shape.length)];
  for (let index = first; index < last; index += 1) rows.push(drawRow(shownRows[index], index, shape));
  rows.push(space(shownRows.length - last, shape.length));
  document.querySelector("#table tbody").replaceChildren(...rows);
  if (focused) activeLink()?.focus({ preventScroll: true });
}

function space(rows, span) {
  const row = make("tr", { class: "space", "aria-hidden": "true" }, make("td", { colspan: span }));
  row.style.height = `${Math.max(0, rows) * ROW_HEIGHT}px`;
  return row;
}

function drawRow(row, index, shape) {
  const active = index === state.active;
  const cells = shape.map(([column]) => {
    const value = valueOf(row, column);
    if (column === "table_name") {
      const attributes = { href: place(value), class: "name", title: printable(value), tabindex: active ? 0 : -1 };
      const [start, end] = parted(value);
      const link = make("a", attributes, make("span", { class: "start" }, start), make("span", {}, end));
      return make("td", {}, link);
    }
    if (column === "created_at") return make("td", {}, second(value));
    const tone = ["status", "staleness", "verdict"].includes(column) ? TONES[value] || "" : "";
    const text = value ?? "";
    return make("td", { class: column === "row_count" ? "number" : tone, title: printable(text) }, text);
  });
  return make("tr", { "aria-rowindex": index + 2, class: active ? "active" : null }, ...cells);
}

const activeLink = () => document.querySelector("#table tr.active a");

function goTo(index) {
  state.active = Math.max(0, Math.min(index, shownRows.length - 1));
  const scroll = $("scroll");
  const head = document.querySelector("#table thead").offsetHeight;
  const top = state.active * ROW_HEIGHT;
  if (top < scroll.scrollTop) scroll.scrollTop = top;
  const room = scroll.clientHeight - head;
  if (top + ROW_HEIGHT > scroll.scrollTop + room) scroll.scrollTop = top + ROW_HEIGHT - room;
  drawRows();
  activeLink()?.focus({ preventScroll: true });
}

function onListKey(event) {
  const page = Math.max(1, Math.floor($("scroll").clientHeight / ROW_HEIGHT) - 2);
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
  const inTable = event.target.closest("#table tbody") !== null;
  if (inTable && event.key in steps) goTo(state.active + steps[event.key]);
  else if (event.target === $("search") && event.key === "ArrowDown") goTo(state.active);
  else return;
  event.preventDefault();
}

// --- one result ---

function drawDetail(name) {
  const row = byName.get(name);
  const known = row || derivedOf.has(name);
  const heading = make("h2", { tabindex: -1, class: "name" }, name);
  const parts = [make("p", {}, make("a", { href: "#" }, "← all results")), heading];
  if (!known) parts.push(make("p", {}, "No result or source of this name is visible."));
  if (!row && known) parts.push(make("p", {}, "A raw source, or a result that cannot be seen here."));
  if (row) parts.push(...drawFacts(row));
  if (!row && known) parts.push(make("h3", {}, "Lineage"), ...drawLineage(name));
  if (row) parts.push(...drawProof(row));
  $("detail").replaceChildren(...parts);
  const here = document.querySelector("#lineage a.here");
  if (state.fromPicture && here) here.focus({ preventScroll: true });
  else heading.focus({ preventScroll: true });
  const box = $("lineage");
  if (box && here) box.scrollLeft = here.getBBox().x - box.clientWidth / 2 + NODE.width / 2;
  state.fromPicture = false;
}

function drawFacts(row) {
  const tags = [row.status, row.staleness, (row.verdict || {}).tag].filter(Boolean);
  const badges = make("ul", { class: "badges" }, ...tags.map((tag) => make("li", { class: TONES[tag] || "" }, tag)));
  const hidden = new Set(["table_name", "status", "staleness", "explanation", "verdict", "words", "sidecar", "descriptor", "sidecar_error", "input_anchors", "properties", "lease"]);
  const facts = Object.entries(row).filter(([key, value]) => !hidden.has(key) && value !== null);
  for (const [key, value] of Object.entries(row.properties || {})) facts.push([`properties.${key}`, value]);
  const pairs = facts.flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, linked(key, value))]);
  const parts = [badges];
  if (row.explanation) parts.push(make("h3", {}, "Why"), make("p", { class: "why" }, row.explanation));
  parts.push(make("h3", {}, "Lineage"), ...drawLineage(row.table_name));
  return [...parts, make("h3", {}, "Row"), make("dl", {}, ...pairs)];
}

function linked(key, value) {
  if (key === "derived_from") return make("a", { href: place(value) }, value);
  return Array.isArray(value) ? value.join(", ") : value;
}

function drawProof(row) {
  const anchors = row.input_anchors || [];
  const parts = [make("h3", {}, "Anchors")];
  if (anchors.length) {
    const head = make("tr", {}, ...["input", "kind", "anchor"].map((title) => make("th", { scope: "col" }, title)));
    const lines = anchors.map((anchor) => make("tr", {}, make("td", { class: "name" }, make("a", { href: place(anchor.source) }, anchor.source)), make("td", {}, anchor.kind), make("td", { class: "anchor" }, anchor.anchor)));
    parts.push(make("table", { id: "anchors" }, make("thead", {}, head), make("tbody", {}, ...lines)));
  } else parts.push(make("p", {}, row.input_anchors ? "Made without inputs." : "No contract: nothing says what it was made from."));
  const proof = make("div", { id: "proof" });
  parts.push(proof);
  fillProof(proof, row);
  if (data.live && !row.sidecar && !row.sidecar_error) {
    ask("result", row.table_name).then((found) => {
      Object.assign(row, found);
      fillProof(proof, row);
    }, (error) => proof.append(make("p", { class: "bad" }, error.message)));
  }
  return parts;
}

function fillProof(proof, row) {
  const verdict = row.verdict;
  const parts = [make("h3", {}, "Verdict")];
  if (verdict) {
    const details = Object.entries(verdict).filter(([key, value]) => key !== "tag" && value !== null && String(value));
    parts.push(make("p", { id: "verdict", class: TONES[verdict.tag] || "" }, verdict.tag));
    parts.push(make("dl", {}, ...details.flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, String(value))])));
  } else parts.push(make("p", { id: "verdict" }, row.status === "ready" ? "Its bytes were not read." : "Only a ready result has a verdict."));
  if (data.live && row.status === "ready") {
    const button = make("button", { type: "button", id: "verify" }, "Read its bytes and judge");
    button.addEventListener("click", () => {
      button.disabled = true;
      ask("verdict", row.table_name).then((found) => {
        row.verdict = found;
        fillProof(proof, row);
        $("verify").focus();
      }, (error) => button.replaceWith(make("p", { class: "bad" }, error.message)));
    });
    parts.push(button);
  }
  parts.push(make("h3", {}, "Descriptor"));
  if (row.sidecar_error) parts.push(make("p", { class: "bad" }, row.sidecar_error));
  if (row.descriptor !== undefined) {
    const descriptor = typeof row.descriptor === "number" ? data.descriptors[row.descriptor] : row.descriptor;
    const lines = JSON.stringify(descriptor, null, 2).split("\n").map(printable);
    const pre = make("pre", { id: "descriptor", tabindex: 0, "aria-label": "Descriptor" });
    pre.textContent = lines.join("\n");
    parts.push(pre, make("h3", {}, "Attestation"), make("dl", {}, ...Object.entries(row.sidecar).flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, value)])));
  } else if (!row.sidecar_error) parts.push(make("p", {}, data.live && row.sidecar === undefined ? "…" : "It has no sidecar."));
  proof.replaceChildren(...parts);
}

// --- the lineage as a picture ---

/** Choose what to draw: all that is near, breadth first in both directions, inputs and dependants. */
function neighbourhood(name) {
  const ranks = new Map([[name, 0]]);
  for (const [links, step] of [[inputsOf, -1], [derivedOf, 1]]) {
    let front = [name];
    const room = ranks.size + MOST_NODES / 2;
    while (front.length) {
      const next = [];
      for (const node of front) for (const [target] of links.get(node) || []) {
        if (ranks.has(target) || ranks.size >= room) continue;
        ranks.set(target, step);
        next.push(target);
      }
      front = next;
    }
  }
  const edges = new Map();
  for (const node of ranks.keys()) for (const [target, kind] of derivedOf.get(node) || []) {
    if (ranks.has(target)) edges.set(JSON.stringify([node, target]), { from: node, to: target, kind });
  }
  return { ranks, edges: [...edges.values()] };
}

/** Move each node as far from the chosen one as its longest path; bounded, should there be a cycle. */
function spread(ranks, edges) {
  for (let pass = 0, moved = true; moved && pass < ranks.size; pass += 1) {
    moved = false;
    for (const { from, to } of edges) {
      const [low, high] = [ranks.get(from), ranks.get(to)];
      if (low < high) continue;
      if (high < 0) ranks.set(from, high - 1), moved = true;
      else if (low > 0) ranks.set(to, low + 1), moved = true;
    }
  }
}

/** Lay the nodes out in layers; long edges take a bend in every layer that they cross. */
function layOut(ranks, edges) {
  const layers = new Map();
  const put = (key, rank, bend) => {
    const node = { key, rank, bend, before: [], after: [] };
    if (!layers.has(rank)) layers.set(rank, []);
    layers.get(rank).push(node);
    return node;
  };
  const nodes = new Map([...ranks].map(([name, rank]) => [name, put(name, rank, false)]));
  for (const edge of edges) {
    edge.way = [nodes.get(edge.from)];
    for (let rank = ranks.get(edge.from) + 1; rank < ranks.get(edge.to); rank += 1) edge.way.push(put(null, rank, true));
    edge.way.push(nodes.get(edge.to));
    for (let at = 1; at < edge.way.length; at += 1) {
      edge.way[at - 1].after.push(edge.way[at]);
      edge.way[at].before.push(edge.way[at - 1]);
    }
  }
  const order = [...layers.keys()].sort((a, b) => a - b);
  const arrange = (layer) => {
    const high = (node) => (node.bend ? NODE.bend : NODE.height);
    let y = -layer.reduce((sum, node) => sum + high(node) + NODE.gap, -NODE.gap) / 2;
    for (const node of layer) {
      node.y = y + high(node) / 2;
      y += high(node) + NODE.gap;
    }
  };
  layers.forEach(arrange);
  for (let sweep = 0; sweep < 8; sweep += 1) {
    for (const rank of sweep % 2 ? order : [...order].reverse()) {
      const layer = layers.get(rank);
      for (const node of layer) {
        const near = sweep % 2 ? node.before : node.after;
        node.weight = near.length ? near.reduce((sum, other) => sum + other.y, 0) / near.length : node.y;
      }
      layer.sort((a, b) => a.weight - b.weight);
      arrange(layer);
    }
  }
  for (const node of [...layers.values()].flat()) node.x = (node.rank - order[0]) * (NODE.width + NODE.column);
  return { nodes, layers };
}

function drawLineage(name) {
  const { ranks, edges } = neighbourhood(name);
  spread(ranks, edges);
  const { nodes, layers } = layOut(ranks, edges);
  const all = [...layers.values()].flat();
  const top = Math.min(...all.map((node) => node.y)) - NODE.height;
  const width = Math.max(...all.map((node) => node.x)) + NODE.width + 40;
  const height = Math.max(...all.map((node) => node.y)) + NODE.height - top;
  const svg = draw("svg", { width, height, viewBox: `-20 ${top} ${width} ${height}`, role: "group", "aria-label": "Lineage" });
  svg.append(draw("defs", {}, draw("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, draw("path", { d: "M0 0L8 4L0 8z" }))));
  for (const edge of edges) {
    const label = `${edge.from} → ${edge.to} (${edge.kind})`;
    svg.append(draw("path", { d: curve(edge.way), class: edge.kind === "result_digest" ? "pinned" : "open", "marker-end": "url(#tip)" }, draw("title", {}, label)));
  }
  for (const node of nodes.values()) svg.append(drawNode(node, name, ranks));
  svg.addEventListener("keydown", (event) => walk(event, nodes));
  svg.addEventListener("click", () => { state.fromPicture = true; });
  const total = edges.length === 1 ? "1 edge" : `${edges.length} edges`;
  const hint = make("p", { class: "hint" }, `${nodes.size} nodes, ${total}; inputs on the left. Arrow keys walk, Enter goes there. A dashed line is no digest of a result, a dashed box no result; +n counts what is not drawn.`);
  return [make("div", { id: "lineage" }, svg), hint];
}

function curve(way) {
  let path = `M${way[0].x + NODE.width} ${way[0].y}`;
  for (let at = 1; at < way.length; at += 1) {
    const [from, to] = [way[at - 1], way[at]];
    const [x, y] = [from.x + NODE.width, to.y];
    const bend = Math.max(30, (to.x - x) / 2);
    path += `C${x + bend} ${from.y} ${to.x - bend} ${y} ${to.x} ${y}`;
    if (to.bend) path += `L${to.x + NODE.width} ${y}`;
  }
  return path;
}

function drawNode(node, focus, ranks) {
  const row = byName.get(node.key);
  const suffix = /_([0-9a-f]{8})$/.exec(node.key);
  const title = row ? printable(row.kind === "model" ? row.model_id.split("/").pop() : row.kind) : printable(node.key);
  const under = row ? printable(suffix ? `${row.source_id} · ${suffix[1]}` : node.key) : "source";
  const links = [...(inputsOf.get(node.key) || []), ...(derivedOf.get(node.key) || [])];
  const missing = new Set(links.map(([other]) => other).filter((other) => !ranks.has(other))).size;
  const label = `${node.key}, ${row ? row.status : "source"}${missing ? `, ${missing} not drawn` : ""}`;
  const top = node.y - NODE.height / 2;
  const shape = { x: node.x, y: top, width: NODE.width, height: NODE.height, rx: row ? 6 : NODE.height / 2 };
  const link = draw("a", { href: place(node.key), "aria-label": printable(label), class: (node.key === focus ? "here " : "") + (row ? "result" : "source") }, draw("title", {}, node.key), draw("rect", shape), draw("text", { x: node.x + 14, y: top + 18 }, short(title, 24)), draw("text", { class: "sub", x: node.x + 14, y: top + 34 }, short(under, 26)));
  if (node.key === focus) link.setAttribute("aria-current", "true");
  if (missing) link.append(draw("text", { class: "sub", x: node.x + NODE.width - 8, y: top + 34, "text-anchor": "end" }, `+${missing}`));
  node.link = link;
  link.node = node;
  return link;
}

function walk(event, nodes) {
  const here = event.target.closest("a")?.node;
  if (!here) return;
  const real = (near, side) => near.flatMap((node) => (node.bend ? real(node[side], side) : [node]));
  const layer = [...nodes.values()].filter((node) => node.rank === here.rank).sort((a, b) => a.y - b.y);
  const at = layer.indexOf(here);
  const choices = {
    ArrowLeft: () => nearest(real(here.before, "before"), here), ArrowRight: () => nearest(real(here.after, "after"), here),
    ArrowUp: () => layer[at - 1], ArrowDown: () => layer[at + 1],
  };
  if (event.key === "Enter") state.fromPicture = true;
  if (!(event.key in choices)) return;
  event.preventDefault();
  choices[event.key]()?.link.focus();
}

const nearest = (nodes, here) => nodes.sort((a, b) => Math.abs(a.y - here.y) - Math.abs(b.y - here.y))[0];

// --- what is shown, and a live page ---

function show() {
  const match = /^#result=(.*)$/s.exec(location.hash);
  let name = null;
  try {
    name = match && decodeURIComponent(match[1]);
  } catch {
    location.hash = "";
    return;
  }
  const leaving = name === null && $("list").hidden;
  $("list").hidden = name !== null;
  $("detail").hidden = name === null;
  document.title = name === null ? "Results" : printable(name);
  if (name !== null) {
    drawDetail(name);
    $("detail").scrollTop = 0;
    return;
  }
  drawList();
  if (leaving) goTo(state.active);
}

async function ask(what, name) {
  const query = name === undefined ? "" : "?name=" + encodeURIComponent(name);
  const answer = await fetch(what + query, { cache: "no-store" });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

async function follow() {
  try {
    const { version } = await ask("version");
    if (version !== data.version) {
      take({ ...(await ask("data")), live: true });
      if ($("detail").hidden) drawList();
      else drawDetail(decodeURIComponent(location.hash.slice("#result=".length)));
    } else if (!data.trouble) $("trouble").hidden = true;
  } catch (error) {
    $("trouble").hidden = false;
    $("trouble").textContent = printable(`The server does not answer: ${error.message}`);
  }
  setTimeout(follow, POLL);
}

$("filters").addEventListener("submit", (event) => event.preventDefault());
$("search").addEventListener("input", () => { state.active = 0; $("scroll").scrollTop = 0; drawList(); });
for (const select of document.querySelectorAll("#filters select")) {
  select.addEventListener("change", () => {
    state.filters[select.dataset.column] = select.value;
    $("scroll").scrollTop = 0;
    drawList();
  });
}
$("scroll").addEventListener("scroll", () => requestAnimationFrame(drawRows));
$("list").addEventListener("keydown", onListKey);
document.querySelector("#table tbody").addEventListener("click", (event) => {
  const at = event.target.closest("tr")?.getAttribute("aria-rowindex");
  if (at) state.active = at - 2;
});
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "/" && !typing && !$("list").hidden) {
    event.preventDefault();
    $("search").focus();
  } else if (event.key === "Escape" && $("list").hidden) location.hash = "";
});
window.addEventListener("hashchange", show);
window.addEventListener("resize", () => { if (!$("list").hidden) drawRows(); });

take(JSON.parse($("data").textContent));
show();
if (data.live) setTimeout(follow, POLL);
