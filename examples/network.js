// milliseconds over which the time of a run is averaged: clocks of browsers are coarse
const MEASURED = 2;
// milliseconds of runs before the first that is shown: engines compile again what runs often
const WARM = 30;

function failed(error) {
  const place = document.getElementById("failure");
  place.textContent = `This page cannot run here: ${error.message}`;
  place.hidden = false;
}

/* The network of an entry of the page's data: its script is a module of its own, which imports nothing. */
async function opened(entry) {
  const url = URL.createObjectURL(new Blob([entry.code], { type: "text/javascript" }));
  const script = await import(url);
  URL.revokeObjectURL(url);
  const variant = script.hasVectors() ? "simd128" : "plain";
  const bytes = Uint8Array.from(atob(entry.modules[variant]), (character) => character.charCodeAt(0));
  const network = await script.load({ variant, source: bytes });
  const [input, output] = [script.inputs[0].name, script.outputs[0].name];
  const size = `${(entry.bytes[variant] / 1024).toFixed(0)} KiB with code (${variant})`;
  const made = { ...entry, network, input, output, size };
  timed(made, new Float32Array(entry.width * entry.height * entry.pixels.mean.length), WARM);
  return made;
}

function element(kind, name, parent) {
  const made = document.createElement(kind);
  made.className = name;
  parent.append(made);
  return made;
}

function softmax(scores) {
  const largest = Math.max(...scores);
  const powers = Array.from(scores, (score) => Math.exp(score - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/* Scores, and microseconds of a run. */
function timed({ network, input, output }, image, milliseconds) {
  const start = performance.now();
  let [runs, results] = [0];
  for (; runs === 0 || performance.now() - start < milliseconds; runs++) results = network.run({ [input]: image });
  return [results[output], (1000 * (performance.now() - start)) / runs];
}

/* The networks of the page, ready to run. */
async function networksOfPage() {
  if (typeof WebAssembly !== "object") throw new Error("the browser has no WebAssembly");
  const made = [];
  for (const entry of JSON.parse(document.getElementById("data").textContent)) made.push(await opened(entry));
  return made;
}
