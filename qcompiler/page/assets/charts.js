"use strict";
// Sizes, verification, times, roofline and memory.

const PLOT = { width: 640, height: 380, left: 62, right: 16, top: 16, bottom: 42 };
const WIDE = { ...PLOT, width: 1300, height: 330 };

function table(headings, rows, attributes = {}) {
  const cell = (name) => (value, index) => element(name, { class: headings[index][1] }, value);
  return element(
    "table",
    attributes,
    element("thead", {}, element("tr", {}, ...headings.map(([text]) => text).map(cell("th")))),
    element("tbody", {}, ...rows.map((row) => (row instanceof Node ? row : element("tr", {}, ...row.map(cell("td")))))),
  );
}

const hint = (text) => element("p", { class: "hint" }, text);

function amount(share, colour, estimated = false) {
  const style = `width:${Math.min(100 * share, 100)}%;background:${colour}`;
  return element("div", { class: estimated ? "amount estimated" : "amount", style });
}

// Flash and RAM of microcontrollers, where the network is for some.
function memories(data) {
  if (!data.footprints.length) return [];
  const parts = (each, ...names) => names.map((name) => `${bytes(each[name])} ${name}`).join(", ");
  const rows = data.footprints.map((each) => [
    each.variant.replaceAll("_", "-"),
    bytes(each.flash),
    parts(each, "code", "constants"),
    bytes(each.ram),
    parts(each, "workspace", "inputs", "outputs", "static") + (each.stack ? `, ${bytes(each.stack)} stack` : ", and a stack"),
  ]);
  return [table([["core"], ["flash", "number"], ["of it"], ["RAM", "number"], ["of it"]], rows, { id: "footprints" })];
}

function drawSizes(place, data) {
  const sizes = [
    ["all constants in float32", 4 * (data.weights + data.other_constants), KINDS.float.colour],
    ["weights in int8, the rest in float32", data.weights + 4 * data.other_constants, KINDS.wide.colour],
    ["constants in this library", data.totals.constant_bytes, KINDS.binary.colour],
    [data.footprints.length ? "the whole library of one core" : "the whole shared library", data.library_bytes, "#9fb8dd"],
    ["workspace", data.totals.workspace_bytes, KINDS.none.colour],
  ];
  const most = Math.max(...sizes.map(([, size]) => size), 1);
  const rows = sizes.map(([name, size, colour]) => [name, amount(size / most, colour), bytes(size)]);
  const variants = data.variants.length;
  place.replaceChildren(
    table([["what"], ["", "bars"], ["size", "number"]], rows),
    ...memories(data),
    hint(
      `${(data.weights + data.other_constants).toLocaleString("en")} numbers in the file. ` +
        (data.footprints.length
          ? "Each core has a library of its own."
          : `The library has code for ${variants} instruction set${variants > 1 ? "s" : ""}: ${data.variants.join(", ")}.`),
    ),
  );
}

function drawVerification(place, data) {
  if (!data.checks.length) {
    place.replaceChildren(hint("This bundle was not verified against onnxruntime when it was made."));
    return;
  }
  const rows = data.checks.map((check) => [
    check.variant,
    String(check.samples),
    check.codes.toLocaleString("en"),
    String(check.ties),
    check.largest ? check.largest.toExponential(1) : "0",
  ]);
  place.replaceChildren(
    table([["instruction set"], ["samples", "number"], ["codes equal", "number"], ["ties", "number"], ["largest difference", "number"]], rows),
    ...data.checks.map((check) => hint(`${check.variant}: ${check.text}`)),
  );
}

// Index of the variant whose times are shown, and seconds by step, 0 where they are not known.
function timesOf(data) {
  const shown = Math.max(data.variants.indexOf(data.measured?.variant), 0);
  return {
    variant: shown,
    estimated: data.steps.map((step) => step.nanoseconds[shown] * 1e-9),
    measured: data.measured ? data.steps.map((_, index) => data.measured.seconds[index] ?? 0) : null,
  };
}

const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);

