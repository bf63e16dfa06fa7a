/** Reads bodies of snapshots (docs/PROTOCOL.md, section 7). */
import { BitReader } from "./bits.js";
import { readResidual } from "./contexts.js";
import { ProtocolError } from "./error.js";
import type { Layout, Row, Turns } from "./layout.js";
import { Chances, RangeReader } from "./range.js";

const [RARE_K, SLOT_K, SUCCESSOR_K, COUNT_K] = [2, 3, 1, 2];
/** A quotient of so many ones is followed by the plain value instead. */
const ESCAPE = 16;
/** That any known entity went, and that there are new ones, in 1/65536. */
const SELDOM = 4_096;

/** What is known of an entity. */
export interface Old {
  readonly components: number;
  readonly row: Row;
  /** How many ticks ago it was told. */
  readonly ticks: number;
}

/** Plain bits, in either coding. */
interface Bits {
  get(bits: number): number;
  flag(): boolean;
}

/** What a body says: known entities ascending, then new entities ascending. */
export interface Sink {
  old(known: number): Old;
  generation(known: number): number;
  /** A known entity stays as it is. */
  keep(known: number): void;
  /** A known entity changed; `row` is its row, and is used again. */
  update(known: number, row: Row): void;
  /** A known entity is gone. */
  remove(known: number): void;
  /** Another entity stands in the slot of a known one. */
  replace(known: number, generation: number, components: number, row: Row): void;
  /** A new entity. */
  insert(slot: number, generation: number, components: number, row: Row): void;
}

/** A Rice code, as `BitReader.rice` reads it. */
function readRice(k: number, bits: Bits): number {
  let quotient = 0;
  while (quotient < ESCAPE && bits.flag()) quotient += 1;
  if (quotient === ESCAPE) return bits.get(bits.get(5) + 1);
  return quotient * 2 ** k + bits.get(k);
}

/** A set of `0..length`. */
function readSet(length: number, bits: Bits): boolean[] {
  const set: boolean[] = [];
  if (length === 0) return set;
  const inverse = bits.flag();
  const k = bits.get(4);
  while (set.length < length) {
    const gap = readRice(k, bits);
    if (gap > length - set.length) throw new ProtocolError("a member behind the end of a set");
    for (let index = 0; index < gap; index += 1) set.push(inverse);
    if (set.length < length) set.push(!inverse);
  }
  return set;
}

