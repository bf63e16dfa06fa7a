/** Drawing between two snapshots. */
import { columns, dequantise } from "./schema.js";
import { entityIn } from "./snapshot.js";
/** How many views are kept. */
const KEPT = 32;
/** Floats straight, angles by the shorter way, all else stays until the end is reached. */
function between(kind, a, b, alpha) {
    if (kind.type === "float") {
        const from = dequantise(kind, a);
        return from + (dequantise(kind, b) - from) * alpha;
    }
    if (kind.type !== "angle")
        return alpha >= 1 ? b : a;
    const turn = 2 ** kind.bits;
    const way = ((((b - a + turn / 2) % turn) + turn) % turn) - turn / 2;
    const angle = dequantise(kind, a) + (way / turn) * 2 * Math.PI * alpha;
    if (angle >= Math.PI)
        return angle - 2 * Math.PI;
    return angle < -Math.PI ? angle + 2 * Math.PI : angle;
}
/** Keeps the last views and samples them at any moment. */
export class Interpolator {
    fields;
    views = [];
    constructor(schema) {
        const owners = schema.components.flatMap(({ fields }, index) => fields.map(() => index));
        this.fields = columns(schema).map(({ kind }, at) => ({ kind, component: owners[at] }));
    }
    /** Adds a view; late ones are sorted in. */
    push(view) {
        let at = this.views.length;
        while (at > 0 && this.views[at - 1].tick >= view.tick)
            at -= 1;
        this.views.splice(at, this.views[at]?.tick === view.tick ? 1 : 0, view);
        if (this.views.length > KEPT)
            this.views.shift();
    }
    /** Forgets the views behind a tick: a rewind. */
    rewind(to) {
        this.views = this.views.filter((view) => view.tick <= to);
    }
    /**
     * The world at `tick`. Before the oldest view it is the oldest, behind the newest the newest;
     * none without views. Entities that are not the same in the views on both sides are as in the
     * first of them.
     */
    sample(tick) {
        let after = this.views.length;
        while (after > 0 && this.views[after - 1].tick > tick)
            after -= 1;
        const a = this.views[Math.max(0, after - 1)];
        if (a === undefined)
            return undefined;
        const b = after > 0 ? (this.views[after] ?? a) : a;
        const span = b.tick - a.tick;
        const alpha = span > 0 ? Math.min(Math.max((tick - a.tick) / span, 0), 1) : 0;
        return {
            tick: a.tick + span * alpha,
            things: a.entities.map((entity) => this.thing(entity, entityIn(b, entity.slot), alpha)),
        };
    }
    thing(entity, other, alpha) {
        const { slot, generation, components, row } = entity;
        const same = other?.generation === generation && other.components === components;
        const next = same ? other.row : row;
        const values = new Float64Array(row.length);
        for (let at = 0; at < row.length; at += 1) {
            const { kind, component } = this.fields[at];
            if ((components >>> component) & 1)
                values[at] = between(kind, row[at], next[at], alpha);
        }
        return { slot, generation, components, values };
    }
}
