/** The compiled network @name@: @summary@. */

export interface Tensor {
  readonly name: string;
  readonly dtype: string;
  /** The typed array that holds its elements in C order. */
  readonly array: string;
  readonly shape: readonly number[];
}

/** A typed array per input, by name@batch@. */
export interface Inputs {
@input_types@
}

/** A new typed array per output, by name. */
export interface Outputs {
@output_types@
}

export interface Options {
  /** Load this variant instead of the best that the engine runs. */
  variant?: @variant_names@;
  /** The content of its .wasm file, or a module, where it shall not be fetched from beside index.js. */
  source?: BufferSource | WebAssembly.Module;
}

export const inputs: readonly Tensor[];
export const outputs: readonly Tensor[];

/** Whether this engine runs variants with vectors of 128 bits. */
export function hasVectors(): boolean;

export function load(options?: Options): Promise<Network>;

export class Network {
  private constructor();
  readonly variant: @variant_names@;
  run(inputs: Inputs): Outputs;
}
