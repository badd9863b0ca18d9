{% include "items.js" %}
const state = {user: null, history: [], heldOut: null, excluded: new Map()};
let start, panels = [];

async function ask(path, body) {
  const answer = await fetch(path, body && {method: "POST", body: JSON.stringify(body)});
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error || answer.statusText);
  return content;
}

function attempt(work) {
  return async (...given) => {
    try { await work(...given); $("error").hidden = true; }
    catch (error) { showError(error); }
  };
}

function showError(error) {
  $("error").textContent = error.message;
  $("error").hidden = false;
}

// `run` is the number of the run that the item is shown of.
function itemLine(run, item, ...more) {
  const line = make("li", {}, ...picture(item), key(item.cluster), item.title);
  if (item.categories.length) line.append(make("span", {className: "soft", textContent: ` ${item.categories.join(", ")}`}));
  line.append(...more, button("similar", `Items similar to ${item.title}`, attempt(() => showNeighbours(run, item))));
  return line;
}

function picture(item) {
  if (!item.image) return [];
  const made = make("img", {loading: "lazy", referrerPolicy: "no-referrer", alt: `Picture of ${item.title}`, src: item.image});
  made.onerror = () => made.remove();
  return [made];
}

function button(text, label, action) {
  const made = make("button", {type: "button", textContent: text, onclick: action});
  made.setAttribute("aria-label", label);
  return made;
}

// --- the user ---

async function showUser(id) {
  const user = await ask(`/api/user?id=${encodeURIComponent(id)}`);
  Object.assign(state, {user: user.id, history: user.history, heldOut: user.heldOut});
  $("user").value = user.id;
  await showAll();
}

async function typed(history) {
  Object.assign(state, {user: null, history, heldOut: null});
  $("user").value = "";
  await showAll();
}

async function showAll() {
  const shown = [...state.history].reverse();
  $("historyTitle").textContent = `History, ${shown.length} items, the latest first${state.user === null ? " (typed)" : ""}`;
  $("history").replaceChildren(...shown.map((item, place) => itemLine(0, item, button("remove", `Remove ${item.title}`,
    attempt(() => typed(state.history.filter((_, other) => other !== shown.length - 1 - place)))))));
  $("next").replaceChildren(...(state.heldOut ? ["Held out, came next: ", key(state.heldOut.cluster), make("b", {textContent: state.heldOut.title})] : []));
  for (const panel of panels) await panel.refresh();
}

async function search() {
  const found = await ask(`/api/items?q=${encodeURIComponent($("search").value)}`);
  $("found").replaceChildren(...found.map(item => itemLine(0, item, button("add", `Add ${item.title} to the history`, attempt(() => typed([...state.history, item]))))));
  if (!found.length) $("found").replaceChildren(make("li", {className: "soft", textContent: "No item has all these words."}));
}

async function showNeighbours(run, item) {
  const found = await ask(`/api/neighbours?run=${run}&item=${encodeURIComponent(item.id)}`);
  const of = start.runs.length > 1 ? ` in ${start.runs[run].name}` : "";
  $("nearHint").textContent = found.length ? `Nearest to ${item.title}${of}, by cosine:` : `${item.title} has no vector${of}: it was not trained.`;
  $("neighbours").replaceChildren(...found.map(other => itemLine(run, other, make("span", {className: "soft", textContent: ` ${other.cosine.toFixed(3)}`}))));
  $("near").parentElement.scrollIntoView({block: "nearest"});  // on a phone it is far below the list
}

// --- a list ---

class Panel {
  constructor(number) {
    this.number = number;
    this.element = $("panel").content.firstElementChild.cloneNode(true);
    this.element.setAttribute("aria-label", number ? "Second list" : "First list");
    this.minimum = {};
    this.waiting = 0;
    this.element.querySelector(".clusters").open = innerWidth >= 760;
    this.places = new Map();
    for (const radio of this.element.querySelectorAll("[type=radio]")) radio.name = `merge${number}`;
    const runs = this.input("run");
    runs.append(...start.runs.map((run, value) => make("option", {value, textContent: run.name})));
    runs.value = Math.min(number, start.runs.length - 1);
    runs.parentElement.hidden = start.runs.length < 2;
    this.element.addEventListener("input", event => {
      if (event.target === this.input("alpha") && this.merge() === "own") this.element.querySelector("[value=quota]").checked = true;
      if (event.target === runs) { this.minimum = {}; this.bars = null; }
      attempt(() => this.refresh())();
    });
  }

  input(name) { return this.element.querySelector(`[data-name=${name}]`); }
  merge() { return this.element.querySelector("[type=radio]:checked").value; }
  runNumber() { return Number(this.input("run").value); }
  run() { return start.runs[this.runNumber()]; }

