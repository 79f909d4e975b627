/*
 * Runs steps of the network @name@ for another process, in memory that both share through a file.
 *
 *     node isolated.mjs FILE GUARD PAGES SLACK ...
 *
 * As isolated.c, whose requests and answers these are. A module reaches nothing but its own memory: before a request the
 * buffers are copied from the file into it, and back behind it, in whole pages between guards of GUARD bytes, which must
 * not change. Two answers are its own: "wrote 0 OFFSET", with the address of a changed byte of a guard, an input or the
 * module's own data, and "trap 0 TEXT". Reads beyond a buffer are not noticed, unless they leave the module's memory.
 */
import { openSync, readFileSync, readSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { Worker } from "node:worker_threads";

const NAME = "@name@";
const INPUTS = @input_count@;
const OUTPUTS = @output_count@;
const WORKSPACE_BYTES = @workspace_size@;
const FILES = @files@;
const PAGE_BYTES = 65536;
const STACK_BYTES = @stack_size@;
const UNSUPPORTED = 5;
const PATTERN = 0xa5;

const [path, guard, ...sizes] = process.argv.slice(2);
const file = openSync(path, "r+");
const GUARD = Number(guard);
const buffers = layout(sizes.map(Number));
const END = GUARD + buffers.reduce((sum, buffer) => sum + buffer.pages + GUARD, 0);
const untouched = Buffer.alloc(GUARD, PATTERN);
const machines = new Map();

/* Where pages lie: in the file, and counted from the first guard on. */
function layout(numbers) {
  const found = [];
  let offset = 0;
  for (let i = 0; i < numbers.length; i += 2) {
    const [pages, slack] = numbers.slice(i, i + 2);
    found.push({ pages, slack, offset, address: GUARD * (1 + i / 2) + offset });
    offset += pages;
  }
  return found;
}

/* A variant, or for -1 the best that runs here, in memory of its own; nothing where the engine lacks what it needs. */
function machine(variant) {
  if (variant < 0) return FILES.reduce((found, _, index) => found ?? machine(index), undefined);
  if (!machines.has(variant)) {
    const content = readFileSync(new URL(FILES[variant], import.meta.url));
    machines.set(variant, WebAssembly.validate(content) ? started(content) : undefined);
  }
  return machines.get(variant);
}

function started(content) {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(content));
  const base = Math.ceil(exports.__heap_base.value / PAGE_BYTES) * PAGE_BYTES;
  const tables = base + END;
  const missing = Math.ceil((tables + 4 * (INPUTS + OUTPUTS) - exports.memory.buffer.byteLength) / PAGE_BYTES);
  if (missing > 0) exports.memory.grow(missing);
  const memory = Buffer.from(exports.memory.buffer);
  memory.fill(PATTERN, base, base + END);
  const data = memory.subarray(STACK_BYTES, base);
  return { exports, memory, base, tables, data, constants: Buffer.from(data) };
}

/* Copies `buffer` between the file and a piece of memory. */
function copied(transfer, piece, buffer) {
  for (let done = 0; done < piece.length; ) {
    done += transfer(file, piece, done, piece.length - done, buffer.offset + done);
  }
  return piece;
}

function piece({ memory, base }, buffer) {
  return memory.subarray(base + buffer.address, base + buffer.address + buffer.pages);
}

/* What has changed of a guard, an input or the data: where that is, counted from the first guard on. */
function touched({ memory, base, data, constants }, inputs) {
  const ends = [...buffers.map((buffer) => buffer.address), END];
  const watched = [
    ...ends.map((end) => ({ at: end - GUARD, seen: memory.subarray(base + end - GUARD, base + end), was: untouched })),
    ...inputs.map((was, i) => ({ at: buffers[i].address, seen: piece({ memory, base }, buffers[i]), was })),
    { at: STACK_BYTES - base, seen: data, was: constants },
  ];
  const changed = watched.find(({ seen, was }) => !seen.equals(was));
  return changed && changed.at + changed.seen.findIndex((byte, i) => byte !== changed.was[i]);
}

function text({ exports, memory }, status) {
  const at = exports[`${NAME}_status_text`](status);
  return at ? memory.toString("utf8", at, memory.indexOf(0, at)) : "";
}

function run(machine, first, last, atStart) {
  const { exports, memory, base, tables } = machine;
  const at = buffers.map((buffer) => base + buffer.address + (atStart ? 0 : buffer.slack));
  at.slice(0, -1).forEach((address, i) => memory.writeUInt32LE(address, tables + 4 * i));
  const inputs = buffers.slice(0, INPUTS).map((buffer) => Buffer.from(piece(machine, buffer)));
  const status = exports[`${NAME}_run_steps`](tables, tables + 4 * INPUTS, at.at(-1), WORKSPACE_BYTES, first, last);
  const changed = touched(machine, inputs);
  return changed === undefined ? `status ${status} ${text(machine, status)}` : `wrote 0 ${changed}`;
}

function answer(variant, first, last, atStart) {
  try {
    const found = machine(variant);
    if (!found) return `status ${UNSUPPORTED} the engine lacks what the variant needs`;
    buffers.forEach((buffer) => copied(readSync, piece(found, buffer), buffer));
    const said = run(found, first, last, atStart);
    buffers.slice(INPUTS).forEach((buffer) => copied(writeSync, piece(found, buffer), buffer));
    return said;
  } catch (error) {
    // the latter of code that calls itself too often
    if (!(error instanceof WebAssembly.RuntimeError || error instanceof RangeError)) throw error;
    return `trap 0 ${error.message}`;
  }
}

/* A thread that ends the process by SIGALRM where seconds pass until the next call; a module cannot be interrupted. */
function alarm() {
  const left = new Int32Array(new SharedArrayBuffer(4));
  const watch = `
    const { workerData: left } = require("node:worker_threads");
    for (;;) {
      Atomics.wait(left, 0, 0);
      const seconds = Atomics.load(left, 0);
      if (seconds && Atomics.wait(left, 0, seconds, 1000 * seconds) === "timed-out") process.kill(process.pid, "SIGALRM");
    }`;
  new Worker(watch, { eval: true, workerData: left }).unref();
  return (seconds) => {
    Atomics.store(left, 0, seconds);
    Atomics.notify(left, 0);
  };
}

const setAlarm = alarm();
for await (const line of createInterface({ input: process.stdin })) {
  const [variant, , first, last, atStart, seconds] = line.split(" ").map(Number);
  setAlarm(seconds);
  const said = answer(variant, first, last, atStart === 1);
  setAlarm(0);
  process.stdout.write(`${said.replaceAll("\n", " ")}\n`);
  if (!said.startsWith("status")) process.exit(1);
}
