// Brings the parts together: what comes from the node goes to the stage and the lists, what the person does to the node.

import { Link } from "./link.js";
import { ObjectList } from "./objects.js";
import { Regions } from "./regions.js";
import { Stage } from "./stage.js";
import { Status } from "./status.js";

const byId = (id) => document.getElementById(id);
const STALE_MS = 3000; // without a new picture for longer, the page says so
const TOKEN = "sam_perception token";

const link = new Link();
const stage = new Stage();
const objects = new ObjectList();
const status = new Status();
let tool = "point";
let view = "overlay";
let connected = false;
let report = null;
let pictureAt = 0;
let cutting = false; // a picture is being cut up

// ------------------------------------------------------------------ from the node

link.addEventListener("welcome", () => {
  connected = true;
  status.showLink("connected", "ok");
  link.say("ready", { view });
  refresh();
});

link.addEventListener("frame", async ({ detail }) => {
  const { jpeg, ...header } = detail;
  pictureAt = performance.now();
  status.countPicture();
  objects.showFrame(header.objects);
  if (!stage.regions && !cutting) {
    await stage.show(header, jpeg);
    showLegend(header);
  }
  refresh();
  // A page that nobody sees asks for nothing, and then nothing is encoded.
  if (document.visibilityState === "visible") link.say("ready", { view });
});

link.addEventListener("report", ({ detail }) => {
  report = detail;
  status.showReport(report);
  objects.showReport(report);
  refresh();
});

link.addEventListener("probe", ({ detail }) => {
  if (detail.stamp !== stage.shown?.stamp) return;
  const under = detail.object_id ? ` · object ${detail.object_id} ${objects.find(detail.object_id)?.label ?? ""}`.trimEnd() : "";
  const place = detail.position_m
    ? `depth ${detail.depth_m.toFixed(3)} m · x ${detail.position_m.map((part) => part.toFixed(3)).join("  ").replace("  ", " y ").replace("  ", " z ")} m`
    : "no depth";
  byId("cursor").textContent = `${detail.x}, ${detail.y} px · ${place}${under}`;
});

link.addEventListener("refused", ({ detail }) => status.toast(detail.text, false));

link.addEventListener("lost", ({ detail }) => {
  connected = false;
  stage.forgetDrag();
  status.showLink("reconnecting", "bad");
  status.curtain(`Connection lost${detail.reason ? ` (${detail.reason})` : ""} — trying again`, { level: "bad" });
  refresh();
});

link.addEventListener("token", ({ detail }) => {
  connected = false;
  status.showLink("token needed", "warn");
  sessionStorage.removeItem(TOKEN);
  if (detail.reason === "wrong token") byId("loginreason").textContent = "This is not the token of this node. Its log has it.";
  if (!byId("login").open) byId("login").showModal();
  refresh();
});

// ------------------------------------------------------------------ from the person

stage.addEventListener("probe", ({ detail: { x, y, stamp } }) => link.say("probe", { x, y, stamp }));
stage.addEventListener("away", () => (byId("cursor").textContent = ""));

stage.addEventListener("point", ({ detail: { x, y, stamp, shift } }) => {
  if (stage.regions) {
    takeRegion(stage.regions.under);
    return;
  }
  const background = shift || tool === "background";
  const selected = objects.selected;
  if (background && !selected) {
    status.toast("A background point corrects an object: select one in the list first.", false);
    return;
  }
  stage.mark(background ? "background" : "point", [x, y]);
  prompt({ stamp, object_id: selected?.id ?? 0, points: [[x, y, background ? 0 : 1]] });
});

stage.addEventListener("box", ({ detail: { box, stamp } }) => {
  stage.mark("box", box);
  prompt({ stamp, object_id: objects.selected?.id ?? 0, box });
});

objects.addEventListener("select", refresh);
objects.addEventListener("rename", ({ detail: { id, label } }) => request("rename", { object_id: id, label }));
objects.addEventListener("remove", ({ detail: { id } }) => request("remove", { object_id: id }));
objects.addEventListener("reset", async () => {
  byId("question").textContent = `Forget all ${objects.size} objects?`;
  const dialog = byId("confirm");
  dialog.returnValue = "no";
  dialog.showModal();
  dialog.addEventListener("close", () => dialog.returnValue === "yes" && request("reset"), { once: true });
});

byId("words").addEventListener("submit", async (event) => {
  event.preventDefault();
  const words = byId("text").value.trim();
  if (!words) return;
  const answer = await prompt({ stamp: "0", object_id: objects.selected?.id ?? 0, text: words });
  if (answer.ok) byId("text").value = "";
});

