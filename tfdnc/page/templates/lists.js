{% include "items.js" %}

const lists = JSON.parse($("listData").textContent);
const chosen = name => $("lists").querySelector(`[name=${name}]:checked`).value;
let before = new Map();

function showRun() {
  const wanted = $("listUser").value, users = lists.runs[$("listRun").value].users;
  $("listUser").replaceChildren(...users.map((user, value) => make("option", {value, textContent: user.id})));
  $("listUser").value = users[wanted] ? wanted : 0;
  showUser();
}

function showUser() {
  const {items, clusters, users} = lists.runs[$("listRun").value], user = users[$("listUser").value];
  const title = number => [key(items[number][1]), items[number][0]];
  $("listHistoryTitle").textContent = `History, ${user.history.length + user.earlier} items, the latest first`;
  $("listHistory").replaceChildren(...user.history.map(number => make("li", {}, ...title(number))));
  $("listEarlier").textContent = user.earlier ? `and ${user.earlier} earlier ones` : "";
  $("listNext").replaceChildren("Held out, came next: ", ...title(user.heldOut), make("span", {className: "soft", textContent: ` – ${clusters[items[user.heldOut][1]]}`}));
  before = new Map();
  showList();
}

function showList() {
  const {items, clusters, users} = lists.runs[$("listRun").value], user = users[$("listUser").value];
  const step = Number($("listAlpha").value), alpha = lists.alphas[step].toFixed(2);
  const numbers = user.lists[chosen("listMerge")][step], places = new Map(numbers.map((number, at) => [number, at + 1]));
  const lines = numbers.map((number, at) => {
    const line = make("li", {value: at + 1}, key(items[number][1]), items[number][0]);
    addTags(line, number, at + 1, before, user.heldOut);
    return line;
  });
  const place = places.get(user.heldOut), named = numbers.map(number => ({cluster: items[number][1]}));
  const count = new Set(named.map(item => item.cluster)).size;
  $("listAlphaShown").textContent = alpha;
  $("listAlpha").setAttribute("aria-valuetext", `alpha ${alpha}`);
  $("listStatus").textContent = `${numbers.length} items of ${count === 1 ? "1 cluster" : `${count} clusters`}; the held-out item is ${place ? `at place ${place}` : "not among them"}`;
  $("listItems").replaceChildren(...($("listGrouped").checked
    ? byCluster(named, lines, clusters, cluster => `; intent ${(100 * user.intent[cluster]).toFixed(1)} %`) : [make("ol", {className: "items"}, ...lines)]));
  before = places;
}

$("listRun").append(...lists.runs.map((run, value) => make("option", {value, textContent: run.name})));
$("listRun").parentElement.hidden = lists.runs.length < 2;
$("listAlpha").max = lists.alphas.length - 1;
$("listAlpha").value = lists.alphas.indexOf(1);
$("listRun").oninput = showRun;
$("listUser").oninput = showUser;
for (const control of [$("listAlpha"), $("listGrouped"), ...document.querySelectorAll("[name=listMerge]")]) control.oninput = showList;
showRun();