function readEntity(layout: Layout, row: Row, bits: Bits): number {
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

function readNew(layout: Layout, row: Row, bits: Bits, sink: Sink): void {
  const count = readRice(COUNT_K, bits);
  let next = 0;
  for (let index = 0; index < count; index += 1) {
    const slot = next + readRice(SLOT_K, bits);
    if (slot > 0xffff_ffff) throw new ProtocolError("a slot above 32 bits");
    next = slot + 1;
    const width = bits.get(6);
    if (width > 32) throw new ProtocolError("a generation above 32 bits");
    const generation = bits.get(width);
    const components = readEntity(layout, row, bits);
    sink.insert(slot, generation, components, row);
  }
}

/** What stands in the place of known entities that are replaced, by index. */
type Successors = Map<number, { generation: number; components: number; row: Row }>;

/** Reads which known entities are gone, and what stands in the place of those that are replaced. */
function readGone(
  layout: Layout,
  known: number,
  bits: Bits,
  sink: Sink,
): { gone: boolean[]; successors: Successors } {
  const gone = readSet(known, bits);
  const successors: Successors = new Map();
  const row = new Uint32Array(layout.stride);
  for (let at = 0; at < known; at += 1) {
    if (!gone[at] || !bits.flag()) continue;
    const generation = (sink.generation(at) + readRice(SUCCESSOR_K, bits)) >>> 0;
    const components = readEntity(layout, row, bits);
    successors.set(at, { generation, components, row: row.slice() });
  }
  return { gone, successors };
}

function tellGone(at: number, successors: Successors, sink: Sink): void {
  const successor = successors.get(at);
  if (successor === undefined) sink.remove(at);
  else sink.replace(at, successor.generation, successor.components, successor.row);
}

/** Reads a body against so many known entities. */
export function readBody(layout: Layout, known: number, bytes: Uint8Array, sink: Sink): void {
  const bits = new BitReader(bytes);
  const row = new Uint32Array(layout.stride);
  const { gone, successors } = readGone(layout, known, bits, sink);
  const staying = known - gone.filter((is) => is).length;
  const changed = readSet(staying, bits);
  const rare = readSet(changed.filter((is) => is).length, bits);
  const models = new Map<number, Model>();
  let [stays, changes] = [0, 0];
  for (let at = 0; at < known; at += 1) {
    if (gone[at]) {
      tellGone(at, successors, sink);
      continue;
    }
    stays += 1;
    if (!changed[stays - 1]) {
      sink.keep(at);
      continue;
    }
    const { components, ticks, row: old } = sink.old(at);
    let model = models.get(components);
    if (model === undefined) {
      model = readModel(layout, components, bits);
      models.set(components, model);
    }
    readResiduals(model, rare[changes] === true, row, bits);
    changes += 1;
    layout.apply(components, ticks, old, row);
    sink.update(at, row);
  }
  readNew(layout, row, bits, sink);
  if (!bits.atEnd()) throw new ProtocolError("bits behind the last entity");
}

/** So many component masks have chances of their own in a body; all others share one set. */
const OWN_SETS = 31;

/** Chances of a set of components, and its columns. */
interface Foreseen {
  readonly chances: Chances;
  readonly turns: Turns;
}

/** Reads an update of `old` into `row`, which is replaced as `residuals` is. */
function readRow(
  layout: Layout,
  { chances, turns }: Foreseen,
  old: Old,
  residuals: Row,
  row: Row,
  bits: RangeReader,
): void {
  residuals.fill(0);
  // The component of the column before, if its residual was not 0.
  let before = -1;
  for (const at of turns.steady) {
    const { component } = layout.columns[at]!;
    const place = layout.template.steady(at, before === component);
    residuals[at] = readResidual(place, chances, bits);
    before = residuals[at] === 0 ? -1 : component;
  }
  row.set(residuals);
  layout.applySteady(old.row, row);
  for (const rate of turns.moving) {
    const { component } = layout.columns[rate.at]!;
    const expected = layout.expected(rate, old.components, old.ticks, old.row, row);
    const by = residuals[rate.by]!;
    const place = layout.template.moving(rate, before === component, by, expected.phase);
    row[rate.at] = readResidual(place, chances, bits);
    before = row[rate.at] === 0 ? -1 : component;
    layout.applyMoving(rate, expected, row);
  }
}

/** Reads a range coded body against so many known entities. */
export function readRangedBody(
  layout: Layout,
  known: number,
  bytes: Uint8Array,
  sink: Sink,
): void {
  const bits = new RangeReader(bytes);
  const seldom = (): boolean => bits.bit(new Chances(Uint16Array.of(SELDOM)), 0);
  const none = { gone: [] as boolean[], successors: new Map() as Successors };
  const { gone, successors } = seldom() ? readGone(layout, known, bits, sink) : none;
  const sets = new Map<number, Foreseen>();
  let shared: Chances | undefined;
  const [residuals, row] = [new Uint32Array(layout.stride), new Uint32Array(layout.stride)];
  // By whether an entity moves, and whether the one before that moves likewise changed.
  const flags = new Chances(Uint16Array.of(6_500, 6_500, 59_000, 59_000));
  const before = [0, 0];
  for (let at = 0; at < known; at += 1) {
    if (gone[at]) {
      tellGone(at, successors, sink);
      continue;
    }
    const old = sink.old(at);
    const moves = Number(layout.moves(old.components, old.row));
    const changed = bits.bit(flags, moves * 2 + before[moves]!);
    before[moves] = Number(changed);
    if (!changed) {
      sink.keep(at);
      continue;
    }
    let set = sets.get(old.components);
    if (set === undefined) {
      const own = sets.size < OWN_SETS;
      const chances = own ? layout.template.chances() : (shared ??= layout.template.chances());
      set = { chances, turns: layout.turns(old.components) };
      if (own) sets.set(old.components, set);
    }
    readRow(layout, set, old, residuals, row, bits);
    sink.update(at, row);
  }
  if (seldom()) readNew(layout, row, bits, sink);
  if (!bits.atEnd()) throw new ProtocolError("bytes behind the last entity");
}
