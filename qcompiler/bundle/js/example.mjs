/*
 * Runs the network @name@ in Node, on raw input files or on random input, and prints the outputs and the time of a run.
 *
 *     node example.mjs [--variant NAME] [input0.bin [input1.bin ...]]
 *
 * An input file holds the elements in C order, little-endian: numpy's array.tofile(path). A variant is one of index.d.ts;
 * without, it is the first that this engine runs.
 */
import { readFileSync } from "node:fs";

import { inputs, load, outputs } from "./index.js";

const MOST_SHOWN = 16;
const SECONDS = 0.5;

function elements(tensor) {
  return tensor.shape.reduce((product, size) => product * size, 1);
}

/* Floats in [-1, 1); whole bytes for the other types, except that a boolean is 0 or 1. */
function random(tensor) {
  const array = new globalThis[tensor.array](elements(tensor));
  if (tensor.dtype === "float32" || tensor.dtype === "float64") return array.map(() => Math.random() * 2 - 1);
  const bytes = new Uint8Array(array.buffer);
  bytes.forEach((_, i) => (bytes[i] = Math.random() * (tensor.dtype === "bool" ? 2 : 256)));
  return array;
}

function fromFile(tensor, path) {
  const array = new globalThis[tensor.array](elements(tensor));
  const content = readFileSync(path);
  if (content.length !== array.byteLength) throw new Error(`${path} does not hold exactly ${array.byteLength} bytes`);
  new Uint8Array(array.buffer).set(content);
  return array;
}

function print(tensor, array) {
  const shown = Array.from(array.slice(0, MOST_SHOWN), (value) => ` ${Number(Number(value).toPrecision(7))}`);
  const largest = array.reduce((best, value, i) => (value > array[best] ? i : best), 0);
  console.log(`${tensor.name}: ${tensor.dtype} [${tensor.shape.join(", ")}]`);
  console.log(shown.join("") + (array.length > MOST_SHOWN ? " ..." : ""));
  console.log(` largest at ${largest}`);
}

/* Median microseconds of a run. */
function timed(network, given) {
  const times = [];
  for (const end = performance.now() + 1000 * SECONDS; performance.now() < end; ) {
    const start = performance.now();
    network.run(given);
    times.push(1000 * (performance.now() - start));
  }
  return times.sort((a, b) => a - b)[times.length >> 1];
}

async function main(words) {
  const named = words[0] === "--variant";
  const paths = words.slice(named ? 2 : 0);
  if (paths.length && paths.length !== inputs.length) {
    throw new Error(`${paths.length} input files given, ${inputs.length} expected`);
  }
  const arrays = inputs.map((tensor, i) => (paths.length ? fromFile(tensor, paths[i]) : random(tensor)));
  const given = Object.fromEntries(inputs.map((tensor, i) => [tensor.name, arrays[i]]));
  const network = await load(named ? { variant: words[1] } : {});
  const results = network.run(given);
  outputs.forEach((tensor) => print(tensor, results[tensor.name]));
  console.log(`${timed(network, given).toFixed(1)} µs a run (${network.variant})`);
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
});
