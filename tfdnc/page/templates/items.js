"use strict";
const COLORS = {{ colors }};
const $ = id => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function key(cluster) {
  return make("span", {className: cluster < 0 ? "key" : `key c${cluster % COLORS}`});
}

// Marks the held-out item, and says how far an item has moved against an earlier list (id -> place).
function addTags(line, id, place, before, heldOut) {
  if (id === heldOut) { line.className = "wanted"; line.append(make("span", {className: "tag", textContent: "came next"})); }
  if (!before.size) return;
  const moved = before.has(id) ? before.get(id) - place : null;
  if (moved === null) line.append(make("span", {className: "tag", textContent: "new"}));
  else if (moved) line.append(make("span", {className: moved > 0 ? "tag up" : "tag down", textContent: `${moved > 0 ? "▲" : "▼"} ${Math.abs(moved)}`}));
}

// Returns headings and lists, the clusters in the order of their best items.
function byCluster(items, lines, names, more = () => "") {
  const groups = new Map();
  items.forEach((item, at) => groups.set(item.cluster, [...(groups.get(item.cluster) || []), lines[at]]));
  return [...groups].flatMap(([cluster, own]) => [
    make("h3", {}, key(cluster), `${names[cluster]} (${own.length}${more(cluster)})`), make("ol", {className: "items"}, ...own)]);
}
