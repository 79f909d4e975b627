"use strict";
// The network as a graph of steps: dagre places them, the wheel, fingers and buttons move the view.

const BOX = { width: 196, height: 58 };
// beyond this a placement with as few crossings takes a browser too long
const PLACED_BY_DAGRE = 700;
const COLUMNS_APART = 230;
const ROWS_APART = 96;

function vertices(data) {
  return [
    ...data.inputs.map((tensor, index) => ({ id: `i${index}`, title: tensor.name, lines: ["input", dimensions(tensor.shape)] })),
    ...data.steps.map((step, index) => ({ id: `s${index}`, step, index, title: titleOf(step), lines: boxLines(step) })),
    ...data.outputs.map((tensor, index) => ({ id: `o${index}`, title: tensor.name, lines: ["output", dimensions(tensor.shape)] })),
  ];
}

function boxLines(step) {
  const more = step.nodes_in_all > 1 ? ` +${step.nodes_in_all - 1}` : "";
  return [`${step.op}${more}`, step.macs ? `${widths(step)} · ${macs(step.macs)} MACs` : step.kernels[0]];
}

function edges(data) {
  return data.steps.flatMap((step, index) => [
    ...step.inputs.map((input) => [`i${input}`, `s${index}`]),
    ...step.steps.map((source) => [`s${source}`, `s${index}`]),
    ...step.outputs.filter((output) => output < data.outputs.length).map((output) => [`s${index}`, `o${output}`]),
  ]);
}

function placed(nodes, links) {
  return nodes.length <= PLACED_BY_DAGRE ? placedInLayers(nodes, links) : placedByDepth(nodes, links);
}

function placedInLayers(nodes, links) {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: "TB", nodesep: 26, ranksep: 34, marginx: 10, marginy: 10 });
  graph.setDefaultEdgeLabel(() => ({}));
  nodes.forEach((node) => graph.setNode(node.id, { ...BOX }));
  links.forEach(([from, to]) => graph.setEdge(from, to));
  dagre.layout(graph);
  const places = new Map(nodes.map((node) => [node.id, graph.node(node.id)]));
  return { places, paths: graph.edges().map((edge) => graph.edge(edge).points) };
}

// every node below all that it reads, beside the others of its depth
function placedByDepth(nodes, links) {
  const sources = new Map(nodes.map((node) => [node.id, []]));
  links.forEach(([from, to]) => sources.get(to).push(from));
  const depth = new Map();
  const used = [];
  const places = new Map();
  for (const node of nodes) {
    const below = Math.max(0, ...sources.get(node.id).map((source) => depth.get(source) + 1));
    depth.set(node.id, below);
    used[below] = (used[below] ?? -1) + 1;
    places.set(node.id, { x: used[below] * COLUMNS_APART + 110, y: below * ROWS_APART + 40 });
  }
  const ends = ([from, to]) => [places.get(from), places.get(to)];
  const paths = links.map(ends).map(([a, b]) => [
    { x: a.x, y: a.y + BOX.height / 2 },
    { x: b.x, y: b.y - BOX.height / 2 },
  ]);
  return { places, paths };
}

// through all points, rounded at each
function curve(points) {
  const [first, ...rest] = points;
  const parts = [`M${first.x},${first.y}`];
  rest.slice(0, -1).forEach((point, index) => {
    const next = rest[index + 1];
    parts.push(`Q${point.x},${point.y} ${(point.x + next.x) / 2},${(point.y + next.y) / 2}`);
  });
  const last = rest[rest.length - 1];
  return `${parts.join("")}L${last.x},${last.y}`;
}

function drawnNode(node, place, choose) {
  const kind = node.step ? KINDS[kindOf(node.step)].colour : "#ffffff";
  const stripe = node.step ? FAMILIES[familyOf(node.step)].colour : "#1d2530";
  const group = shape(
    "g",
    { class: "node", transform: `translate(${place.x - BOX.width / 2},${place.y - BOX.height / 2})`, id: `node-${node.id}` },
    shape("title", {}, node.title),
    shape("rect", { class: "body", width: BOX.width, height: BOX.height, rx: 6, fill: kind }),
    shape("rect", { width: 6, height: BOX.height, rx: 3, fill: stripe }),
    shape("text", { class: "title", x: 14, y: 17 }, shortened(node.title, 26)),
    ...node.lines.map((line, index) => shape("text", { x: 14, y: 33 + 15 * index }, shortened(line, 28))),
  );
  if (!node.step) return group;
  fill(group, { tabindex: 0, role: "button", "aria-label": node.title }, []);
  group.addEventListener("click", () => choose(node.index));
  group.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      choose(node.index);
    }
  });
  return group;
}

