/*
 * The compiled network @name@: @summary@.
 *
 *     import { load } from "./index.js";
 *     const network = await load();
 *     const outputs = network.run({ @example@ });
 *
 * Needs no other package. Works in browsers, workers and Node.
 */
const NAME = "@name@";

/** Inputs and outputs: rows of `shape` in C order, in a typed array of `array`'s kind. */
export const inputs = @inputs@;
export const outputs = @outputs@;

// the best variant first; each is the whole network. A page that holds its modules has no place to look for files
const VARIANTS = [
@variants@
];
const ANY_BATCH = @any_batch@;
const WORKSPACE_BYTES = @workspace_size@;
const ALIGNMENT = 64;
const PAGE_BYTES = 65536;

// a module of one function, which counts the bits of a vector
const COUNTS_BITS = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
);

/** Whether this engine runs variants with vectors of 128 bits. */
export function hasVectors() {
  return WebAssembly.validate(COUNTS_BITS);
}

/**
 * Load the network, by the best variant that this engine runs.
 *
 * options.variant: load this one instead. options.source: the content of its .wasm file, or a WebAssembly.Module, where
 * it shall not be fetched from beside this file.
 */
export async function load(options = {}) {
  if (typeof WebAssembly !== "object") {
    throw new Error(`${NAME}: this browser has no WebAssembly; use one of 2018 or later`);
  }
  const chosen = choice(options.variant);
  const module = await compiled(options.source ?? (await fetched(chosen)), chosen.file);
  return new Network(await WebAssembly.instantiate(module), chosen.name);
}

function choice(wanted) {
  const usable = VARIANTS.filter((variant) => !variant.vectors || hasVectors());
  if (wanted !== undefined && !VARIANTS.some((variant) => variant.name === wanted)) {
    throw new RangeError(`${NAME}: no variant '${wanted}', expected ${VARIANTS.map((each) => each.name).join(" or ")}`);
  }
  const found = usable.find((variant) => wanted === undefined || variant.name === wanted);
  if (!found) throw new Error(`${NAME}: this engine has no vectors of 128 bits; compile with --mcpu plain`);
  return found;
}

async function fetched({ file, url, bytes }) {
  const content = await contentOf(url());
  if (content.byteLength !== bytes) {
    throw new Error(`${NAME}: ${file} has ${content.byteLength} bytes, expected ${bytes}; copy the whole file again`);
  }
  return content;
}

async function contentOf(url) {
  if (url.protocol === "file:" && globalThis.process?.versions?.node) {
    const { readFile } = await import(/* @vite-ignore */ /* webpackIgnore: true */ "node:fs/promises");
    return readFile(url).catch((error) => {
      throw new Error(`${NAME}: cannot read ${url} (${error.code}); keep it beside index.js`);
    });
  }
  const response = await fetch(url).catch(() => {
    throw new Error(`${NAME}: cannot fetch ${url}; serve the page by HTTP, or give load() the file as source`);
  });
  if (!response.ok) throw new Error(`${NAME}: cannot fetch ${url} (status ${response.status}); keep it beside index.js`);
  return response.arrayBuffer();
}

async function compiled(source, file) {
  if (source instanceof WebAssembly.Module) return source;
  return WebAssembly.compile(source).catch((error) => {
    throw new Error(`${NAME}: ${file} is damaged or not WebAssembly (${error.message}); compile the model again`);
  });
}

/** A loaded network, with memory of its own; runs do not overlap, as none is asynchronous. */
export class Network {
  #exports;
  #inputs;
  #outputs;
  #call;

  constructor(instance, variant) {
    this.variant = variant;
    this.#exports = instance.exports;
    this.#place();
  }

