/** Drawing between two snapshots. */
import { columns, dequantise, type FieldKind, type Schema } from "./schema.js";
import { entityIn, type Entity, type View } from "./snapshot.js";

/** How many views are kept. */
const KEPT = 32;

/** An entity at a moment between ticks, in numbers. */
export interface Thing {
  readonly slot: number;
  readonly generation: number;
  readonly components: number;
  /** One number for each column; 0 in columns of components that it lacks. */
  readonly values: Float64Array;
}

/** The world at a moment between ticks. */
export interface Scene {
  /** The moment, in ticks. */
  readonly tick: number;
  /** Ascending by slot. */
  readonly things: readonly Thing[];
}

/** Floats straight, angles by the shorter way, all else stays until the end is reached. */
function between(kind: FieldKind, a: number, b: number, alpha: number): number {
  if (kind.type === "float") {
    const from = dequantise(kind, a);
    return from + (dequantise(kind, b) - from) * alpha;
  }
  if (kind.type !== "angle") return alpha >= 1 ? b : a;
  const turn = 2 ** kind.bits;
  const way = ((((b - a + turn / 2) % turn) + turn) % turn) - turn / 2;
  const angle = dequantise(kind, a) + (way / turn) * 2 * Math.PI * alpha;
  if (angle >= Math.PI) return angle - 2 * Math.PI;
  return angle < -Math.PI ? angle + 2 * Math.PI : angle;
}

/** Keeps the last views and samples them at any moment. */
export class Interpolator {
  private readonly fields: { kind: FieldKind; component: number }[];
  private views: View[] = [];

  constructor(schema: Schema) {
    const owners = schema.components.flatMap(({ fields }, index) => fields.map(() => index));
    this.fields = columns(schema).map(({ kind }, at) => ({ kind, component: owners[at]! }));
  }

  /** Adds a view; late ones are sorted in. */
  push(view: View): void {
    let at = this.views.length;
    while (at > 0 && this.views[at - 1]!.tick >= view.tick) at -= 1;
    this.views.splice(at, this.views[at]?.tick === view.tick ? 1 : 0, view);
    if (this.views.length > KEPT) this.views.shift();
  }

  /** Forgets the views behind a tick: a rewind. */
  rewind(to: number): void {
    this.views = this.views.filter((view) => view.tick <= to);
  }

  /**
   * The world at `tick`. Before the oldest view it is the oldest, behind the newest the newest;
   * none without views. Entities that are not the same in the views on both sides are as in the
   * first of them.
   */
  sample(tick: number): Scene | undefined {
    let after = this.views.length;
    while (after > 0 && this.views[after - 1]!.tick > tick) after -= 1;
    const a = this.views[Math.max(0, after - 1)];
    if (a === undefined) return undefined;
    const b = after > 0 ? (this.views[after] ?? a) : a;
    const span = b.tick - a.tick;
    const alpha = span > 0 ? Math.min(Math.max((tick - a.tick) / span, 0), 1) : 0;
    return {
      tick: a.tick + span * alpha,
      things: a.entities.map((entity) => this.thing(entity, entityIn(b, entity.slot), alpha)),
    };
  }

  private thing(entity: Entity, other: Entity | undefined, alpha: number): Thing {
    const { slot, generation, components, row } = entity;
    const same = other?.generation === generation && other.components === components;
    const next = same ? other.row : row;
    const values = new Float64Array(row.length);
    for (let at = 0; at < row.length; at += 1) {
      const { kind, component } = this.fields[at]!;
      if ((components >>> component) & 1) values[at] = between(kind, row[at]!, next[at]!, alpha);
    }
    return { slot, generation, components, values };
  }
}
