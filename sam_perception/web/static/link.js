// The connection: says hello with the token, counts requests, and comes back by itself when it was lost.

const NO_TOKEN = 4401; // of session.py
const AGAIN_MS = [500, 1000, 2000, 4000];
const SILENT_MS = 4000; // the server reports every second; a longer silence is a dead connection

export class Link extends EventTarget {
  #socket = null;
  #asked = new Map();
  #number = 0;
  #tries = 0;
  #timer = 0;
  #heardAt = 0;
  token = "";

  constructor() {
    super();
    setInterval(() => this.#watch(), 1000);
  }

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  connect() {
    clearTimeout(this.#timer);
    this.#socket?.close();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/socket`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(JSON.stringify({ type: "hello", token: this.token }));
    socket.onmessage = (event) => {
      this.#heardAt = performance.now();
      if (typeof event.data === "string") this.#take(JSON.parse(event.data));
      else this.#takePicture(event.data);
    };
    socket.onclose = (event) => {
      if (socket === this.#socket) this.#lost(event);
    };
    this.#socket = socket;
    this.#heardAt = performance.now();
  }

  say(type, values = {}) {
    if (this.open) this.#socket.send(JSON.stringify({ type, ...values }));
  }

  // Resolves with the answer; a refusal is an answer too (ok is false).
  ask(type, values = {}) {
    if (!this.open) return Promise.resolve({ ok: false, text: "There is no connection to the node." });
    const ask = ++this.#number;
    this.say(type, { ask, ...values });
    return new Promise((resolve) => this.#asked.set(ask, resolve));
  }

  #take(message) {
    if (message.type === "welcome") this.#tries = 0;
    if (message.type === "answer") this.#answer(message);
    else this.#tell(message.type, message);
  }

  #takePicture(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const message = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    message.jpeg = new Blob([new Uint8Array(buffer, 4 + length)], { type: "image/jpeg" });
    if (message.type === "regions") this.#answer({ ok: true, ...message });
    else this.#tell(message.type, message);
  }

  #answer(message) {
    this.#asked.get(message.ask)?.(message);
    this.#asked.delete(message.ask);
  }

  #watch() {
    if (this.open && performance.now() - this.#heardAt > SILENT_MS) {
      this.#socket.close();
      this.#lost({ code: 1006, reason: "" });
    }
  }

  #lost(event) {
    this.#socket = null;
    for (const resolve of this.#asked.values()) resolve({ ok: false, text: "The connection was lost before the answer." });
    this.#asked.clear();
    if (event.code === NO_TOKEN) {
      this.#tell("token", { reason: event.reason });
      return;
    }
    const wait_ms = AGAIN_MS[Math.min(this.#tries++, AGAIN_MS.length - 1)];
    this.#timer = setTimeout(() => this.connect(), wait_ms);
    this.#tell("lost", { reason: event.reason, wait_ms });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
