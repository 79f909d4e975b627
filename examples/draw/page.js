const INK = 22;
// of the picture's side, which drawn digits fill as those of MNIST do
const FILLED = 20 / 28;

const canvas = document.getElementById("canvas");
const paper = canvas.getContext("2d", { willReadFrequently: true });

function card(entry) {
  const box = element("article", "network", document.getElementById("networks"));
  element("h2", "title", box).textContent = entry.title;
  const facts = element("div", "facts", box);
  const answer = element("div", "answer", box);
  facts.textContent = entry.size;
  const rows = Array.from({ length: 10 }, (_, digit) => {
    const row = element("div", "class", box);
    element("span", "name", row).textContent = digit;
    return { row, bar: element("div", "bar", element("div", "", row)) };
  });
  return { facts, answer, size: entry.size, rows };
}

/* Where there is ink: the smallest rectangle around it; nothing on an empty paper. */
function bounds({ data, width, height }) {
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[4 * (y * width + x)] < 32) continue;
      [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
    }
  }
  return right < 0 ? undefined : { left, top, width: right - left + 1, height: bottom - top + 1 };
}

/* The drawing as a picture of MNIST: scaled into a box, its centre of mass in the middle. Pixels of 0 to 255. */
function picture(width, height) {
  const box = bounds(paper.getImageData(0, 0, canvas.width, canvas.height));
  if (!box) return undefined;
  const scale = (FILLED * Math.min(width, height)) / Math.max(box.width, box.height);
  const size = [box.width * scale, box.height * scale];
  const centred = reduced(box, size, [(width - size[0]) / 2, (height - size[1]) / 2], width, height);
  const [x, y] = centreOfMass(centred, width);
  const moved = [(width - 1) / 2 - x, (height - 1) / 2 - y].map(Math.round);
  return reduced(box, size, [(width - size[0]) / 2 + moved[0], (height - size[1]) / 2 + moved[1]], width, height);
}

function reduced(box, size, at, width, height) {
  const small = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
  small.imageSmoothingQuality = "high";
  small.fillRect(0, 0, width, height);
  small.drawImage(canvas, box.left, box.top, box.width, box.height, ...at, ...size);
  const { data } = small.getImageData(0, 0, width, height);
  return Float32Array.from({ length: width * height }, (_, i) => data[4 * i]);
}

function centreOfMass(pixels, width) {
  let [mass, x, y] = [0, 0, 0];
  pixels.forEach((value, i) => {
    mass += value;
    x += value * (i % width);
    y += value * Math.floor(i / width);
  });
  return [x / mass, y / mass];
}

function classify(entry) {
  const { width, height, pixels, card } = entry;
  const drawn = picture(width, height);
  if (!drawn) return cleared(entry);
  const [scores, microseconds] = timed(
    entry,
    drawn.map((value) => (value - pixels.mean[0]) * pixels.scale[0]),
    MEASURED,
  );
  const likely = softmax(scores);
  const best = likely.indexOf(Math.max(...likely));
  card.rows.forEach(({ row, bar }, digit) => {
    bar.style.width = `${100 * likely[digit]}%`;
    row.classList.toggle("best", digit === best);
  });
  card.answer.textContent = best;
  card.facts.textContent = `${microseconds.toFixed(1)} µs a picture, ${card.size}`;
}

function cleared({ card }) {
  card.rows.forEach(({ row, bar }) => {
    bar.style.width = "0";
    row.classList.remove("best");
  });
  card.answer.textContent = "";
  card.facts.textContent = card.size;
}

function clear() {
  paper.fillStyle = "#000";
  paper.fillRect(0, 0, canvas.width, canvas.height);
}

/* Strokes by mouse, pen or finger; `changed` is called at every movement. */
function draws(changed) {
  Object.assign(paper, { lineWidth: INK, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
  let last;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
  };
  const stroke = (event) => {
    const next = place(event);
    paper.beginPath();
    paper.moveTo(...last);
    // a line of no length is not drawn, a dot is wanted
    paper.lineTo(next[0] + 0.01, next[1]);
    paper.stroke();
    last = next;
    changed();
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture?.(event.pointerId);
    last = place(event);
    stroke(event);
  });
  canvas.addEventListener("pointermove", (event) => last && stroke(event));
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = undefined));
}

async function main() {
  const networks = (await networksOfPage()).map((made) => ({ ...made, card: card(made) }));
  let asked = false;
  const changed = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      networks.forEach(classify);
    });
  };
  clear();
  draws(changed);
  document.getElementById("clear").addEventListener("click", () => {
    clear();
    changed();
  });
  document.documentElement.dataset.ready = "";
}

main().catch(failed);
