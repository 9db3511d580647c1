// The picture and what is drawn over it; turns the pointer into clicks, boxes and probes in the picture's own pixels.

const DRAG_PX = 5; // a shorter way of the pointer is a click
const PROBE_MS = 66;
const MARK_MS = 900; // for which a click stays to be seen

export class Stage extends EventTarget {
  #screen = document.getElementById("screen");
  #frame = document.getElementById("frame");
  #picture = document.getElementById("picture");
  #marks = document.getElementById("marks");
  #start = null; // where the pointer went down, in client coordinates
  #drag = null; // box in the picture's pixels
  #at = null; // the cursor, in the picture's pixels
  #spots = []; // clicks that fade
  #probed = 0;
  #asking = 0;
  #turn = 0; // counts pictures that were begun to be shown
  shown = null; // header of the frame that is shown
  regions = null; // Regions, while the picture is cut up
  enabled = true;

  constructor() {
    super();
    new ResizeObserver(() => this.#fit()).observe(this.#screen);
    this.#frame.addEventListener("pointerdown", (event) => this.#down(event));
    this.#frame.addEventListener("pointermove", (event) => this.#move(event));
    this.#frame.addEventListener("pointerup", (event) => this.#up(event));
    this.#frame.addEventListener("pointercancel", () => this.#forgetDrag());
    this.#frame.addEventListener("pointerleave", () => this.#leave());
  }

  // Resolves when the frame is on the screen, or a newer one was begun, which takes its place.
  async show(header, jpeg) {
    const turn = ++this.#turn;
    const image = await createImageBitmap(jpeg);
    if (turn !== this.#turn) {
      image.close();
      return;
    }
    if (this.#picture.width !== header.width || this.#picture.height !== header.height) {
      this.#picture.width = header.width;
      this.#picture.height = header.height;
      this.shown = header;
      this.#fit();
    }
    this.#picture.getContext("2d").drawImage(image, 0, 0);
    image.close();
    this.shown = header;
    this.#picture.dataset.stamp = header.stamp;
    if (this.#at) this.#probe();
  }

  set stale(stale) {
    this.#frame.classList.toggle("stale", stale);
  }

  // The cursor stands still and the picture goes on, or something else has changed what is under it.
  redraw() {
    this.#draw();
  }

  forgetDrag() {
    this.#forgetDrag();
  }

  #fit() {
    const { width, height } = this.#picture;
    const scale = Math.min(this.#screen.clientWidth / width, this.#screen.clientHeight / height);
    const [shown_w, shown_h] = [Math.floor(width * scale), Math.floor(height * scale)];
    this.#frame.style.width = `${shown_w}px`;
    this.#frame.style.height = `${shown_h}px`;
    this.#marks.width = Math.round(shown_w * devicePixelRatio);
    this.#marks.height = Math.round(shown_h * devicePixelRatio);
    this.#draw();
  }

  // Pixel centres are whole numbers, so the picture goes from -0.5 to width - 0.5.
  #pixel(event) {
    const place = this.#picture.getBoundingClientRect();
    const { width, height } = this.#picture;
    const x = ((event.clientX - place.left) / place.width) * width - 0.5;
    const y = ((event.clientY - place.top) / place.height) * height - 0.5;
    return [Math.min(Math.max(x, 0), width - 1), Math.min(Math.max(y, 0), height - 1)];
  }

  #down(event) {
    if (event.button !== 0 || !this.enabled || !this.shown) return;
    this.#frame.setPointerCapture(event.pointerId);
    this.#start = { client: [event.clientX, event.clientY], pixel: this.#pixel(event), stamp: this.shown.stamp };
  }

  #move(event) {
    this.#at = this.#pixel(event);
    if (this.#start) {
      const [x, y] = this.#start.client;
      if (this.#drag || Math.hypot(event.clientX - x, event.clientY - y) > DRAG_PX) {
        this.#drag = box(this.#start.pixel, this.#at);
      }
    }
    this.regions?.point(...this.#at);
    this.#draw();
    this.#probe();
  }

  #up(event) {
    if (!this.#start) return;
    const start = this.#start;
    const drag = this.#drag;
    this.#forgetDrag();
    // The frame on which it began is the one that was looked at.
    if (drag && !this.regions) {
      if (drag[2] - drag[0] >= 1 && drag[3] - drag[1] >= 1) this.#tell("box", { box: drag, stamp: start.stamp });
      return;
    }
    this.#tell("point", { x: start.pixel[0], y: start.pixel[1], stamp: start.stamp, shift: event.shiftKey });
  }

  #leave() {
    this.#at = null;
    this.regions?.point(-1, -1);
    this.#draw();
    this.#tell("away", {});
  }

  #forgetDrag() {
    this.#start = this.#drag = null;
    this.#draw();
  }

  #probe() {
    if (!this.#at || !this.shown) return;
    const wait = this.#probed + PROBE_MS - performance.now();
    clearTimeout(this.#asking);
    if (wait > 0) {
      this.#asking = setTimeout(() => this.#probe(), wait);
      return;
    }
    this.#probed = performance.now();
    this.#tell("probe", { x: this.#at[0], y: this.#at[1], stamp: this.shown.stamp });
  }

  // A mark where something was pointed at; kind is "point", "background" or "box".
  mark(kind, place) {
    this.#spots.push({ kind, place, until: performance.now() + MARK_MS });
    this.#draw();
    setTimeout(() => this.#draw(), MARK_MS + 20);
  }

  #draw() {
    const context = this.#marks.getContext("2d");
    const scale = this.#marks.width / this.#picture.width;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#marks.width, this.#marks.height);
    // From here on in the picture's pixels.
    context.setTransform(scale, 0, 0, scale, scale / 2, scale / 2);
    const hair = devicePixelRatio / scale;
    this.regions?.draw(context, hair);
    if (this.#drag) drawBox(context, this.#drag, hair);
    const now = performance.now();
    this.#spots = this.#spots.filter((spot) => spot.until > now);
    for (const { kind, place } of this.#spots) {
      if (kind === "box") drawBox(context, place, hair);
      else drawSpot(context, place, hair, kind === "background" ? "#ef6d6d" : "#35c4a5");
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function box([x0, y0], [x1, y1]) {
  return [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
}

function drawBox(context, [x0, y0, x1, y1], hair) {
  context.fillStyle = "rgb(53 196 165 / 14%)";
  context.fillRect(x0, y0, x1 - x0, y1 - y0);
  for (const [width, color] of [[3.5, "rgb(6 14 18 / 70%)"], [1.5, "#7df2d8"]]) {
    context.lineWidth = width * hair;
    context.strokeStyle = color;
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
}

function drawSpot(context, [x, y], hair, color) {
  context.beginPath();
  context.arc(x, y, 6 * hair, 0, 7);
  context.fillStyle = color;
  context.fill();
  context.lineWidth = 2 * hair;
  context.strokeStyle = "#fff";
  context.stroke();
}
