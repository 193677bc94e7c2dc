// Runs the script of a page without a browser: elements that remember what is set, and no more.
// node page_stub.js PAGE prints what moved as JSON.
"use strict";
const fs = require("fs");
const vm = require("vm");

const html = fs.readFileSync(process.argv[2], "utf8");
const json = html.match(/<script type="application\/json" id="data">([^]*?)<\/script>/)[1];
const script = html.match(/<script>([^]*?)<\/script>/)[1];

class Element {
  constructor(tag, space) {
    Object.assign(this, { tagName: tag.toUpperCase(), namespaceURI: space, attributes: {} });
    Object.assign(this, { children: [], listeners: {}, textContent: "", checked: false });
    Object.assign(this, { value: "0", clientWidth: 600, clientHeight: 300 });
  }
  setAttribute(name, value) {
    this.attributes[name] = String(value);
    if (name === "id") known.set(String(value), this);
    if (name === "value" || name === "type") this[name] = String(value);
  }
  appendChild(child) { this.children.push(child); return child; }
  replaceChildren() { this.children = []; }
  addEventListener(name, f) { (this.listeners[name] ||= []).push(f); }
  fire(name, event) { for (const f of this.listeners[name] || []) f({ target: this, ...event }); }
  getBoundingClientRect() { return { left: 0 }; }
  all() { return [this, ...this.children.flatMap((child) => child.all())]; }
}

const SVG = "svg";
const known = new Map();
for (const [, tag, id] of html.matchAll(/<(\w+)[^>]*? id="([\w-]+)"/g)) {
  known.set(id, new Element(tag, tag === "svg" ? SVG : "html"));
}
known.get("data").textContent = json;
known.get("log-value").checked = true;
const document = new Element("document", "html");
document.getElementById = (id) => known.get(id) || null;
document.createElement = (tag) => new Element(tag, "html");
document.createElementNS = (space, tag) => new Element(tag, space);
const timers = [];
const setInterval = (f) => timers.push(f);
const clearInterval = (id) => { timers[id - 1] = null; };
const world = { document, window: new Element("window", "html"), atob, setInterval, clearInterval };
vm.runInNewContext(script, world);

const picture = () => ({
  curve: known.get("curve").all().filter((e) => / median$/.test(e.attributes.class || ""))
    .map((e) => e.attributes.d),
  cells: known.get("sets").all().filter((e) => e.tagName === "RECT").map((e) => e.attributes.fill),
  text: known.get("reading").textContent,
});
function move(id, value) {
  known.get(id).value = String(value);
  known.get(id).fire("input");
}
const press = (key) => document.fire("keydown", { key, target: document, preventDefault() {} });

const seen = { first: picture() };
const axis = [...known.keys()].find((id) => id.startsWith("axis-"));
if (axis) { move(axis, 1); seen.axis = picture(); move(axis, 0); }
move("time", 3);
seen.time = picture();
press("ArrowRight");
seen.right = picture();
press(" ");
seen.playing = known.get("play").textContent;
timers.filter(Boolean).forEach((tick) => tick());
seen.played = picture();
press(" ");
seen.paused = known.get("play").textContent;
console.log(JSON.stringify(seen));
