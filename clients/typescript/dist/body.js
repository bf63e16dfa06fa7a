/** Reads bodies of snapshots (docs/PROTOCOL.md, section 7). */
import { BitReader } from "./bits.js";
import { ProtocolError } from "./error.js";
const [RARE_K, SLOT_K, SUCCESSOR_K, COUNT_K] = [2, 3, 1, 2];
/** A set of `0..length`. */
function readSet(length, bits) {
    const set = [];
    if (length === 0)
        return set;
    const inverse = bits.flag();
    const k = bits.get(4);
    while (set.length < length) {
        const gap = bits.rice(k);
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
    const count = bits.rice(COUNT_K);
    let next = 0;
    for (let index = 0; index < count; index += 1) {
        const slot = next + bits.rice(SLOT_K);
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
/** Reads a body against so many known entities. */
export function readBody(layout, known, bytes, sink) {
    const bits = new BitReader(bytes);
    const row = new Uint32Array(layout.stride);
    const gone = readSet(known, bits);
    const successors = new Map();
    let staying = known;
    for (let at = 0; at < known; at += 1) {
        if (!gone[at])
            continue;
        staying -= 1;
        if (!bits.flag())
            continue;
        const generation = (sink.generation(at) + bits.rice(SUCCESSOR_K)) >>> 0;
        const components = readEntity(layout, row, bits);
        successors.set(at, { generation, components, row: row.slice() });
    }
    const changed = readSet(staying, bits);
    const rare = readSet(changed.filter((is) => is).length, bits);
    const models = new Map();
    let [stays, changes] = [0, 0];
    for (let at = 0; at < known; at += 1) {
        if (gone[at]) {
            const successor = successors.get(at);
            if (successor === undefined)
                sink.remove(at);
            else
                sink.replace(at, successor.generation, successor.components, successor.row);
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
    if (!bits.atEnd())
        throw new ProtocolError("bits behind the last entity");
}
