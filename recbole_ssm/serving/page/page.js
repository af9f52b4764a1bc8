// A session of the service, click by click: what is recommended after each, why, and how long it took.

const COUNT = 10; // recommendations in the list, and items found by a search
const TIMES = 60; // bars in the drawing of times
const PARTS = 5; // lines of a "why"

const $ = (id) => document.getElementById(id);
const store = window.sessionStorage;
const state = { session: store.getItem("session") ?? newId(), ranks: new Map(), times: [] };

function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function ask(address, { method = "GET", body, signal } = {}) {
  const headers = { ...(body && { "Content-Type": "application/json" }) };
  const token = store.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(address, { method, headers, signal, body: body && JSON.stringify(body) });
  if (answer.status === 204) return null;
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(found.error?.message ?? `The service answered ${answer.status}.`, answer.status);
  return found;
}

const session = (rest = "") => `sessions/${state.session}${rest}`;
const title = (item) => item.title ?? item.item;
const ms = (number) => `${number < 10 ? number.toFixed(2) : Math.round(number)} ms`;

let last = Promise.resolve();

/** Ask the service, one thing after the other in the order of the clicks; return when `work` is done. */
function doing(work) {
  last = last.then(() => attempt(work));
  return last;
}

/** Do `work`; say what goes wrong, and ask for a token that is missing. */
async function attempt(work) {
  let status;
  document.body.setAttribute("aria-busy", "true");
  try {
    await work();
    $("problem").hidden = true;
  } catch (error) {
    $("problem").textContent = error instanceof Refused ? error.message : "The service cannot be reached.";
    $("problem").hidden = false;
    status = error.status;
  } finally {
    document.body.removeAttribute("aria-busy");
  }
  if (status === 401) {
    $("login").hidden = false;
    $("token").focus();
  }
}

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

// --- clicks -------------------------------------------------------------------------------------------------------

function click(item) {
  return doing(async () => {
    const start = performance.now();
    const answer = await ask(session(`/events?k=${COUNT}`), { method: "POST", body: { items: [item.item] } });
    store.setItem("session", state.session);
    showClick(item);
    showRecommended(answer);
    showTime(answer.ms, performance.now() - start);
  });
}

function showClick(item) {
  $("history").prepend(element("li", title(item)));
  $("none").hidden = true;
  $("anew").hidden = false;
}

function anew() {
  return doing(async () => {
    await ask(session(), { method: "DELETE" }).catch((error) => {
      if (!(error instanceof Refused)) throw error; // a session that is forgotten already is no problem
    });
    store.removeItem("session");
    state.session = newId();
    state.ranks.clear();
    state.times = [];
    $("history").replaceChildren();
    $("times").replaceChildren();
    $("none").hidden = false;
    $("anew").hidden = true;
    showRecommended(await ask("recommend", { method: "POST", body: { k: COUNT } }));
    $("query").focus();
  });
}

// --- recommendations ----------------------------------------------------------------------------------------------

function showRecommended(answer) {
  const popular = answer.source === "popular";
  const shown = answer.items.length ? "Nothing is known yet, so these are popular items." : "Nothing is known yet.";
  $("source").textContent = popular ? shown : "";
  const before = state.ranks;
  state.ranks = new Map(answer.items.map((item, rank) => [item.item, rank]));
  const focused = document.activeElement?.closest("#items") != null;
  $("items").replaceChildren(...answer.items.map((item, rank) => line(item, rank, before, popular)));
  if (focused) $("items").querySelector(".pick")?.focus();
}

function line(item, rank, before, popular) {
  const made = $("item").content.firstElementChild.cloneNode(true);
  const [change, pick, why] = [".change", ".pick", ".why"].map((name) => made.querySelector(name));
  made.querySelector(".title").textContent = title(item);
  made.querySelector(".categories").textContent = (item.categories ?? []).join(", ");
  if (before.size) showChange(change, rank, before.get(item.item));
  pick.addEventListener("click", (event) => event.detail < 2 && click(item)); // a double click is one
  why.hidden = popular;
  why.setAttribute("aria-label", `Why ${title(item)}`);
  why.addEventListener("click", () => doing(() => showWhy(item, why, made.querySelector(".parts"))));
  return made;
}

function showChange(place, rank, before) {
  if (before === undefined) place.classList.add("new");
  else if (before > rank) place.classList.add("up");
  const by = before - rank;
  place.textContent = before === undefined ? "new" : by > 0 ? `▲ ${by}` : by < 0 ? `▼ ${-by}` : "";
}

