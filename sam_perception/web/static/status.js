// The head of the page and the panels on the node's health.

const byId = (id) => document.getElementById(id);
const STATES = { active: "ok", inactive: "warn", unconfigured: "warn" };
const TOAST_MS = { good: 3000, bad: 9000 };

export class Status {
  #shown = []; // times at which pictures came

  showReport(report) {
    document.title = `${report.node} · sam_perception`;
    text("node", report.node);
    text("state", report.state);
    byId("state").dataset.level = STATES[report.state] ?? "warn";
    text("model", [report.model, report.device].filter(Boolean).join(" · "));
    text("rate", hertz(report.rate_hz));
    text("camera", hertz(report.input_hz.color));
    const latency = report.latency_ms["receive to publish"];
    text("latency", latency ? `${latency[0].toFixed(0)} ms (${latency[1].toFixed(0)})` : "–");
    byId("latency").title = Object.entries(report.latency_ms)
      .map(([stage, [median]]) => `${stage}: ${median.toFixed(1)} ms`)
      .join("\n");
    lines("diagnostics", report.diagnostics.map(({ name, level, message }) => ({ name, level, message })));
    lines("refusals", report.refusals.map(({ kind, message, age_s }) => ({ name: `${kind}, ${age(age_s)}`, level: 1, message })));
    byId("refusalpanel").hidden = report.refusals.length === 0;
  }

  countPicture() {
    const now = performance.now();
    this.#shown = [...this.#shown.filter((moment) => moment > now - 2000), now];
    const span = (now - this.#shown[0]) / 1000;
    text("shown", span > 0.2 ? hertz((this.#shown.length - 1) / span) : "–");
  }

  showLink(words, level) {
    text("link", words);
    byId("link").dataset.level = level;
  }

  // Words over the picture; an empty text takes them away. `full` where there is no picture behind them.
  curtain(words, { full = false, level = "" } = {}) {
    const curtain = byId("curtain");
    curtain.hidden = !words;
    curtain.classList.toggle("full", full);
    curtain.dataset.level = level;
    text("curtain", words);
  }

  toast(words, good) {
    const toasts = byId("toasts");
    const toast = document.createElement("div");
    toast.className = good ? "toast" : "toast bad";
    toast.setAttribute("role", good ? "status" : "alert");
    toast.textContent = words;
    toasts.append(toast);
    while (toasts.children.length > 4) toasts.firstChild.remove();
    setTimeout(() => toast.remove(), good ? TOAST_MS.good : TOAST_MS.bad);
  }
}

function lines(id, entries) {
  const list = byId(id);
  while (list.children.length > entries.length) list.lastChild.remove();
  entries.forEach(({ name, level, message }, index) => {
    let line = list.children[index];
    if (!line) {
      line = document.createElement("li");
      const words = document.createElement("div");
      words.append(document.createElement("b"), " ", document.createElement("span"));
      line.append(words);
      list.append(line);
    }
    line.dataset.level = level;
    set(line.querySelector("b"), name);
    set(line.querySelector("span"), message);
  });
}

function text(id, words) {
  set(byId(id), words);
}

function set(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

function hertz(rate) {
  return rate == null ? "–" : `${rate.toFixed(1)} Hz`;
}

function age(seconds) {
  return seconds < 90 ? `${seconds.toFixed(0)} s ago` : `${(seconds / 60).toFixed(0)} min ago`;
}
