"use strict";
// Puts the page together from its data.

const at = (id) => document.getElementById(id);

function drawLegend(place) {
  const entry = ({ label, colour }, thin) =>
    element("span", {}, element("span", { class: thin ? "swatch thin" : "swatch", style: `background:${colour}` }), label);
  place.replaceChildren(...Object.values(KINDS).map((each) => entry(each)), ...Object.values(FAMILIES).map((each) => entry(each, true)));
}

function drawHeader(data) {
  const { layers, integer_layers, macs: all, integer_macs, constant_bytes, workspace_bytes } = data.totals;
  document.title = `${data.name}: qcompiler report`;
  at("name").textContent = data.name;
  at("summary").textContent =
    `${integer_layers} of ${layers} layers on integers (${percent(integer_macs, all)} of ${macs(all)} MACs), ` +
    `${bytes(constant_bytes)} constants, ${bytes(workspace_bytes)} workspace; ${data.steps_in_all} steps for ${data.target} ` +
    `(${data.architecture}: ${data.variants.join(", ")})` +
    (data.steps.length < data.steps_in_all ? `; the first ${data.steps.length} are shown, report.json has all` : "");
  at("after-training").textContent = data.after_training;
  at("after-training").hidden = !data.after_training;
  const versions = Object.entries(data.versions).map(([name, version]) => `${name} ${version}`);
  at("versions").textContent = versions.join(" · ");
}

function rate(step, time) {
  return step.macs && time ? ` (${rounded(step.macs / time / 1e9)} GMAC/s)` : "";
}

function factsOf(data, index) {
  const step = data.steps[index];
  const { estimated, measured, variant } = timesOf(data);
  const more = step.nodes_in_all - step.nodes.length;
  const kernels = [...new Set(step.kernels)];
  const perVariant = step.kernels.map((kernel, each) => `${data.variants[each]}: ${kernel}`).join("\n");
  return [
    ["nodes", step.nodes.join("\n") + (more > 0 ? `\nand ${more} more` : "")],
    ["became", step.op],
    ["kernel", kernels.length > 1 ? perVariant : kernels[0]],
    ["width", step.macs ? `weights of ${bits(step.w_bits)}, inputs of ${bits(step.a_bits)}` : ""],
    ["arithmetic", step.macs ? (step.integers ? "integers" : "float32") : ""],
    ["why, and what to change", step.note],
    ["multiply-adds", step.macs ? step.macs.toLocaleString("en") : ""],
    ["reads", bytes(step.read_bytes)],
    ["constants", bytes(step.constant_bytes)],
    ["writes", bytes(step.write_bytes)],
    ["stores", step.values.map((value) => `${value.name} ${dimensions(value.shape)}: ${value.form}`).join("\n")],
    ["measured", measured ? seconds(measured[index]) + rate(step, measured[index]) : ""],
    ["estimated", estimated[index] ? `${seconds(estimated[index])}${rate(step, estimated[index])}, ${data.variants[variant]}` : ""],
  ].filter(([, text]) => text);
}

function showFacts(place, data, index) {
  const list = element("dl");
  for (const [name, text] of factsOf(data, index)) {
    const lines = text.split("\n").map((line) => element("div", {}, line));
    list.append(element("dt", {}, name), element("dd", {}, ...lines));
  }
  place.replaceChildren(element("h3", {}, `${index}: ${titleOf(data.steps[index])}`), list);
}

function start(data) {
  let view;
  const choose = (index) => {
    document.querySelectorAll(".chosen").forEach((each) => each.classList.remove("chosen"));
    at(`node-s${index}`)?.classList.add("chosen");
    document.querySelectorAll(`[data-step="${index}"]`).forEach((each) => each.classList.add("chosen"));
    showFacts(at("facts"), data, index);
    view?.reveal(`s${index}`);
  };
  drawHeader(data);
  drawLegend(at("legend"));
  at("facts").replaceChildren(hint("Click a step: its nodes, kernel, shapes, bytes, and why it is not on integers."));
  drawSizes(at("sizes"), data);
  drawVerification(at("verification"), data);
  drawTimes(at("times"), data, choose);
  drawRoofline(at("roofline"), data, choose);
  drawMemory(at("memory"), data, choose);
  view = drawGraph(at("graph"), data, choose);
  at("zoom-in").addEventListener("click", () => view.zoomCentre(1.4));
  at("zoom-out").addEventListener("click", () => view.zoomCentre(1 / 1.4));
  at("fit").addEventListener("click", () => view.whole());
  document.documentElement.dataset.ready = "true";
}

try {
  start(JSON.parse(at("data").textContent));
} catch (error) {
  at("failure").textContent = `This page could not be drawn (${error.message}); report.txt of the bundle says the same in words.`;
  at("failure").hidden = false;
  throw error;
}