for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => setTool(button.dataset.tool));
for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => setView(button.dataset.view));

document.addEventListener("keydown", (event) => {
  if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = { p: "point", b: "background", e: "everything" };
  if (event.key === "Escape") leave();
  else if (keys[event.key]) setTool(tool === "everything" && event.key === "e" ? "point" : keys[event.key]);
});

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") link.say("ready", { view });
});

byId("login").addEventListener("close", () => connect(byId("token").value.trim()));
byId("login").addEventListener("cancel", (event) => event.preventDefault());

// ------------------------------------------------------------------ what is done

async function request(type, values = {}) {
  const answer = await link.ask(type, values);
  if (answer.text) status.toast(answer.text, answer.ok);
  return answer;
}

function prompt(values) {
  return request("prompt", values);
}

async function takeRegion(region) {
  if (!region) {
    status.toast("There is no region here: choose one that lights up, or leave with Escape.", false);
    return;
  }
  const { stamp } = stage.regions;
  const answer = await prompt({ stamp, object_id: objects.selected?.id ?? 0, region: region.id });
  if (answer.ok) setTool("point");
}

async function setTool(chosen) {
  tool = chosen;
  mark("tool", tool);
  stage.regions = null;
  refresh();
  stage.redraw();
  if (tool !== "everything") return;
  cutting = true;
  refresh();
  const answer = await request("everything");
  cutting = false;
  if (!answer.ok) {
    if (tool === "everything") setTool("point");
    return;
  }
  if (tool === "everything") {
    const { jpeg, ...header } = answer;
    stage.regions = new Regions(answer); // first, so that no newer frame takes the picture's place meanwhile
    await stage.show(header, jpeg);
    stage.redraw();
  }
  refresh();
}

function setView(chosen) {
  view = chosen;
  mark("view", view);
  link.say("ready", { view });
}

function leave() {
  stage.forgetDrag();
  if (tool === "everything") setTool("point");
  else if (objects.selected) objects.select(objects.selected.id);
}

function mark(name, chosen) {
  for (const button of document.querySelectorAll(`[data-${name}]`)) {
    button.setAttribute("aria-checked", String(button.dataset[name] === chosen));
  }
}

function showLegend(header) {
  const range = header.view === "depth" ? header.depth_range_m : null;
  byId("legend").hidden = !range;
  if (range) [byId("near").textContent, byId("far").textContent] = range.map((depth) => `${depth.toFixed(2)} m`);
}

// What depends on several things at once: hints, and what lies over the picture.
function refresh() {
  const selected = objects.selected;
  const name = selected ? (selected.label ? `${selected.id} ${selected.label}` : `object ${selected.id}`) : "";
  const hint = byId("hint");
  if (stage.regions) say(hint, `${stage.regions.count} regions: click one to make it `, selected ? name : "a new object", ", Esc leaves");
  else if (selected) say(hint, tool === "background" ? "Click beside " : "Click corrects ", name, ", shift-click: not part of it, Esc: new object");
  else if (tool === "background") say(hint, "Select the object in the list that a point lies ", "beside", "");
  else say(hint, "Click or drag a box: ", "new object", "");
  stage.enabled = connected && !cutting;
  stage.stale = !connected || cutting;
  if (!connected) return;
  const late = performance.now() - pictureAt > STALE_MS;
  if (cutting) status.curtain("Cutting the picture up…");
  else if (stage.regions) status.curtain("");
  else if (report && report.state !== "active") status.curtain(`The node is ${report.state}`, { full: !stage.shown });
  else if (!stage.shown) status.curtain("Waiting for the first picture…", { full: true });
  else if (late && document.visibilityState === "visible") {
    status.curtain(`No new picture for ${((performance.now() - pictureAt) / 1000).toFixed(0)} s`);
  } else status.curtain("");
}

function say(node, before, bold, after) {
  if (node.dataset.said === before + bold + after) return;
  node.dataset.said = before + bold + after;
  const strong = document.createElement("b");
  strong.textContent = bold;
  node.replaceChildren(before, strong, after);
}

function connect(token) {
  link.token = token;
  if (token) sessionStorage.setItem(TOKEN, token);
  status.showLink("connecting", "warn");
  link.connect();
}

setInterval(refresh, 500);
const given = new URLSearchParams(location.hash.slice(1)).get("token");
// The token is not to stay in the address, where it would be bookmarked and shown.
if (given) history.replaceState(null, "", location.pathname);
connect(given ?? sessionStorage.getItem(TOKEN) ?? "");