  async refresh() {
    const waiting = ++this.waiting, alpha = Number(this.input("alpha").value);
    this.input("alphaShown").textContent = alpha.toFixed(2);
    this.input("count").max = this.run().most;
    this.element.querySelector(".rules").hidden = !this.run().conditions.length;
    const answer = await ask("/api/list", {
      run: this.runNumber(), user: state.user, history: state.user === null ? state.history.map(item => item.id) : [],
      count: Math.max(1, Number(this.input("count").value) || 1), merge: this.merge(), alpha, minimum: this.minimum, exclude: [...state.excluded.keys()],
      seen: this.input("seen").value, where: this.input("where").value.split(",").map(text => text.trim()).filter(Boolean),
    });
    if (waiting === this.waiting) this.show(answer);  // a later question is on its way otherwise
  }

  show(answer) {
    const place = answer.items.findIndex(item => item.id === answer.heldOut);
    const found = answer.heldOut === null ? "" : place < 0 ? "; the held-out item is not in it" : `; the held-out item is at place ${place + 1}`;
    this.element.querySelector(".status").textContent = `${answer.items.length} items in ${answer.milliseconds} ms${found}`;
    const before = this.number ? panels[0].places : this.places;
    const places = new Map(answer.items.map((item, at) => [item.id, at + 1]));
    const lines = answer.items.map((item, at) => this.line(item, at + 1, before, answer.heldOut));
    this.places = places;
    this.showClusters(answer);
    this.showItems(answer.items, lines);
    this.showExcluded();
    if (this.number === Number($("mapOf").value)) showMap().catch(showError);  // it may wait for the map, longer than the list
  }

  line(item, place, before, heldOut) {
    const line = itemLine(this.runNumber(), item, make("span", {className: "score", textContent: ` score ${item.score.toFixed(4)}`}), button("leave out", `Leave out ${item.title}`, attempt(() => { state.excluded.set(item.id, item); return showAll(); })));
    line.value = place;
    if (!this.input("grouped").checked) line.insertBefore(make("span", {className: "score", textContent: ` ${this.run().clusters[item.cluster]}`}), line.querySelector(".score"));
    addTags(line, item.id, place, before, heldOut);
    return line;
  }

  showItems(items, lines) {
    const list = this.element.querySelector(".list");
    const groups = this.input("grouped").checked ? byCluster(items, lines, this.run().clusters) : [make("ol", {className: "items"}, ...lines)];
    list.replaceChildren(...groups);
  }

  showClusters(answer) {
    const names = this.run().clusters, total = Math.max(1, answer.items.length);
    if (!this.bars) {
      this.bars = names.map((name, cluster) => {
        const least = make("input", {type: "number", min: 0, value: 0});
        least.setAttribute("aria-label", `Least results of ${name}`);
        least.addEventListener("input", () => { if (Number(least.value) > 0) this.minimum[name] = Number(least.value); else delete this.minimum[name]; });
        const tracks = ["intent", "list"].map(what => make("div", {className: "track"}, make("span", {className: `c${cluster % COLORS}`}), make("span")));
        return {row: make("div", {}, make("span", {}, key(cluster), name), least, make("div", {className: "tracks"}, ...tracks)), tracks};
      });
      this.element.querySelector(".bars").replaceChildren(...this.bars.map(bar => bar.row));
    }
    this.bars.forEach(({tracks}, cluster) => {
      [["intent", answer.intent[cluster]], ["list", answer.counts[cluster] / total]].forEach(([what, share], which) => {
        tracks[which].firstChild.style.setProperty("--share", share.toFixed(4));
        tracks[which].lastChild.textContent = `${what} ${(100 * share).toFixed(1)} %`;
      });
    });
  }

  showExcluded() {
    const box = this.element.querySelector(".hiddenItems");
    box.hidden = this.number > 0 || !state.excluded.size;
    box.querySelector("ul").replaceChildren(...[...state.excluded.values()].map(item => itemLine(this.runNumber(), item, button("take back", `Take ${item.title} back`,
      attempt(() => { state.excluded.delete(item.id); return showAll(); })))));
  }
}

// --- the map ---

let points = null, lit = new Map(), mapped = null;  // `mapped`: number of the run whose items are the points
const view = {x: 0, y: 0, scale: 1};

function drawMap() {
  if (!points) return;
  const canvas = $("map"), pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const colors = [...Array(COLORS).keys()].map(k => style.getPropertyValue(`--k${k}`).trim());
  pen.clearRect(0, 0, canvas.width, canvas.height);
  for (const inList of [false, true]) for (const [x, y, cluster, id] of points) {
    if (lit.has(id) !== inList) continue;
    const [left, top] = placeOf(x, y);
    pen.globalAlpha = inList || !lit.size ? 1 : .3;
    pen.fillStyle = colors[cluster % COLORS];
    pen.beginPath();
    pen.arc(left, top, (inList ? 6 : 2) * Math.sqrt(view.scale), 0, 7);
    pen.fill();
    if (inList) { pen.strokeStyle = style.getPropertyValue("--ink"); pen.lineWidth = 1.5; pen.stroke(); }
  }
  pen.globalAlpha = 1;
}

