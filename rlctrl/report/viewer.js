// Slices of functions on a tensor grid: two coordinates across and up, the others by sliders; linear between the nodes.
const VIRIDIS = "440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725";
const DIVERGING = "053061 2166ac 4393c3 92c5de d1e5f0 f7f7f7 fddbc7 f4a582 d6604d b2182b 67001f"; // blue −, red +
const WIDTH = 480, HEIGHT = 360, LEVELS = 9, SHADES = 512;

const text = (v) => (Number.isFinite(v) ? String(Number(v.toPrecision(4))).replace("e+", "e").replaceAll("-", "−") : "–");
const withUnit = (v, unit) => text(v) + (unit && unit !== "1" ? `\u00a0${unit}` : "");
const element = (id) => document.getElementById(id);
const clamp = (v, low, high) => Math.min(high, Math.max(low, v));

function make(name, attributes, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}

function colours(stops) { // SHADES × RGB
  const rgb = stops.split(" ").map((s) => [0, 2, 4].map((k) => parseInt(s.slice(k, k + 2), 16)));
  return Array.from({ length: SHADES }, (_, k) => {
    const x = (k / (SHADES - 1)) * (rgb.length - 1), i = Math.min(Math.floor(x), rgb.length - 2);
    return rgb[i].map((c, j) => c + (x - i) * (rgb[i + 1][j] - c));
  });
}
const MAPS = { value: colours(VIRIDIS), signed: colours(DIVERGING) };

function decoded(field) { // little-endian single precision, whatever this machine is
  const bytes = Uint8Array.from(atob(field.data), (c) => c.charCodeAt(0)), view = new DataView(bytes.buffer);
  return { ...field, values: Float32Array.from({ length: bytes.length / 4 }, (_, k) => view.getFloat32(4 * k, true)) };
}

function extremes(arrays) {
  let low = Infinity, high = -Infinity;
  for (const array of arrays) for (const v of array) if (Number.isFinite(v)) [low, high] = [Math.min(low, v), Math.max(high, v)];
  return low > high ? [0, 0] : [low, high];
}

function minus(fields, a, b, key, label) {
  const [left, right] = [a, b].map((k) => fields.find((f) => f.key === k));
  return left && right ? [{ ...left, key, label, kind: "error", values: left.values.map((v, k) => v - right.values[k]) }] : [];
}

// Where a value lies between the nodes: [index, weight of the next node].
function place(axis, value) {
  const nodes = axis.nodes, last = nodes.length - 1;
  if (axis.discrete) return [nodes.reduce((best, v, k) => (Math.abs(v - value) < Math.abs(nodes[best] - value) ? k : best), 0), 0];
  const x = clamp(((value - nodes[0]) / (nodes[last] - nodes[0])) * last, 0, last), i = Math.min(Math.floor(x), last - 1);
  return [i, x - i];
}

// Values of a field on the nodes of the axes a (fast) and b, the others where `at` says.
function slice(axes, field, a, b, at) {
  const strides = {};
  let size = 1;
  for (const k of [...field.axes].reverse()) [strides[k], size] = [size, size * axes[k].nodes.length];
  let corners = [[0, 1]];
  for (const k of field.axes.filter((k) => k !== a && k !== b)) {
    const [i, t] = place(axes[k], at[k]);
    const near = (o, w) => [[o + i * strides[k], w * (1 - t)], [o + (i + 1) * strides[k], w * t]].filter(([, w]) => w > 0);
    corners = corners.flatMap(([o, w]) => near(o, w));
  }
  const nx = axes[a].nodes.length, ny = axes[b].nodes.length, out = new Float64Array(nx * ny);
  for (let j = 0; j < ny; j++)
    for (let i = 0; i < nx; i++) for (const [o, w] of corners) out[j * nx + i] += w * field.values[o + i * strides[a] + j * strides[b]];
  return { nx, ny, values: out };
}

function between(axes, cut, a, b, va, vb) {
  const [i, s] = place(axes[a], va), [j, t] = place(axes[b], vb), { nx, values } = cut;
  const row = (j) => values[j * nx + i] * (1 - s) + (s ? values[j * nx + i + 1] * s : 0);
  return row(j) * (1 - t) + (t ? row(j + 1) * t : 0);
}

