"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const svgName = byId("curve").namespaceURI;

  // State: the frame of time, an index along each swept dimension, and the run.
  const index = { frame: 0, seed: 0 };
  for (const axis of data.axes) index[axis.name] = 0;
  const frames = data.time.frames;
  let timer = null;

  // ---- arrays -----------------------------------------------------------------------------

  /** A packed array with its numbers: little-endian float32 in base64. */
  function unpacked(packed) {
    const text = atob(packed.f32);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const view = new DataView(bytes.buffer);
    const values = new Float32Array(bytes.length / 4);
    for (let i = 0; i < values.length; i++) values[i] = view.getFloat32(4 * i, true);
    return { dims: packed.dims, shape: packed.shape, values };
  }

  /** The numbers at the present state; `own` last dimensions are kept. */
  function present(array, own) {
    const free = array.dims.length - own;
    let offset = 0;
    for (let i = 0; i < free; i++) {
      const at = Math.min(index[array.dims[i]] ?? 0, array.shape[i] - 1);
      offset = offset * array.shape[i] + at;
    }
    const size = array.shape.slice(free).reduce((a, b) => a * b, 1);
    return array.values.subarray(offset * size, (offset + 1) * size);
  }

  for (const curve of data.curves) {
    for (const name of ["median", "low", "high", "runs", "training"]) {
      if (curve[name]) curve[name] = unpacked(curve[name]);
    }
  }
  data.curves.forEach((curve, i) => {
    curve.look = curve.theory ? "theory" : i === 0 || data.curves[0].theory ? "run" : "other";
  });
  for (const set of data.sets) for (const map of set.maps) map.values = unpacked(map.values);

  // ---- small tools ------------------------------------------------------------------------

  function make(name, attributes, parent, text) {
    const isSvg = parent && parent.namespaceURI === svgName;
    const node = isSvg || name === "svg"
      ? document.createElementNS(svgName, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  }

  /** Three significant digits, as people write them. */
  function short(x) {
    if (!Number.isFinite(x)) return "–";
    if (x === 0) return "0";
    const size = Math.abs(x);
    if (size >= 1e5 || size < 1e-3) {
      return x.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e").replace("-", "−");
    }
    const digits = size >= 100 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(size)));
    return x.toFixed(digits).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "").replace("-", "−");
  }

  function nearest(times, t) {
    let best = 0;
    for (let i = 1; i < times.length; i++) {
      if (Math.abs(times[i] - t) < Math.abs(times[best] - t)) best = i;
    }
    return best;
  }

  // ---- curves -----------------------------------------------------------------------------

  const margin = { left: 66, right: 14, top: 12, bottom: 40 };
  let x = null;
  let y = null;
  let nowLine = null;
  let dots = [];

  /** From numbers to pixels. log: whether the axis is logarithmic. */
  function scale(low, high, from, to, log) {
    const f = log ? Math.log10 : (value) => value;
    const a = f(low);
    const b = f(high) === a ? a + 1 : f(high);
    const place = (value) => from + ((f(value) - a) / (b - a)) * (to - from);
    return {
      low, high, log, place,
      shows: (value) => Number.isFinite(value) && (!log || value > 0),
      value: (pixel) => {
        const at = a + ((pixel - from) / (to - from)) * (b - a);
        return log ? 10 ** at : at;
      },
    };
  }

  /** The range of all curves, so that it stays while sliders move. */
  function range(log) {
    let low = Infinity;
    let high = -Infinity;
    for (const curve of data.curves) {
      for (const name of ["median", "low", "high", "training"]) {
        for (const value of curve[name] ? curve[name].values : []) {
          if (!Number.isFinite(value) || (log && value <= 0)) continue;
          // A band that reaches to 0 must not stretch a logarithmic axis.
          if (value < low && (name === "median" || !log)) low = value;
          if (value > high) high = value;
        }
      }
    }
    if (low > high) return [0.1, 1];
    return log ? [low / 1.3, high * 1.3] : [Math.min(0, low), high > low ? high * 1.04 : low + 1];
  }

  function timeRange(log) {
    const all = data.curves.flatMap((curve) => curve.times).filter((t) => !log || t > 0);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    return high > low ? [low, high] : [low, low + 1];
  }

  function ticks(axis, count) {
    if (axis.log) {
      const first = Math.ceil(Math.log10(axis.low) - 1e-9);
      const last = Math.floor(Math.log10(axis.high) + 1e-9);
      const step = Math.max(1, Math.ceil((last - first + 1) / count));
      const found = [];
      for (let k = first; k <= last; k += step) found.push(10 ** k);
      if (found.length > 2) return found;
      // Less than three decades: 1, 2, 5 and their multiples, and the ends where even these fail.
      const round = [];
      for (let k = first - 1; k <= last + 1; k++) {
        for (const factor of [1, 2, 5]) round.push(factor * 10 ** k);
      }
      const inside = round.filter((value) => value >= axis.low && value <= axis.high);
      return inside.length > 1 ? inside : [axis.low * 1.001, axis.high / 1.001];
    }
    const raw = (axis.high - axis.low) / count;
    const size = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((f) => f * size).find((s) => s >= raw);
    const found = [];
    for (let k = Math.ceil(axis.low / step); k * step <= axis.high * 1.0001; k++) {
      found.push(k * step);
    }
    return found;
  }

  function path(times, values) {
    let text = "";
    let pen = "M";
    times.forEach((t, i) => {
      if (!x.shows(t) || !y.shows(values[i])) { pen = "M"; return; }
      text += `${pen}${x.place(t).toFixed(1)},${y.place(values[i]).toFixed(1)}`;
      pen = "L";
    });
    return text;
  }

  /** The outline of a band; its lower end stops at the lower end of the axis. */
  function bandPath(times, low, high) {
    const upper = [];
    const lower = [];
    times.forEach((t, i) => {
      if (!x.shows(t) || !y.shows(high[i]) || !Number.isFinite(low[i])) return;
      upper.push(`${x.place(t).toFixed(1)},${y.place(high[i]).toFixed(1)}`);
      lower.push(`${x.place(t).toFixed(1)},${y.place(Math.max(low[i], y.low)).toFixed(1)}`);
    });
    return upper.length > 1 ? `M${upper.join("L")}L${lower.reverse().join("L")}Z` : "";
  }

  function drawCurves() {
    const svg = byId("curve");
    const width = svg.clientWidth || 640;
    const height = svg.clientHeight || 300;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    const logValue = byId("log-value").checked;
    const logTime = byId("log-time").checked;
    x = scale(...timeRange(logTime), margin.left, width - margin.right, logTime);
    y = scale(...range(logValue), height - margin.bottom, margin.top, logValue);
    drawAxes(svg, width, height);
    // Theory lies under the crosses of runs.
    const order = [...data.curves].sort((a, b) => Number(b.theory) - Number(a.theory));
    for (const curve of order) drawCurve(svg, curve);
    nowLine = make("line", { class: "now", y1: margin.top, y2: height - margin.bottom }, svg);
    dots = data.curves.map((curve) => make("circle", { class: `dot ${curve.look}`, r: 5 }, svg));
    drawNow();
  }

  function drawAxes(svg, width, height) {
    const bottom = height - margin.bottom;
    for (const value of ticks(y, 5)) {
      const at = y.place(value);
      make("line", { class: "grid", x1: margin.left, x2: width - margin.right, y1: at, y2: at }, svg);
      make("text", { x: margin.left - 6, y: at + 4, "text-anchor": "end" }, svg, short(value));
    }
    for (const value of ticks(x, width < 480 ? 4 : 8)) {
      const at = x.place(value);
      make("line", { class: "axis", x1: at, x2: at, y1: bottom, y2: bottom + 4 }, svg);
      make("text", { x: at, y: bottom + 17, "text-anchor": "middle" }, svg, short(value));
    }
    make("path", {
      class: "axis", d: `M${margin.left},${margin.top}V${bottom}H${width - margin.right}`,
    }, svg);
    const middle = (margin.left + width - margin.right) / 2;
    const label = { class: "name", "text-anchor": "middle" };
    make("text", { ...label, x: middle, y: height - 6 }, svg, data.time.label);
    const turned = { ...label, transform: `translate(13,${(margin.top + bottom) / 2}) rotate(-90)` };
    make("text", turned, svg, data.quantity);
  }

  function drawCurve(svg, curve) {
    const median = present(curve.median, 1);
    if (curve.low) {
      const d = bandPath(curve.times, present(curve.low, 1), present(curve.high, 1));
      make("path", { class: `band ${curve.look}`, d }, svg);
    }
    if (curve.training) {
      const d = path(curve.times, present(curve.training, 1));
      make("path", { class: `curve dotted ${curve.look}`, d }, svg);
    }
    if (curve.runs && data.runs.length > 1) {
      const d = path(curve.times, present(curve.runs, 1));
      make("path", { class: `curve thin chosen ${curve.look}`, d }, svg);
    }
    const thin = curve.theory || isFlow ? "" : " thin";
    make("path", { class: `curve${thin} ${curve.look} median`, d: path(curve.times, median) }, svg);
    if (curve.theory || isFlow) return;
    for (const i of markers(curve.times)) {
      if (!x.shows(curve.times[i]) || !y.shows(median[i])) continue;
      const d = cross(x.place(curve.times[i]), y.place(median[i]));
      make("path", { class: `mark ${curve.look}`, d }, svg);
    }
  }

  /** The outline of a cross about a point, as experiments are drawn. */
  function cross(left, top) {
    const [a, b] = [left.toFixed(1), top.toFixed(1)];
    return `M${a},${b}m-3,-3l6,6m0,-6l-6,6`;
  }

  /** Times that lie evenly along the axis. */
  function markers(times) {
    const found = new Set();
    const count = 22;
    const [from, to] = [x.place(x.low), x.place(x.high)];
    for (let k = 0; k < count; k++) {
      found.add(nearest(times, x.value(from + (k / (count - 1)) * (to - from))));
    }
    return found;
  }

  // ---- matrices ---------------------------------------------------------------------------

  const dark = typeof matchMedia === "function" ? matchMedia("(prefers-color-scheme: dark)") : null;
  const PALETTES = {
    light: [[33, 102, 172], [247, 247, 247], [178, 24, 43]],
    dark: [[96, 165, 230], [38, 43, 50], [240, 120, 100]],
  };

  /** Blue, neutral, red: a diverging scale whose middle is close to the paper. */
  function colour(share) {
    const palette = PALETTES[dark && dark.matches ? "dark" : "light"];
    const size = Math.min(1, Math.abs(share));
    const end = palette[share < 0 ? 0 : 2];
    return palette[1].map((c, i) => Math.round(c + (end[i] - c) * size));
  }

  const isBright = ([r, g, b]) => 0.299 * r + 0.587 * g + 0.114 * b > 140;

  function buildMaps() {
    for (const set of data.sets) {
      const section = make("section", {}, byId("sets"));
      make("h2", {}, section, set.name);
      make("p", { class: "soft" }, section, scalesOf(set));
      const row = make("div", { class: "maps" }, section);
      for (const map of set.maps) buildMap(map, row);
    }
  }

  const letter = (name) => data.starred[name] || name;

  /** One line for the scales of colours; quantities of one scale are named together. */
  function scalesOf(set) {
    const alike = new Map();
    for (const map of set.maps) {
      alike.set(map.limit, [...(alike.get(map.limit) || []), letter(map.name)]);
    }
    const scales = [...alike].map(([limit, names]) => {
      return `±${short(limit)} for ${names.join(", ")}`;
    });
    return `Colours from blue (negative) to red (positive): ${scales.join("; ")}.`;
  }

  function buildMap(map, parent) {
    const [rows, columns] = [map.units[0], map.units[1] ?? 1];
    const size = Math.max(9, Math.min(34, Math.floor(190 / Math.max(rows, columns))));
    const numbered = size >= 14;
    const edge = numbered ? 16 : 2;
    const figure = make("figure", { class: "map" }, parent);
    const [width, height] = [edge + columns * size + 1, edge + rows * size + 1];
    const named = { role: "img", "aria-label": map.name };
    const svg = make("svg", { ...named, width, height, viewBox: `0 0 ${width} ${height}` }, figure);
    const unit = (number, at) => make("text", { class: "unit", ...at }, svg, String(number));
    if (numbered) {
      for (let i = 0; i < rows; i++) unit(i + 1, { x: 7, y: edge + (i + 0.5) * size });
      const across = map.units.length > 1 ? columns : 0;
      for (let j = 0; j < across; j++) unit(j + 1, { x: edge + (j + 0.5) * size, y: 8 });
    }
    map.cells = [];
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) {
        const [left, top] = [edge + j * size, edge + i * size];
        const at = { class: "cell", x: left, y: top, width: size, height: size };
        const cell = { rect: make("rect", at, svg) };
        if (size >= 30) {
          const middle = { class: "value", x: left + size / 2, y: top + size / 2 };
          cell.text = make("text", middle, svg);
        }
        map.cells.push(cell);
      }
    }
    const sides = map.columns ? `${map.rows} × ${map.columns}` : map.rows;
    const caption = make("figcaption", {}, figure);
    make("strong", {}, caption, letter(map.name));
    make("span", {}, caption, ` ${sides}`);
  }

  function drawMaps() {
    for (const set of data.sets) {
      for (const map of set.maps) {
        const values = present(map.values, map.units.length);
        map.cells.forEach((cell, i) => paint(cell, values[i], map.limit));
      }
    }
  }

  function paint(cell, value, limit) {
    const there = Number.isFinite(value);
    const rgb = there ? colour(value / limit) : null;
    cell.rect.setAttribute("fill", there ? `rgb(${rgb.join(",")})` : "none");
    if (!cell.text) return;
    const two = Math.abs(value) >= 10 ? value.toFixed(0) : value.toFixed(2);
    const signed = Number(two) === 0 ? two.replace("-", "") : two.replace("-", "−");
    cell.text.textContent = there ? signed : "";
    if (there) cell.text.setAttribute("style", `fill:${isBright(rgb) ? "#1c1f24" : "#ffffff"}`);
  }

  // ---- the present time -------------------------------------------------------------------

  function drawNow() {
    const t = frames[index.frame];
    const at = x.place(x.log && t <= 0 ? x.low : Math.min(Math.max(t, x.low), x.high));
    nowLine.setAttribute("x1", at);
    nowLine.setAttribute("x2", at);
    const said = [];
    data.curves.forEach((curve, i) => {
      const here = nearest(curve.times, t);
      const value = present(curve.median, 1)[here];
      const visible = y.shows(value) && x.shows(curve.times[here]);
      dots[i].setAttribute("visibility", visible ? "visible" : "hidden");
      if (visible) {
        dots[i].setAttribute("cx", x.place(curve.times[here]));
        dots[i].setAttribute("cy", y.place(value));
      }
      said.push(`${short(value)} (${curve.name})`);
    });
    const told = `${data.time.name} = ${short(t)}`;
    byId("time-value").textContent = told;
    byId("time").setAttribute("aria-valuetext", told);
    byId("reading").textContent = `${data.quantity} at ${told}: ${said.join(", ")}`;
  }

  function goTo(frame) {
    index.frame = Math.max(0, Math.min(frames.length - 1, frame));
    byId("time").value = String(index.frame);
    drawNow();
    drawMaps();
  }

  // ---- playing ----------------------------------------------------------------------------

  const SECONDS = 12; // that a whole film takes
  const LEAST = 30; // milliseconds between two frames

  function setPlaying(on) {
    if (timer !== null) clearInterval(timer);
    timer = null;
    byId("play").textContent = on ? "Pause" : "Play";
    byId("play").setAttribute("aria-pressed", String(on));
    if (!on) return;
    if (index.frame === frames.length - 1) goTo(0);
    const pause = Math.max(LEAST, (SECONDS * 1000) / frames.length);
    const step = Math.max(1, Math.round((LEAST * frames.length) / (SECONDS * 1000)));
    timer = setInterval(() => {
      goTo(index.frame + step);
      if (index.frame === frames.length - 1) setPlaying(false);
    }, pause);
  }

  // ---- controls ---------------------------------------------------------------------------

  function addSlider(name, label, values) {
    const row = make("div", { class: "row" }, byId("axes"));
    const id = `axis-${name}`;
    make("label", { for: id }, row, label);
    const range = { id, type: "range", min: 0, max: values.length - 1, step: 1, value: 0 };
    const input = make("input", range, row);
    const output = make("output", { for: id }, row);
    const show = () => {
      index[name] = Number(input.value);
      output.textContent = values[index[name]];
      input.setAttribute("aria-valuetext", values[index[name]]);
    };
    input.addEventListener("input", () => { show(); drawCurves(); drawMaps(); });
    show();
  }

  function addLegend() {
    const entry = (kind, look, text) => {
      const span = make("span", {}, byId("legend"));
      const svg = make("svg", { viewBox: "0 0 26 12", "aria-hidden": "true" }, span);
      const line = { d: "M0,6H26" };
      if (kind === "band") make("path", { class: `band ${look}`, d: "M0,0H26V12H0Z" }, svg);
      else if (kind === "mark") make("path", { class: `mark ${look}`, d: cross(13, 6) }, svg);
      else make("path", { class: `curve ${kind} ${look}`, ...line }, svg);
      make("span", {}, span, text);
    };
    for (const curve of data.curves) {
      entry(curve.theory || isFlow ? "" : "mark", curve.look, curve.name);
      if (curve.band) entry("band", curve.look, curve.band);
      if (curve.runs && data.runs.length > 1) entry("thin", curve.look, "the chosen run");
      if (curve.training) entry("dotted", curve.look, "training error");
    }
  }

  function chooseByPointer(event) {
    const box = byId("curve").getBoundingClientRect();
    goTo(nearest(frames, x.value(event.clientX - box.left)));
  }

  /** In a frame of the same origin, a notebook's, keep the frame as high as the page. */
  function fitFrame() {
    const frame = window.frameElement;
    if (!frame) return;
    // A height of the curve that follows the frame's would follow its own.
    document.documentElement.className = "framed";
    const fit = () => {
      frame.style.height = `${Math.ceil(document.body.getBoundingClientRect().height)}px`;
    };
    new ResizeObserver(fit).observe(document.body);
  }

  function listen() {
    const time = byId("time");
    time.addEventListener("input", () => { setPlaying(false); goTo(Number(time.value)); });
    byId("play").addEventListener("click", () => setPlaying(timer === null));
    for (const id of ["log-time", "log-value"]) byId(id).addEventListener("change", drawCurves);
    const curve = byId("curve");
    let held = false;
    curve.addEventListener("pointerdown", (event) => {
      held = true;
      setPlaying(false);
      chooseByPointer(event);
    });
    curve.addEventListener("pointermove", (event) => { if (held) chooseByPointer(event); });
    for (const end of ["pointerup", "pointercancel"]) {
      window.addEventListener(end, () => { held = false; });
    }
    document.addEventListener("keydown", onKey);
    window.addEventListener("resize", drawCurves);
    if (dark && dark.addEventListener) dark.addEventListener("change", drawMaps);
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target || {};
    const isButton = target.tagName === "BUTTON" || target.type === "checkbox";
    if (event.key === " " && !isButton) {
      event.preventDefault();
      setPlaying(timer === null);
      return;
    }
    // A slider that has the focus moves by the browser's own keys.
    if (target.type === "range") return;
    const moves = {
      ArrowLeft: index.frame - 1, ArrowRight: index.frame + 1, Home: 0, End: frames.length - 1,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    setPlaying(false);
    goTo(moves[event.key]);
  }

  const isFlow = data.time.name === "t";
  data.setting.split(/_(\w)/).forEach((part, i) =>  // η_v with its index below the line
    make(i % 2 ? "sub" : "span", {}, byId("setting"), part));
  byId("notes").textContent = data.notes.join(" ");
  byId("time").setAttribute("max", String(frames.length - 1));
  byId("log-time").checked = data.time.log;
  for (const axis of data.axes) addSlider(axis.name, axis.label, axis.values);
  if (data.runs.length > 1) addSlider("seed", "seed of the run in the matrices", data.runs);
  addLegend();
  buildMaps();
  listen();
  fitFrame();
  drawCurves();
  goTo(0);
})();
