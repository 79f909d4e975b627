"use strict";
// Elements and numbers. Texts of the network reach the page as text nodes alone: they are never parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

const element = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
const shape = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

const rounded = (value) => (value >= 100 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(3)));

function scaled(value, base, units) {
  let index = 0;
  while (value >= base && index < units.length - 1) {
    value /= base;
    index += 1;
  }
  return `${rounded(value)} ${units[index]}`;
}

const bytes = (count) => scaled(count, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
const seconds = (value) => scaled(value * 1e9, 1000, ["ns", "µs", "ms", "s"]);
const macs = (count) => scaled(count, 1000, ["", "K", "M", "G", "T"]).trim();
const percent = (part, whole) => `${whole ? ((100 * part) / whole).toFixed(1) : 0} %`;
const dimensions = (extents) => `[${extents.join(", ")}]`;
const shortened = (text, limit) =>
  text.length <= limit ? text : `${text.slice(0, limit / 2 - 1)}…${text.slice(-(limit / 2))}`;

// what colours mean
const KINDS = {
  binary: { label: "1-bit weights and inputs", colour: "#9bd8b8" },
  few: { label: "2 to 4 bits", colour: "#cfe59a" },
  wide: { label: "5 to 8 bits", colour: "#f4e08a" },
  float: { label: "multiplied as floats", colour: "#f5b79f" },
  none: { label: "no layer", colour: "#e3e7ed" },
};
const FAMILIES = {
  own: { label: "kernel of its own", colour: "#2458a6" },
  standard: { label: "standard operator", colour: "#7b8797" },
  tvm: { label: "code by TVM", colour: "#a04fb5" },
};

function kindOf(step) {
  if (!step.macs) return "none";
  if (!step.integers) return "float";
  const widest = Math.max(step.w_bits, step.a_bits);
  return widest <= 1 ? "binary" : widest <= 4 ? "few" : "wide";
}

function familyOf(step) {
  return Object.hasOwn(FAMILIES, step.kernels[0]) ? step.kernels[0] : "own";
}

const bits = (count) => `${count || 32} bit${count === 1 ? "" : "s"}`;
const widths = (step) => (step.macs ? `w${step.w_bits || 32}a${step.a_bits || 32}` : "");
const titleOf = (step) => step.nodes[0] || step.op;
