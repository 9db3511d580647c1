// The list of objects: selecting, renaming, removing. Entries are kept from frame to frame, so that a
// name can be typed and a button pressed while pictures go on.

const WAITING = "WAITING";

export class ObjectList extends EventTarget {
  #list = document.getElementById("objects");
  #none = document.getElementById("none");
  #count = document.getElementById("count");
  #reset = document.getElementById("reset");
  #entries = new Map(); // id: { item, parts, values }
  #objects = []; // of the newest frame
  #known = null; // ids by the newest report
  #selected = 0;

  constructor() {
    super();
    this.#reset.disabled = true;
    this.#reset.addEventListener("click", () => this.#tell("reset", {}));
  }

  get selected() {
    return this.#entries.get(this.#selected)?.values ?? null;
  }

  get size() {
    return this.#entries.size;
  }

  find(id) {
    return this.#entries.get(id)?.values ?? null;
  }

  showFrame(objects) {
    this.#objects = objects;
    this.#update();
  }

  showReport({ known_ids }) {
    this.#known = new Set(known_ids);
    this.#update();
  }

  select(id) {
    this.#selected = this.#selected === id ? 0 : id;
    this.#update();
    this.#tell("select", {});
  }

  #update() {
    const values = new Map();
    for (const entry of this.#objects) if (!this.#known || this.#known.has(entry.id)) values.set(entry.id, entry);
    // Asked for, and in no picture yet: the prompt waits, or its frame is in work.
    for (const id of this.#known ?? []) {
      if (!values.has(id)) values.set(id, { id, label: "", color: "", state: WAITING, position_m: null, pixels: 0 });
    }
    for (const id of [...this.#entries.keys()]) if (!values.has(id)) this.#drop(id);
    for (const id of [...values.keys()].sort((a, b) => a - b)) this.#show(values.get(id));
    this.#count.textContent = values.size;
    this.#none.hidden = values.size > 0;
    this.#reset.disabled = values.size === 0;
  }

  #drop(id) {
    this.#entries.get(id).item.remove();
    this.#entries.delete(id);
    if (id === this.#selected) {
      this.#selected = 0;
      this.#tell("select", {});
    }
  }

  #show(values) {
    let entry = this.#entries.get(values.id);
    if (!entry) {
      entry = this.#make(values.id);
      this.#entries.set(values.id, entry);
      const after = [...this.#entries.keys()].filter((id) => id > values.id).sort((a, b) => a - b)[0];
      this.#list.insertBefore(entry.item, after ? this.#entries.get(after).item : null);
    }
    entry.values = values;
    const { item, parts } = entry;
    const seen = values.state === "TRACKED" || values.state === "REACQUIRED";
    item.dataset.state = values.state;
    item.classList.toggle("unseen", !seen);
    item.setAttribute("aria-selected", String(values.id === this.#selected));
    item.style.setProperty("--color", values.color || "var(--quiet)");
    set(parts.label, values.label || "unnamed");
    set(parts.state, values.state.toLowerCase());
    parts.state.dataset.state = values.state;
    set(parts.score, values.score === undefined ? "" : `score ${values.score.toFixed(2)}`);
    set(parts.position, placeOf(values, seen));
    set(parts.size, values.size_m ? values.size_m.map((edge) => (edge * 100).toFixed(0)).join(" × ") + " cm" : "");
    parts.deeds.hidden = values.id !== this.#selected;
  }

  #make(id) {
    const item = element("li", "object");
    item.dataset.id = id;
    item.tabIndex = 0;
    item.setAttribute("role", "option");
    const parts = {
      number: element("i", "", `${id}`), label: element("span"), state: element("span", "state"),
      score: element("span"), position: element("span", "mono"), size: element("span"), deeds: element("div", "deeds"),
    };
    const name = element("span", "name");
    name.append(parts.number, parts.label);
    const facts = element("div", "facts");
    facts.append(parts.score, parts.position, parts.size);
    const rename = element("button", "rename", "Rename");
    const remove = element("button", "remove", "Remove");
    rename.type = remove.type = "button";
    parts.deeds.append(rename, remove);
    item.append(element("span", "chip"), name, parts.state, facts, parts.deeds);
    item.addEventListener("click", () => this.select(id));
    item.addEventListener("keydown", (event) => {
      if (event.target !== item) return;
      if (event.key === "Enter" || event.key === " ") this.select(id);
      else if (event.key === "Delete") this.#tell("remove", { id });
      else if (event.key === "F2") this.#edit(id);
      else return;
      event.preventDefault();
    });
    name.addEventListener("dblclick", (event) => {
      event.stopPropagation();
      this.#edit(id);
    });
    rename.addEventListener("click", (event) => {
      event.stopPropagation();
      this.#edit(id);
    });
    remove.addEventListener("click", (event) => {
      event.stopPropagation();
      this.#tell("remove", { id });
    });
    return { item, parts, values: null };
  }

  #edit(id) {
    const { item, parts, values } = this.#entries.get(id);
    if (item.querySelector("input")) return;
    const input = element("input");
    input.value = values.label;
    input.maxLength = 128;
    input.setAttribute("aria-label", `Name of object ${id}`);
    parts.label.replaceWith(input);
    let open = true;
    const close = (take) => {
      if (!open) return;
      open = false;
      input.replaceWith(parts.label);
      if (take && input.value.trim() !== values.label) this.#tell("rename", { id, label: input.value });
    };
    input.addEventListener("click", (event) => event.stopPropagation());
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") close(true);
      else if (event.key === "Escape") close(false);
    });
    input.addEventListener("blur", () => close(true));
    input.focus();
    input.select();
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function placeOf(values, seen) {
  if (values.state === WAITING) return "waits for the next picture";
  if (values.position_m) return values.position_m.map((part) => part.toFixed(3)).join(", ") + " m";
  if (seen) return "no depth on it";
  return values.unseen_s == null ? "not seen yet" : `last seen ${values.unseen_s.toFixed(1)} s ago`;
}

function element(kind, name = "", text = "") {
  const made = document.createElement(kind);
  if (name) made.className = name;
  if (text) made.textContent = text;
  return made;
}

// Text is set only where it changes, so that it can be selected and read out.
function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