  /**
   * Run the network.
   *
   * given: a typed array per input, by name, with exactly its elements@batch@. Gives a new typed array per output, by
   * name.
   */
  run(given) {
    const count = batch(given);
    const results = outputs.map((tensor) => new (constructorOf(tensor))(elements(tensor) * count));
    for (let index = 0; index < count; index++) {
      inputs.forEach((tensor, i) => {
        const size = elements(tensor);
        this.#inputs[i].set(given[tensor.name].subarray(index * size, (index + 1) * size));
      });
      this.#runOnce();
      this.#outputs.forEach((view, o) => results[o].set(view, index * view.length));
    }
    return Object.fromEntries(outputs.map((tensor, o) => [tensor.name, results[o]]));
  }

  #runOnce() {
    const status = this.#exports[`${NAME}_run`](...this.#call);
    if (status) throw new Error(`${NAME}: ${this.#text(this.#exports[`${NAME}_status_text`](status)) || status}`);
  }

  /** Lay out arrays, pointers to them, and the workspace behind the module's own data. */
  #place() {
    const { memory, __heap_base } = this.#exports;
    let end = __heap_base.value;
    const take = (bytes) => {
      const start = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
      end = start + bytes;
      return start;
    };
    const addresses = [inputs, outputs].map((tensors) => tensors.map((tensor) => take(byteLength(tensor))));
    const tables = addresses.map((list) => take(4 * list.length));
    const workspace = take(WORKSPACE_BYTES);
    this.#grow(memory, end);
    tables.forEach((table, i) => new Uint32Array(memory.buffer, table, addresses[i].length).set(addresses[i]));
    const view = (tensor, at) => new (constructorOf(tensor))(memory.buffer, at, elements(tensor));
    this.#inputs = inputs.map((tensor, i) => view(tensor, addresses[0][i]));
    this.#outputs = outputs.map((tensor, o) => view(tensor, addresses[1][o]));
    this.#call = [...tables, workspace, WORKSPACE_BYTES];
  }

  #grow(memory, bytes) {
    const missing = Math.ceil((bytes - memory.buffer.byteLength) / PAGE_BYTES);
    try {
      if (missing > 0) memory.grow(missing);
    } catch {
      throw new RangeError(`${NAME}: the engine refuses ${Math.ceil(bytes / 2 ** 20)} MiB of memory`);
    }
  }

  #text(at) {
    const bytes = new Uint8Array(this.#exports.memory.buffer);
    return at ? new TextDecoder().decode(bytes.subarray(at, bytes.indexOf(0, at))) : "";
  }
}

const elements = (tensor) => tensor.shape.reduce((product, size) => product * size, 1);
const constructorOf = (tensor) => globalThis[tensor.array];
const byteLength = (tensor) => elements(tensor) * constructorOf(tensor).BYTES_PER_ELEMENT;
const kindOf = (value) => Object.prototype.toString.call(value).slice(8, -1);

/** How many runs the given arrays hold. */
function batch(given) {
  const known = inputs.map((tensor) => tensor.name);
  const unknown = Object.keys(given ?? {}).find((name) => !known.includes(name));
  if (unknown !== undefined) throw new TypeError(`${NAME}: no input '${unknown}', expected ${known.join(", ")}`);
  const counts = inputs.map((tensor) => runsOf(tensor, given?.[tensor.name]));
  if (counts.some((count) => count !== counts[0])) throw new RangeError(`${NAME}: the inputs hold different batches`);
  return counts[0];
}

function runsOf(tensor, array) {
  const size = elements(tensor);
  const expected = `${tensor.array} of ${size} elements${ANY_BATCH ? ", or a multiple," : ""} [${tensor.shape.join(", ")}]`;
  if (kindOf(array) !== tensor.array) {
    throw new TypeError(`${NAME}: input '${tensor.name}' is ${kindOf(array)}, expected ${expected}`);
  }
  const count = array.length / size;
  if (ANY_BATCH ? count < 1 || !Number.isInteger(count) : count !== 1) {
    throw new RangeError(`${NAME}: input '${tensor.name}' has ${array.length} elements, expected ${expected}`);
  }
  return count;
}