function drawTimes(place, data, choose) {
  const { variant, estimated, measured } = timesOf(data);
  const most = Math.max(...estimated, ...(measured ?? []), 1e-12);
  const rows = data.steps.map((step, index) => {
    const colour = KINDS[kindOf(step)].colour;
    const bars = [measured && amount(measured[index] / most, colour), amount(estimated[index] / most, colour, true)];
    const cells = [
      element("td", { class: "number" }, String(index)),
      element("td", {}, shortened(titleOf(step), 44)),
      element("td", { class: "bars" }, ...bars.filter(Boolean)),
      element("td", { class: "number" }, measured ? seconds(measured[index]) : ""),
      element("td", { class: "number" }, estimated[index] ? seconds(estimated[index]) : "?"),
    ];
    const row = element("tr", { class: "step", "data-step": index }, ...cells);
    row.addEventListener("click", () => choose(index));
    return row;
  });
  const headings = [["step", "number"], ["first node"], ["", "bars"], ["measured", "number"], ["estimated", "number"]];
  place.replaceChildren(
    element("div", { class: "scroll" }, table(headings, rows)),
    hint(measured ? measuredText(data, measured) : "Not measured yet: qrun BUNDLE --profile --report PAGE.html writes a page with measured times."),
    hint(
      `Dashed: what the kernels of ${data.variants[variant]} were expected to take on one thread when they were chosen, ` +
        `${seconds(sum(estimated))} in all; standard operators and code by TVM have no estimate (?).`,
    ),
  );
}

function measuredText(data, measured) {
  const { variant, threads, repeats } = data.measured;
  return `Filled: measured, ${seconds(sum(measured))} in all (median of ${repeats} runs, ${threads} thread${threads > 1 ? "s" : ""}, ${variant}).`;
}

const traffic = (step) => step.read_bytes + step.write_bytes + step.constant_bytes;

function points(data) {
  const { estimated, measured } = timesOf(data);
  const of = (times, filled) =>
    data.steps.flatMap((step, index) =>
      step.macs && traffic(step) && times[index]
        ? [{ index, filled, kind: kindOf(step), x: step.macs / traffic(step), y: step.macs / times[index] / 1e9 }]
        : [],
    );
  return [...of(estimated, false), ...(measured ? of(measured, true) : [])];
}

// A logarithmic axis over whole decades: position of a number, and the decades.
function decades(values, from, to) {
  const low = Math.floor(Math.log10(Math.min(...values)) - 0.05);
  const high = Math.max(Math.ceil(Math.log10(Math.max(...values)) + 0.05), low + 1);
  const at = (value) => from + ((Math.log10(value) - low) / (high - low)) * (to - from);
  return { at, low: 10 ** low, high: 10 ** high, marks: Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index)) };
}

function drawRoofline(place, data, choose) {
  const shown = points(data);
  if (!shown.length) {
    place.replaceChildren(hint("No layer has a known time."));
    return;
  }
  const copies = data.measured?.copies ?? [];
  const x = decades(shown.map((each) => each.x), PLOT.left, PLOT.width - PLOT.right);
  const y = decades(shown.map((each) => each.y), PLOT.height - PLOT.bottom, PLOT.top);
  const svg = shape("svg", { class: "plot", viewBox: `0 0 ${PLOT.width} ${PLOT.height}` });
  svg.append(...axes(x, y), ...copies.flatMap(([name, rate], index) => memoryRoof(`${name}: ${rounded(rate / 1e9)} GB/s`, rate / 1e9, index, x, y)), ...rateRoofs(shown, x, y));
  svg.append(...shown.map((each) => dot(each, data.steps[each.index], x, y, choose)));
  const roofs = copies.length
    ? "Slanted: the rate at which one thread of this machine copies bytes. "
    : "Memory is measured with the times (qrun --profile --report). ";
  place.replaceChildren(
    svg,
    hint(`${roofs}Dashed: the best rate of a layer of the colour. Filled: measured, hollow: estimated. Bytes are those of inputs, constants and results.`),
  );
}

