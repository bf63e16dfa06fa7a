/**
 * The world as snapshots tell it, and what a client keeps to decode the next ones
 * (docs/PROTOCOL.md, section 8).
 */
import { readBody, readRangedBody, type Old, type Sink } from "./body.js";
import { ProtocolError } from "./error.js";
import { HISTORY, readHeader, type SnapshotHeader } from "./header.js";
import type { Acknowledgement } from "./inputs.js";
import { Layout, type Row } from "./layout.js";
import type { Schema } from "./schema.js";

/** Most entities that a client knows at a time. */
const MAX_ENTITIES = 8192;

/** One entity of a view. A slot and a generation name an entity for ever. */
export interface Entity {
  readonly slot: number;
  readonly generation: number;
  /** Bit i: it has component i of the schema. */
  readonly components: number;
  /** The tick of the snapshot that told it last. */
  readonly stamp: number;
  /** A quantum for each column; 0 in columns of components that it lacks. */
  readonly row: Row;
}

/** The world after a tick. Nothing in it may be changed: deltas build on it. */
export interface View {
  readonly tick: number;
  /** Ascending by slot. */
  readonly entities: readonly Entity[];
}

/** What a datagram gave. */
export interface Received {
  readonly header: SnapshotHeader;
  readonly view: View;
  /** All entities are as of this tick; otherwise some did not fit. */
  readonly complete: boolean;
}

interface State {
  readonly tickRate: number;
  readonly view: View;
}

const EMPTY: View = { tick: 0, entities: [] };