async function showWhy(item, button, table) {
  const open = table.hidden;
  if (open && !table.tBodies[0].children.length) {
    const { parts } = await ask("explain", { method: "POST", body: { item: item.item, session_id: state.session } });
    const strength = (part) => [part.transitions ?? 0, part.similarity ?? 0];
    const latest = new Map(parts.map((part) => [part.item, part])); // each item once
    const best = [...latest.values()].sort((a, b) => {
      const [x, y] = [strength(a), strength(b)];
      return y[0] - x[0] || y[1] - x[1];
    });
    table.tBodies[0].replaceChildren(...best.slice(0, PARTS).map(partRow));
    for (const name of ["similarity", "transitions"]) {
      table.classList.toggle(`no-${name}`, parts.every((part) => part[name] === null)); // the model has no such number
    }
  }
  table.hidden = !open;
  button.setAttribute("aria-expanded", String(open));
}

function partRow(part) {
  const row = element("tr", "");
  const near = element("td", part.similarity?.toFixed(2) ?? "–", "near");
  near.style.setProperty("--share", `${Math.max(0, part.similarity ?? 0) * 100}%`);
  row.append(element("td", title(part)), near, element("td", part.transitions?.toFixed(1) ?? "–"));
  return row;
}

// --- times --------------------------------------------------------------------------------------------------------

function showTime(model, whole) {
  state.times = [...state.times, model].slice(-TIMES);
  $("took").textContent = `Click ${$("history").children.length}: the model took ${ms(model)}, with the way there and back ${ms(whole)}.`;
  const most = Math.max(...state.times);
  $("times").replaceChildren(
    ...state.times.map((time) => {
      const bar = element("li", "");
      bar.style.height = `${(100 * time) / most}%`;
      bar.title = ms(time);
      bar.append(element("span", ms(time)));
      return bar;
    }),
  );
}

// --- search: a combobox with a list, by the ARIA authoring practices -----------------------------------------------

const search = { items: [], chosen: -1, running: null, waiting: 0 };

/** Forget a search that has not come back. */
function stop() {
  clearTimeout(search.waiting);
  search.running?.abort();
}

async function find() {
  stop();
  search.running = new AbortController();
  const { signal } = search.running;
  const address = `items?k=${COUNT}&query=${encodeURIComponent($("query").value)}`;
  try {
    const { items } = await ask(address, { signal });
    showFound(items);
  } catch (error) {
    if (error.name !== "AbortError") await doing(() => Promise.reject(error));
  }
}

function showFound(items) {
  search.items = items;
  search.chosen = -1;
  $("found").replaceChildren(...items.map(option));
  if (!items.length) $("found").append(element("li", "Nothing is called that.", "categories"));
  open(true);
}

function option(item, number) {
  const made = element("li", title(item));
  made.id = `found-${number}`;
  made.setAttribute("role", "option");
  made.setAttribute("aria-selected", "false");
  made.addEventListener("mousedown", (event) => event.preventDefault()); // the focus stays in the field
  made.addEventListener("click", () => take(number));
  return made;
}

function open(shown) {
  $("found").hidden = !shown;
  $("query").setAttribute("aria-expanded", String(shown));
  if (!shown) choose(-1);
}

function choose(number) {
  search.chosen = number;
  for (const [place, each] of [...$("found").children].entries()) {
    each.setAttribute("aria-selected", String(place === number));
    if (place === number) each.scrollIntoView({ block: "nearest" });
  }
  if (number < 0) $("query").removeAttribute("aria-activedescendant");
  else $("query").setAttribute("aria-activedescendant", `found-${number}`);
}

async function take(number) {
  const item = search.items[number];
  if (!item) return;
  stop();
  open(false);
  $("query").value = "";
  await click(item);
}

function onKey(event) {
  const count = search.items.length;
  const keys = {
    ArrowDown: () => ($("found").hidden ? find() : choose(count ? (search.chosen + 1) % count : -1)),
    ArrowUp: () => choose(count ? (search.chosen + count - (search.chosen < 0 ? 0 : 1)) % count : -1),
    Enter: () => !$("found").hidden && take(Math.max(0, search.chosen)),
    Escape: () => (stop(), open(false)),
  };
  if (!keys[event.key] || event.isComposing) return;
  event.preventDefault();
  keys[event.key]();
}

// --- the beginning ------------------------------------------------------------------------------------------------

async function begin() {
  const about = await ask("healthz");
  $("about").textContent = `${about.name}, ${about.items.toLocaleString("en")} items, checkpoint ${about.model}`;
  const known = store.getItem("session") && (await ask(session()).catch(() => null));
  known?.items.forEach(showClick);
  showRecommended(await ask("recommend", { method: "POST", body: { k: COUNT, ...(known && { session_id: state.session }) } }));
}

$("query").addEventListener("input", () => {
  clearTimeout(search.waiting);
  search.waiting = setTimeout(find, 120);
});
$("query").addEventListener("focus", find);
$("query").addEventListener("blur", () => {
  stop();
  open(false);
});
$("query").addEventListener("keydown", onKey);
$("anew").addEventListener("click", anew);
$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  store.setItem("token", $("token").value);
  $("token").value = "";
  $("login").hidden = true;
  doing(begin);
});
doing(begin);