function placeOf(x, y) {
  return [((x - view.x) * view.scale) * 700 + 10, ((y - view.y) * view.scale) * 520 + 10];
}

function zoom(factor, x = .5, y = .5) {
  const scale = Math.min(40, Math.max(1, view.scale * factor));
  view.x += x / view.scale - x / scale;
  view.y += y / view.scale - y / scale;
  view.scale = scale;
  move(0, 0);
}

function move(x, y) {
  const most = 1 - 1 / view.scale;
  view.x = Math.min(most, Math.max(0, view.x + x / view.scale));
  view.y = Math.min(most, Math.max(0, view.y + y / view.scale));
  $("map").style.touchAction = view.scale > 1 ? "none" : "pan-y";  // the whole map does not hold the page's scrolling
  drawMap();
}

// Names the item that is nearest to a place of the canvas, in shares of its size, if one is near.
function nameItem(x, y, reach) {
  const near = (points || []).map(point => { const [left, top] = placeOf(point[0], point[1]); return [Math.hypot(left - 720 * x, top - 540 * y), point]; })
    .reduce((one, other) => other[0] < one[0] ? other : one, [reach, null])[1];
  $("mapItem").textContent = near ? `${near[4]} – ${start.runs[mapped].clusters[near[2]]}` : "";
}

function where(event) {
  const box = $("map").getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

function setUpMap() {
  const canvas = $("map"), arrows = {ArrowLeft: [-.1, 0], ArrowRight: [.1, 0], ArrowUp: [0, -.1], ArrowDown: [0, .1]};
  let held = null;
  $("closer").onclick = () => zoom(1.5);
  $("farther").onclick = () => zoom(1 / 1.5);
  $("whole").onclick = () => zoom(0);
  canvas.onwheel = event => {
    if (event.deltaY > 0 && view.scale === 1) return;  // the page scrolls on
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, ...where(event));
  };
  canvas.onkeydown = event => {
    if (event.key in arrows) { event.preventDefault(); move(...arrows[event.key]); }
    else if (event.key === "+" || event.key === "-") zoom(event.key === "+" ? 1.5 : 1 / 1.5);
    else return;
    nameItem(.5, .5, Infinity);
  };
  canvas.onpointerdown = event => { held = where(event); canvas.setPointerCapture(event.pointerId); };
  canvas.onpointerup = () => { held = null; };
  canvas.onpointermove = event => {
    const [x, y] = where(event);
    if (held) { move(held[0] - x, held[1] - y); held = [x, y]; }
    nameItem(x, y, 12);
  };
  $("mapOf").onchange = () => showMap().catch(showError);
  matchMedia("(prefers-color-scheme: dark)").onchange = drawMap;
  move(0, 0);
}

// Draws the map of the chosen list's run, once it is computed.
async function showMap() {
  const panel = panels[$("mapOf").value], run = panel.runNumber();
  lit = panel.places;
  if (mapped !== run) {
    mapped = run;
    points = null;
    while (!points) {
      $("mapHint").textContent = "The map is being computed …";
      const found = (await ask(`/api/map?run=${run}`)).points;
      if (mapped !== run) return;  // another run was chosen meanwhile
      points = found;
      if (!points) await new Promise(resolve => setTimeout(resolve, 1000));
    }
    $("mapHint").textContent = !points.length ? "There are too few items for a map." : `The ${points.length.toLocaleString("en")} most frequent items; those of the list are large.`;
  }
  drawMap();
}

// --- the start ---

attempt(async () => {
  start = await ask("/api/start");
  $("notices").append(...start.runs.filter(run => run.noImages).map(run => make("p", {className: "note", textContent: `No pictures of ${run.name}: ${run.noImages}`})));
  $("users").append(...start.users.map(value => make("option", {value})));
  $("conditions").append(...[...new Set(start.runs.flatMap(run => run.conditions))].map(value => make("option", {value})));
  panels = [new Panel(0)];
  $("panels").append(panels[0].element);
  $("historyBox").open = innerWidth >= 760;
  $("userForm").onsubmit = event => { event.preventDefault(); attempt(() => showUser($("user").value))(); };
  $("searchForm").onsubmit = event => { event.preventDefault(); attempt(search)(); };
  $("anyUser").onclick = attempt(() => showUser(start.users[Math.floor(Math.random() * start.users.length)]));
  $("noHistory").onclick = attempt(() => typed([]));
  $("beside").onchange = attempt(async () => {
    for (const panel of panels.splice(1)) panel.element.remove();
    $("mapOfBox").hidden = !$("beside").checked;
    $("mapOf").value = 0;
    if (!$("beside").checked) return showMap();
    panels.push(new Panel(1));
    $("panels").append(panels[1].element);
    await panels[1].refresh();
  });
  if (start.runs.length > 1) $("beside").click();
  setUpMap();
  await showUser(start.users[0]);
})();
