/** Reads bodies of snapshots (docs/PROTOCOL.md, section 7). */
import { BitReader } from "./bits.js";
import { readResidual } from "./contexts.js";
import { ProtocolError } from "./error.js";
import { Chances, RangeReader } from "./range.js";
const [RARE_K, SLOT_K, SUCCESSOR_K, COUNT_K] = [2, 3, 1, 2];
/** A quotient of so many ones is followed by the plain value instead. */
const ESCAPE = 16;
/** That any known entity went, and that there are new ones, in 1/65536. */
const SELDOM = 4_096;
/** A Rice code, as `BitReader.rice` reads it. */
function readRice(k, bits) {
    let quotient = 0;
    while (quotient < ESCAPE && bits.flag())
        quotient += 1;
    if (quotient === ESCAPE)
        return bits.get(bits.get(5) + 1);
    return quotient * 2 ** k + bits.get(k);
}
/** A set of `0..length`. */
function readSet(length, bits) {
    const set = [];
    if (length === 0)
        return set;
    const inverse = bits.flag();
    const k = bits.get(4);
    while (set.length < length) {
        const gap = readRice(k, bits);
        if (gap > length - set.length)
            throw new ProtocolError("a member behind the end of a set");
        for (let index = 0; index < gap; index += 1)
            set.push(inverse);
        if (set.length < length)
            set.push(!inverse);
    }
    return set;
}
function readEntity(layout, row, bits) {
    row.fill(0);
    const components = bits.get(layout.componentCount);
    for (const at of layout.presentColumns(components)) {
        if (bits.flag())
            row[at] = bits.get(layout.columns[at].bits);
    }
    return components;
}
function readModel(layout, components, bits) {
    const hot = [];
    const cold = [];
    for (const at of layout.presentColumns(components)) {
        if (bits.flag())
            hot.push({ at, flagged: bits.flag(), k: bits.get(4) });
        else
            cold.push(at);
    }
    return { hot, cold };
}
function readResiduals(model, rare, row, bits) {
    row.fill(0);
    for (const { at, flagged, k } of model.hot) {
        if (!flagged)
            row[at] = bits.rice(k);
        else if (bits.flag())
            row[at] = bits.rice(k) + 1;
    }
    if (!rare)
        return;
    for (const at of model.cold)
        if (bits.flag())
            row[at] = bits.rice(RARE_K) + 1;
}
function readNew(layout, row, bits, sink) {
    const count = readRice(COUNT_K, bits);
    let next = 0;
    for (let index = 0; index < count; index += 1) {
        const slot = next + readRice(SLOT_K, bits);
        if (slot > 0xffff_ffff)
            throw new ProtocolError("a slot above 32 bits");
        next = slot + 1;
        const width = bits.get(6);
        if (width > 32)
            throw new ProtocolError("a generation above 32 bits");
        const generation = bits.get(width);
        const components = readEntity(layout, row, bits);
        sink.insert(slot, generation, components, row);
    }
}
/** Reads which known entities are gone, and what stands in the place of those that are replaced. */
function readGone(layout, known, bits, sink) {
    const gone = readSet(known, bits);
    const successors = new Map();
    const row = new Uint32Array(layout.stride);
    for (let at = 0; at < known; at += 1) {
        if (!gone[at] || !bits.flag())
            continue;
        const generation = (sink.generation(at) + readRice(SUCCESSOR_K, bits)) >>> 0;
        const components = readEntity(layout, row, bits);
        successors.set(at, { generation, components, row: row.slice() });
    }
    return { gone, successors };
}
function tellGone(at, successors, sink) {
    const successor = successors.get(at);
    if (successor === undefined)
        sink.remove(at);
    else
        sink.replace(at, successor.generation, successor.components, successor.row);
}
/** Reads a body against so many known entities. */
export function readBody(layout, known, bytes, sink) {
    const bits = new BitReader(bytes);
    const row = new Uint32Array(layout.stride);
    const { gone, successors } = readGone(layout, known, bits, sink);
    const staying = known - gone.filter((is) => is).length;
    const changed = readSet(staying, bits);
    const rare = readSet(changed.filter((is) => is).length, bits);
    const models = new Map();
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
    if (!bits.atEnd())
        throw new ProtocolError("bits behind the last entity");
}
/** So many component masks have chances of their own in a body; all others share one set. */
const OWN_SETS = 31;
/** Reads an update of `old` into `row`, which is replaced as `residuals` is. */
function readRow(layout, { chances, turns }, old, residuals, row, bits) {
    residuals.fill(0);
    // The component of the column before, if its residual was not 0.
    let before = -1;
    for (const at of turns.steady) {
        const { component } = layout.columns[at];
        const place = layout.template.steady(at, before === component);
        residuals[at] = readResidual(place, chances, bits);
        before = residuals[at] === 0 ? -1 : component;
    }
    row.set(residuals);
    layout.applySteady(old.row, row);
    for (const rate of turns.moving) {
        const { component } = layout.columns[rate.at];
        const expected = layout.expected(rate, old.components, old.ticks, old.row, row);
        const by = residuals[rate.by];
        const place = layout.template.moving(rate, before === component, by, expected.phase);
        row[rate.at] = readResidual(place, chances, bits);
        before = row[rate.at] === 0 ? -1 : component;
        layout.applyMoving(rate, expected, row);
    }
}
/** Reads a range coded body against so many known entities. */
export function readRangedBody(layout, known, bytes, sink) {
    const bits = new RangeReader(bytes);
    const seldom = () => bits.bit(new Chances(Uint16Array.of(SELDOM)), 0);
    const none = { gone: [], successors: new Map() };
    const { gone, successors } = seldom() ? readGone(layout, known, bits, sink) : none;
    const sets = new Map();
    let shared;
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
        const changed = bits.bit(flags, moves * 2 + before[moves]);
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
            if (own)
                sets.set(old.components, set);
        }
        readRow(layout, set, old, residuals, row, bits);
        sink.update(at, row);
    }
    if (seldom())
        readNew(layout, row, bits, sink);
    if (!bits.atEnd())
        throw new ProtocolError("bytes behind the last entity");
}
