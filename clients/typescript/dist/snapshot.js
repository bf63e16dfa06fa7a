/**
 * The world as snapshots tell it, and what a client keeps to decode the next ones
 * (docs/PROTOCOL.md, section 8).
 */
import { readBody, readRangedBody } from "./body.js";
import { ProtocolError } from "./error.js";
import { HISTORY, readHeader } from "./header.js";
import { Layout } from "./layout.js";
/** Most entities that a client knows at a time. */
const MAX_ENTITIES = 8192;
const EMPTY = { tick: 0, entities: [] };
/** Where the entity in `slot` stands in a list ascending by slot, or where it would. */
function place(entities, slot, end = entities.length) {
    let [low, high] = [0, end];
    while (low < high) {
        const middle = (low + high) >>> 1;
        if (entities[middle].slot < slot)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
/** The entity in a slot. */
export function entityIn(view, slot) {
    const entity = view.entities[place(view.entities, slot)];
    return entity?.slot === slot ? entity : undefined;
}
/** The state that a body makes from another. */
class Next {
    base;
    tick;
    entities = [];
    /** Slots of known entities that are gone. */
    removed = new Set();
    known = 0;
    constructor(base, tick) {
        this.base = base;
        this.tick = tick;
    }
    old(known) {
        const { components, stamp, row } = this.base[known];
        return { components, row, ticks: this.tick - stamp };
    }
    generation(known) {
        return this.base[known].generation;
    }
    put(entity) {
        this.entities.push(entity);
        this.known = this.entities.length;
    }
    keep(known) {
        this.put(this.base[known]);
    }
    update(known, row) {
        this.put({ ...this.base[known], stamp: this.tick, row: row.slice() });
    }
    remove(known) {
        this.removed.add(this.base[known].slot);
    }
    replace(known, generation, components, row) {
        this.put({ slot: this.base[known].slot, generation, components, stamp: this.tick, row });
    }
    insert(slot, generation, components, row) {
        if (this.entities.length >= MAX_ENTITIES)
            throw new ProtocolError("more than 8192 entities");
        const at = place(this.entities, slot, this.known);
        if (at < this.known && this.entities[at].slot === slot) {
            throw new ProtocolError("a new entity in a slot that is taken");
        }
        this.entities.push({ slot, generation, components, stamp: this.tick, row: row.slice() });
    }
    view() {
        const sorted = this.entities.sort((a, b) => a.slot - b.slot);
        return { tick: this.tick, entities: sorted };
    }
}
/**
 * A partial snapshot says nothing of entities that did not fit, and is built on a baseline that
 * lies a round trip back: what later snapshots told of those still stands.
 */
function overlay(view, shown, baseline, removed) {
    const stands = (entity) => entity.stamp > baseline && !removed.has(entity.slot);
    const entities = [];
    let before = 0;
    for (const entity of view.entities) {
        for (; before < shown.entities.length; before += 1) {
            const other = shown.entities[before];
            if (other.slot >= entity.slot)
                break;
            if (stands(other))
                entities.push(other);
        }
        const other = shown.entities[before];
        const same = other?.slot === entity.slot;
        if (same)
            before += 1;
        entities.push(same && other.stamp > entity.stamp ? other : entity);
    }
    entities.push(...shown.entities.slice(before).filter(stands));
    return { tick: view.tick, entities };
}
/** Decodes snapshots, and knows which of them may be a baseline. */
export class SnapshotReceiver {
    schema;
    epoch;
    states = new Map();
    shown;
    /** Which of the 64 ticks up to the newest were received: bit i of two halves. */
    seen = new Set();
    newest = 0;
    layout;
    tickRate = 30;
    /** `epoch`: that of the connection's welcome. */
    constructor(schema, epoch = 0) {
        this.schema = schema;
        this.epoch = epoch;
        this.layout = new Layout(schema, this.tickRate);
    }
    /** Forgets everything: a rewind. */
    reset() {
        this.epoch = 0;
        this.forget();
    }
    forget() {
        this.states.clear();
        this.shown = undefined;
        this.seen.clear();
        this.newest = 0;
    }
    /** What to put into the next input packet. */
    acknowledgement() {
        let bits = 0;
        for (const tick of this.seen) {
            const back = this.newest - 1 - tick;
            if (back >= 0 && back < 32)
                bits |= 1 << back;
        }
        return { tick: this.newest, bits: bits >>> 0 };
    }
    /**
     * Decodes a datagram. Throws a `ProtocolError` for what gives no view: then the receiver is as
     * before, except that the first datagram of a higher epoch makes it forget the lower one.
     */
    receive(datagram) {
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
    refuseKnown({ epoch, tick }) {
        if (epoch < this.epoch)
            throw new ProtocolError("a snapshot of an earlier ownership");
        if (epoch !== this.epoch || this.seen.size === 0 || tick > this.newest)
            return;
        if (tick <= this.newest - HISTORY)
            throw new ProtocolError("a snapshot that is too old");
        if (this.seen.has(tick))
            throw new ProtocolError("a snapshot that was received before");
    }
    baseOf(epoch, baseline, tickRate) {
        if (baseline === undefined)
            return { tickRate, view: EMPTY };
        if (epoch !== this.epoch) {
            // What the server takes for acknowledged is of the epoch before. It hears that nothing of
            // the new one is here.
            this.forget();
            this.epoch = epoch;
        }
        const state = this.states.get(baseline);
        if (state === undefined)
            throw new ProtocolError("a snapshot that builds on an unknown one");
        return state;
    }
    /** Drops what no later snapshot can build on: the server never goes back behind a baseline. */
    dropUseless(baseline) {
        for (const tick of this.states.keys()) {
            if (tick < baseline || tick <= this.newest - HISTORY)
                this.states.delete(tick);
        }
        for (const tick of this.seen)
            if (tick <= this.newest - HISTORY)
                this.seen.delete(tick);
    }
}
