/** Reads bodies of snapshots (docs/PROTOCOL.md, section 7). */
import { BitReader } from "./bits.js";
import { ProtocolError } from "./error.js";
import type { Layout, Row } from "./layout.js";

const [RARE_K, SLOT_K, SUCCESSOR_K, COUNT_K] = [2, 3, 1, 2];

/** What a body says: known entities ascending, then new entities ascending. */
export interface Sink {
  components(known: number): number;
  generation(known: number): number;
  /** A known entity stays as it is. */
  keep(known: number): void;
  /** A known entity changed; `row` holds residuals, and is used again. */
  update(known: number, row: Row): void;
  /** A known entity is gone. */
  remove(known: number): void;
  /** Another entity stands in the slot of a known one. */
  replace(known: number, generation: number, components: number, row: Row): void;
  /** A new entity. */
  insert(slot: number, generation: number, components: number, row: Row): void;
}

/** A set of `0..length`. */
function readSet(length: number, bits: BitReader): boolean[] {
  const set: boolean[] = [];
  if (length === 0) return set;
  const inverse = bits.flag();
  const k = bits.get(4);
  while (set.length < length) {
    const gap = bits.rice(k);
    if (gap > length - set.length) throw new ProtocolError("a member behind the end of a set");
    for (let index = 0; index < gap; index += 1) set.push(inverse);
    if (set.length < length) set.push(!inverse);
  }
  return set;
}

function readEntity(layout: Layout, row: Row, bits: BitReader): number {
  row.fill(0);
  const components = bits.get(layout.componentCount);
  for (const at of layout.presentColumns(components)) {
    if (bits.flag()) row[at] = bits.get(layout.columns[at]!.bits);
  }
  return components;
}

/** How the residuals of entities with the same components are coded. */
interface Model {
  readonly hot: readonly { readonly at: number; readonly flagged: boolean; readonly k: number }[];
  readonly cold: readonly number[];
}

function readModel(layout: Layout, components: number, bits: BitReader): Model {
  const hot = [];
  const cold = [];
  for (const at of layout.presentColumns(components)) {
    if (bits.flag()) hot.push({ at, flagged: bits.flag(), k: bits.get(4) });
    else cold.push(at);
  }
  return { hot, cold };
}

function readResiduals(model: Model, rare: boolean, row: Row, bits: BitReader): void {
  row.fill(0);
  for (const { at, flagged, k } of model.hot) {
    if (!flagged) row[at] = bits.rice(k);
    else if (bits.flag()) row[at] = bits.rice(k) + 1;
  }
  if (!rare) return;
  for (const at of model.cold) if (bits.flag()) row[at] = bits.rice(RARE_K) + 1;
}

function readNew(layout: Layout, row: Row, bits: BitReader, sink: Sink): void {
  const count = bits.rice(COUNT_K);
  let next = 0;
  for (let index = 0; index < count; index += 1) {
    const slot = next + bits.rice(SLOT_K);
    if (slot > 0xffff_ffff) throw new ProtocolError("a slot above 32 bits");
    next = slot + 1;
    const width = bits.get(6);
    if (width > 32) throw new ProtocolError("a generation above 32 bits");
    const generation = bits.get(width);
    const components = readEntity(layout, row, bits);
    sink.insert(slot, generation, components, row);
  }
}

/** Reads a body against so many known entities. */
export function readBody(layout: Layout, known: number, bytes: Uint8Array, sink: Sink): void {
  const bits = new BitReader(bytes);
  const row = new Uint32Array(layout.stride);
  const gone = readSet(known, bits);
  const successors = new Map<number, { generation: number; components: number; row: Row }>();
  let staying = known;
  for (let at = 0; at < known; at += 1) {
    if (!gone[at]) continue;
    staying -= 1;
    if (!bits.flag()) continue;
    const generation = (sink.generation(at) + bits.rice(SUCCESSOR_K)) >>> 0;
    const components = readEntity(layout, row, bits);
    successors.set(at, { generation, components, row: row.slice() });
  }
  const changed = readSet(staying, bits);
  const rare = readSet(changed.filter((is) => is).length, bits);
  const models = new Map<number, Model>();
  let [stays, changes] = [0, 0];
  for (let at = 0; at < known; at += 1) {
    if (gone[at]) {
      const successor = successors.get(at);
      if (successor === undefined) sink.remove(at);
      else sink.replace(at, successor.generation, successor.components, successor.row);
      continue;
    }
    stays += 1;
    if (!changed[stays - 1]) {
      sink.keep(at);
      continue;
    }
    const components = sink.components(at);
    let model = models.get(components);
    if (model === undefined) {
      model = readModel(layout, components, bits);
      models.set(components, model);
    }
    readResiduals(model, rare[changes] === true, row, bits);
    changes += 1;
    sink.update(at, row);
  }
  readNew(layout, row, bits, sink);
  if (!bits.atEnd()) throw new ProtocolError("bits behind the last entity");
}
