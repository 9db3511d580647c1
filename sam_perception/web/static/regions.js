// Everything mode: the regions of one picture; the one under the cursor is the smallest that holds it.

export class Regions {
  #entries;
  #under = null;

  // Smallest first, each with outlines x0 y0 x1 y1 ... in the picture's pixels.
  constructor(message) {
    this.stamp = message.stamp;
    this.#entries = message.regions.map((region, index) => ({ ...region, path: pathOf(region.outlines), hue: (index * 137.5) % 360 }));
    this.count = this.#entries.length;
    this.probe = document.createElement("canvas").getContext("2d");
  }

  get under() {
    return this.#under;
  }

  point(x, y) {
    this.#under = this.#entries.find(({ path }) => this.probe.isPointInPath(path, x, y, "evenodd")) ?? null;
  }

  draw(context, hair) {
    for (let i = this.#entries.length - 1; i >= 0; i--) {
      const { path, hue } = this.#entries[i];
      context.fillStyle = `hsl(${hue} 75% 60% / 20%)`;
      context.fill(path, "evenodd");
      context.lineWidth = hair;
      context.strokeStyle = `hsl(${hue} 80% 70% / 75%)`;
      context.stroke(path);
    }
    if (this.#under) {
      context.fillStyle = "rgb(125 242 216 / 38%)";
      context.fill(this.#under.path, "evenodd");
      context.lineWidth = 2.5 * hair;
      context.strokeStyle = "#d6fff5";
      context.stroke(this.#under.path);
    }
  }
}

function pathOf(outlines) {
  const path = new Path2D();
  for (const outline of outlines) {
    path.moveTo(outline[0], outline[1]);
    for (let i = 2; i < outline.length; i += 2) path.lineTo(outline[i], outline[i + 1]);
    path.closePath();
  }
  return path;
}