function axes(x, y) {
  const [bottom, left] = [PLOT.height - PLOT.bottom, PLOT.left];
  const down = x.marks.flatMap((mark) => [
    shape("line", { class: "axis", x1: x.at(mark), x2: x.at(mark), y1: PLOT.top, y2: bottom }),
    shape("text", { x: x.at(mark), y: bottom + 16, "text-anchor": "middle" }, String(+mark.toPrecision(1))),
  ]);
  const across = y.marks.flatMap((mark) => [
    shape("line", { class: "axis", x1: left, x2: PLOT.width - PLOT.right, y1: y.at(mark), y2: y.at(mark) }),
    shape("text", { x: left - 6, y: y.at(mark) + 4, "text-anchor": "end" }, String(+mark.toPrecision(1))),
  ]);
  return [
    ...down,
    ...across,
    shape("text", { x: PLOT.width / 2, y: PLOT.height - 6, "text-anchor": "middle" }, "multiply-adds per byte"),
    shape("text", { x: 14, y: PLOT.height / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${PLOT.height / 2})` }, "GMAC/s"),
  ];
}

// labels of roofs that lie close to each other follow one another
function memoryRoof(label, gigabytes, index, x, y) {
  const [from, to] = [Math.max(x.low, y.low / gigabytes), Math.min(x.high, y.high / gigabytes)];
  if (from >= to) return [];
  const [x1, y1] = [x.at(from), y.at(from * gigabytes)];
  const [x2, y2] = [x.at(to), y.at(to * gigabytes)];
  const angle = (Math.atan2(y2 - y1, x2 - x1) * 180) / Math.PI;
  return [
    shape("line", { x1, y1, x2, y2, stroke: "#5b6676", "stroke-width": 1.4 }),
    shape("text", { x: x1 + 8 + 140 * index, y: y1 - 5, transform: `rotate(${angle} ${x1} ${y1})` }, label),
  ];
}

function rateRoofs(shown, x, y) {
  return Object.entries(KINDS).flatMap(([kind, { colour }]) => {
    const measured = shown.filter((each) => each.kind === kind && each.filled);
    const rates = (measured.length ? measured : shown.filter((each) => each.kind === kind)).map((each) => each.y);
    if (!rates.length) return [];
    const best = y.at(Math.max(...rates));
    return [shape("line", { x1: x.at(x.low), x2: x.at(x.high), y1: best, y2: best, stroke: colour, "stroke-width": 2, "stroke-dasharray": "6 4" })];
  });
}

function dot(each, step, x, y, choose) {
  const { colour } = KINDS[each.kind];
  const found = shape(
    "circle",
    {
      class: "pick", "data-step": each.index, cx: x.at(each.x), cy: y.at(each.y), r: each.filled ? 6 : 5,
      fill: each.filled ? colour : "#fff", stroke: each.filled ? "#00000088" : colour, "stroke-width": each.filled ? 1 : 2.5,
    },
    shape("title", {}, `${titleOf(step)} (${widths(step)}): ${rounded(each.y)} GMAC/s, ${rounded(each.x)} per byte, ${each.filled ? "measured" : "estimated"}`),
  );
  found.addEventListener("click", () => choose(each.index));
  return found;
}

function drawMemory(place, data, choose) {
  const total = data.totals.workspace_bytes;
  if (!data.allocations.length || !total) {
    place.replaceChildren(hint("The network needs no workspace."));
    return;
  }
  const [left, right, top, bottom] = [WIDE.left, WIDE.width - WIDE.right, WIDE.top, WIDE.height - WIDE.bottom];
  const across = (step) => left + ((right - left) * step) / data.steps.length;
  const up = (offset) => bottom - ((bottom - top) * offset) / total;
  const boxes = data.allocations.map(([offset, size, first, last]) => {
    const step = data.steps[first];
    const end = Math.min(last + 1, data.steps.length);
    const box = shape(
      "rect",
      {
        class: "pick", "data-step": first, x: across(first), width: Math.max(across(end) - across(first), 0.8),
        y: up(offset + size), height: Math.max(up(offset) - up(offset + size), 0.8), fill: KINDS[kindOf(step)].colour, stroke: "#00000055",
      },
      shape("title", {}, `${titleOf(step)}: ${bytes(size)} at ${bytes(offset)}, steps ${first} to ${last}`),
    );
    box.addEventListener("click", () => choose(first));
    return box;
  });
  const marks = [0, 0.25, 0.5, 0.75, 1].flatMap((part) => [
    shape("line", { class: "axis", x1: left, x2: right, y1: up(part * total), y2: up(part * total) }),
    shape("text", { x: left - 6, y: up(part * total) + 4, "text-anchor": "end" }, bytes(part * total)),
    shape("text", { x: across(part * data.steps.length), y: bottom + 16, "text-anchor": "middle" }, String(Math.round(part * data.steps.length))),
  ]);
  const caption = shape("text", { x: WIDE.width / 2, y: WIDE.height - 6, "text-anchor": "middle" }, "step");
  place.replaceChildren(
    shape("svg", { class: "plot", viewBox: `0 0 ${WIDE.width} ${WIDE.height}` }, ...marks, ...boxes, caption),
    hint(`What the workspace of ${bytes(total)} holds at each step, in the colour of the step that writes it; inputs and outputs lie in the caller's memory.`),
  );
}