/** Where the entity in `slot` stands in a list ascending by slot, or where it would. */
function place(entities: readonly Entity[], slot: number, end = entities.length): number {
  let [low, high] = [0, end];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (entities[middle]!.slot < slot) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The entity in a slot. */
export function entityIn(view: View, slot: number): Entity | undefined {
  const entity = view.entities[place(view.entities, slot)];
  return entity?.slot === slot ? entity : undefined;
}

/** The state that a body makes from another. */
class Next implements Sink {
  readonly entities: Entity[] = [];
  /** Slots of known entities that are gone. */
  readonly removed = new Set<number>();
  private known = 0;

  constructor(
    private readonly base: readonly Entity[],
    private readonly tick: number,
  ) {}

  old(known: number): Old {
    const { components, stamp, row } = this.base[known]!;
    return { components, row, ticks: this.tick - stamp };
  }

  generation(known: number): number {
    return this.base[known]!.generation;
  }

  private put(entity: Entity): void {
    this.entities.push(entity);
    this.known = this.entities.length;
  }

  keep(known: number): void {
    this.put(this.base[known]!);
  }

  update(known: number, row: Row): void {
    this.put({ ...this.base[known]!, stamp: this.tick, row: row.slice() });
  }

  remove(known: number): void {
    this.removed.add(this.base[known]!.slot);
  }

  replace(known: number, generation: number, components: number, row: Row): void {
    this.put({ slot: this.base[known]!.slot, generation, components, stamp: this.tick, row });
  }

  insert(slot: number, generation: number, components: number, row: Row): void {
    if (this.entities.length >= MAX_ENTITIES) throw new ProtocolError("more than 8192 entities");
    const at = place(this.entities, slot, this.known);
    if (at < this.known && this.entities[at]!.slot === slot) {
      throw new ProtocolError("a new entity in a slot that is taken");
    }
    this.entities.push({ slot, generation, components, stamp: this.tick, row: row.slice() });
  }

  view(): View {
    const sorted = this.entities.sort((a, b) => a.slot - b.slot);
    return { tick: this.tick, entities: sorted };
  }
}

/**
 * A partial snapshot says nothing of entities that did not fit, and is built on a baseline that
 * lies a round trip back: what later snapshots told of those still stands.
 */
function overlay(view: View, shown: View, baseline: number, removed: Set<number>): View {
  const stands = (entity: Entity): boolean =>
    entity.stamp > baseline && !removed.has(entity.slot);
  const entities: Entity[] = [];
  let before = 0;
  for (const entity of view.entities) {
    for (; before < shown.entities.length; before += 1) {
      const other = shown.entities[before]!;
      if (other.slot >= entity.slot) break;
      if (stands(other)) entities.push(other);
    }
    const other = shown.entities[before];
    const same = other?.slot === entity.slot;
    if (same) before += 1;
    entities.push(same && other.stamp > entity.stamp ? other : entity);
  }
  entities.push(...shown.entities.slice(before).filter(stands));
  return { tick: view.tick, entities };
}

/** Decodes snapshots, and knows which of them may be a baseline. */
export class SnapshotReceiver {
  private states = new Map<number, State>();
  private shown: View | undefined;
  /** Which of the 64 ticks up to the newest were received: bit i of two halves. */
  private seen = new Set<number>();
  private newest = 0;
  private layout: Layout;
  private tickRate = 30;

  /** `epoch`: that of the connection's welcome. */
  constructor(
    private readonly schema: Schema,
    private epoch = 0,
  ) {
    this.layout = new Layout(schema, this.tickRate);
  }

  /** Forgets everything: a rewind. */
  reset(): void {
    this.epoch = 0;
    this.forget();
  }

  private forget(): void {
    this.states.clear();
    this.shown = undefined;
    this.seen.clear();
    this.newest = 0;
  }

  /** What to put into the next input packet. */
  acknowledgement(): Acknowledgement {
    let bits = 0;
    for (const tick of this.seen) {
      const back = this.newest - 1 - tick;
      if (back >= 0 && back < 32) bits |= 1 << back;
    }
    return { tick: this.newest, bits: bits >>> 0 };
  }

  /**
   * Decodes a datagram. Throws a `ProtocolError` for what gives no view: then the receiver is as
   * before, except that the first datagram of a higher epoch makes it forget the lower one.
   */
  receive(datagram: Uint8Array): Received {
    const { header, framing, body } = readHeader(datagram);
    this.refuseKnown(header);
    const { tick } = header;
    const base = this.baseOf(header.epoch, framing.baseline, framing.tickRate);
    if (base.tickRate !== this.tickRate) {
      this.layout = new Layout(this.schema, base.tickRate);
      this.tickRate = base.tickRate;
    }
    const next = new Next(base.view.entities, tick);
    const read = framing.ranged ? readRangedBody : readBody;
    read(this.layout, base.view.entities.length, body, next);
    const view = next.view();
    if (header.epoch !== this.epoch) {
      this.forget();
      this.epoch = header.epoch;
    }
    this.states.set(tick, { tickRate: base.tickRate, view });
    this.seen.add(tick);
    let shows = view;
    if (this.seen.size === 1 || tick > this.newest) {
      this.newest = tick;
      this.dropUseless(framing.baseline ?? 0);
      if (framing.partial && this.shown !== undefined) {
        shows = overlay(view, this.shown, framing.baseline ?? 0, next.removed);
      }
      this.shown = shows;
    }
    return { header, view: shows, complete: !framing.partial };
  }

  private refuseKnown({ epoch, tick }: SnapshotHeader): void {
    if (epoch < this.epoch) throw new ProtocolError("a snapshot of an earlier ownership");
    if (epoch !== this.epoch || this.seen.size === 0 || tick > this.newest) return;
    if (tick <= this.newest - HISTORY) throw new ProtocolError("a snapshot that is too old");
    if (this.seen.has(tick)) throw new ProtocolError("a snapshot that was received before");
  }

  private baseOf(epoch: number, baseline: number | undefined, tickRate: number): State {
    if (baseline === undefined) return { tickRate, view: EMPTY };
    if (epoch !== this.epoch) {
      // What the server takes for acknowledged is of the epoch before. It hears that nothing of
      // the new one is here.
      this.forget();
      this.epoch = epoch;
    }
    const state = this.states.get(baseline);
    if (state === undefined) throw new ProtocolError("a snapshot that builds on an unknown one");
    return state;
  }

  /** Drops what no later snapshot can build on: the server never goes back behind a baseline. */
  private dropUseless(baseline: number): void {
    for (const tick of this.states.keys()) {
      if (tick < baseline || tick <= this.newest - HISTORY) this.states.delete(tick);
    }
    for (const tick of this.seen) if (tick <= this.newest - HISTORY) this.seen.delete(tick);
  }
}