function paint(canvas, axes, cut, a, b, [low, high], map) {
  const context = canvas.getContext("2d"), image = context.createImageData(WIDTH, HEIGHT);
  const spot = (axis, f) => place(axis, axis.nodes[0] + f * (axis.nodes.at(-1) - axis.nodes[0]));
  const pixels = image.data, columns = Array.from({ length: WIDTH }, (_, p) => spot(axes[a], (p + 0.5) / WIDTH));
  for (let q = 0, n = 0; q < HEIGHT; q++) {
    const [j, t] = spot(axes[b], 1 - (q + 0.5) / HEIGHT), below = j * cut.nx, above = t ? below + cut.nx : below;
    for (const [i, s] of columns) {
      const next = s ? i + 1 : i, v = cut.values;
      const value = (v[below + i] * (1 - s) + v[below + next] * s) * (1 - t) + (v[above + i] * (1 - s) + v[above + next] * s) * t;
      const shade = map[clamp(Math.round(((value - low) / (high - low || 1)) * (SHADES - 1)), 0, SHADES - 1)];
      if (shade) [pixels[n], pixels[n + 1], pixels[n + 2], pixels[n + 3]] = [shade[0], shade[1], shade[2], 255]; // not finite: left clear
      n += 4;
    }
  }
  context.putImageData(image, 0, 0);
}

// Level lines by marching squares: in every cell the crossings of its edges, joined two and two.
function lines(canvas, cut, levels, colour) {
  const context = canvas.getContext("2d"), { nx, ny, values } = cut;
  const at = (i, j) => [(i / (nx - 1)) * WIDTH, (1 - j / (ny - 1)) * HEIGHT];
  Object.assign(context, { strokeStyle: colour, lineWidth: 1.2 });
  context.beginPath();
  for (const level of levels)
    for (let j = 0; j < ny - 1; j++)
      for (let i = 0; i < nx - 1; i++) {
        const n = j * nx + i, v = [values[n], values[n + 1], values[n + 1 + nx], values[n + nx]].map((value) => value - level);
        if (v[0] > 0 === v[1] > 0 && v[1] > 0 === v[2] > 0 && v[2] > 0 === v[3] > 0) continue;
        const corner = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]], hits = [];
        for (let k = 0; k < 4; k++) {
          const m = (k + 1) % 4, f = v[k] / (v[k] - v[m]);
          if (v[k] > 0 !== v[m] > 0) hits.push(at(corner[k][0] + f * (corner[m][0] - corner[k][0]), corner[k][1] + f * (corner[m][1] - corner[k][1])));
        }
        for (let k = 0; k + 1 < hits.length; k += 2) context.moveTo(...hits[k]), context.lineTo(...hits[k + 1]);
      }
  context.stroke();
}

function cross(canvas, x, y) {
  const context = canvas.getContext("2d");
  for (const [strokeStyle, lineWidth] of [["#ffffff", 3], ["#000000", 1]]) {
    Object.assign(context, { strokeStyle, lineWidth });
    context.beginPath();
    context.moveTo(x * WIDTH, 0), context.lineTo(x * WIDTH, HEIGHT), context.moveTo(0, y * HEIGHT), context.lineTo(WIDTH, y * HEIGHT);
    context.stroke();
  }
}

function nice(low, high, most) { // round numbers inside [low, high]
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((s) => s * power).find((s) => s >= raw * 0.999), out = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) out.push(k * step);
  return high > low ? out : [];
}

function ticks(axis) { // [value, label]
  const low = axis.nodes[0], high = axis.nodes.at(-1);
  if (axis.discrete) return axis.nodes.map((v) => [v, text(v)]);
  if (!axis.periodic || axis.unit !== "rad") return nice(low, high, 5).map((v) => [v, text(v)]);
  const turns = { "-2": "−π", "-1": "−π/2", 0: "0", 1: "π/2", 2: "π", 3: "3π/2", 4: "2π" };
  return Object.entries(turns).map(([k, label]) => [(k * Math.PI) / 2, label]).filter(([v]) => v >= low - 1e-6 && v <= high + 1e-6);
}