// Draws into the svg; choose is called with the number of a step that is clicked.
function drawGraph(svg, data, choose) {
  const nodes = vertices(data);
  const { places, paths } = placed(nodes, edges(data));
  const scene = shape("g", { id: "scene" });
  const arrow = shape(
    "marker",
    { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    shape("path", { d: "M0,0L8,4L0,8Z", fill: "#9aa5b4" }),
  );
  scene.append(...paths.map((points) => shape("path", { class: "edge", d: curve(points), "marker-end": "url(#arrow)" })));
  scene.append(...nodes.map((node) => drawnNode(node, places.get(node.id), choose)));
  svg.replaceChildren(shape("defs", {}, arrow), scene);
  const all = [...places.values()];
  const [right, bottom] = [Math.max(...all.map((p) => p.x)), Math.max(...all.map((p) => p.y))];
  return new View(svg, scene, { width: right + BOX.width / 2 + 10, height: bottom + BOX.height / 2 + 10 }, places);
}

// What part of the scene is seen: panned by dragging, zoomed by the wheel, two fingers or buttons.
// Until somebody moves it, it follows the size of the svg, which has none while its frame is hidden or not laid out.
class View {
  constructor(svg, scene, size, places) {
    Object.assign(this, { svg, scene, size, places, pointers: new Map(), moved: 0, x: 0, y: 0, scale: 1, follows: true });
    svg.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    svg.addEventListener("pointerdown", (event) => this.onDown(event));
    svg.addEventListener("pointermove", (event) => this.onMove(event));
    for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
      svg.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
    svg.addEventListener("click", (event) => this.moved > 4 && event.stopPropagation(), { capture: true });
    this.fit();
    new ResizeObserver(() => this.follows && this.fit()).observe(svg);
  }

  fit() {
    const box = this.svg.getBoundingClientRect();
    if (!box.width || !box.height) return;
    const all = Math.min(box.width / this.size.width, box.height / this.size.height, 1.2);
    // a long network is shown from its start, large enough to be read
    this.scale = Math.max(all, Math.min(0.75, box.width / this.size.width));
    this.x = Math.max((box.width - this.size.width * this.scale) / 2, 0);
    this.y = Math.max((box.height - this.size.height * this.scale) / 2, 0);
    this.draw();
  }

  whole() {
    const box = this.svg.getBoundingClientRect();
    this.scale = Math.min(box.width / this.size.width, box.height / this.size.height, 1.2);
    this.x = (box.width - this.size.width * this.scale) / 2;
    this.y = (box.height - this.size.height * this.scale) / 2;
    this.show();
  }

  show() {
    this.follows = false;
    this.draw();
  }

  draw() {
    this.scene.setAttribute("transform", `translate(${this.x},${this.y}) scale(${this.scale})`);
  }

  zoom(factor, x, y) {
    const scale = Math.min(Math.max(this.scale * factor, 0.01), 6);
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.show();
  }

  zoomCentre(factor) {
    const box = this.svg.getBoundingClientRect();
    this.zoom(factor, box.width / 2, box.height / 2);
  }

  reveal(id) {
    const [box, place] = [this.svg.getBoundingClientRect(), this.places.get(id)];
    const [x, y] = [this.x + place.x * this.scale, this.y + place.y * this.scale];
    if (x > 0 && y > 0 && x < box.width && y < box.height) return;
    this.x += box.width / 2 - x;
    this.y += box.height / 2 - y;
    this.show();
  }

  onWheel(event) {
    event.preventDefault();
    const box = this.svg.getBoundingClientRect();
    this.zoom(Math.exp(-event.deltaY * 0.0015), event.clientX - box.left, event.clientY - box.top);
  }

  onDown(event) {
    this.pointers.set(event.pointerId, event);
    if (this.pointers.size === 1) this.moved = 0;
  }

  onMove(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const others = [...this.pointers.values()].filter((each) => each.pointerId !== event.pointerId);
    this.pointers.set(event.pointerId, event);
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    this.moved += Math.abs(dx) + Math.abs(dy);
    if (others.length) this.pinch(before, event, others[0]);
    else {
      this.x += dx;
      this.y += dy;
      this.show();
    }
  }

  pinch(before, now, other) {
    const apart = (point) => Math.hypot(point.clientX - other.clientX, point.clientY - other.clientY);
    const box = this.svg.getBoundingClientRect();
    this.zoom(apart(now) / Math.max(apart(before), 1), other.clientX - box.left, other.clientY - box.top);
  }
}
