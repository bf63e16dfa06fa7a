/**
 * Entities as objects with named fields, for code that `rekindle game schema --ts` makes of a
 * game's components.
 */
import { ProtocolError } from "./error.js";
import { columnOf, columns, componentOf } from "./schema.js";
/**
 * Reads things of a scene as `T`: `slot`, and an object for each component of `parts` that the
 * thing has. Throws a {@link ProtocolError} that names the first field which `schema` lacks or has
 * in another kind: the server plays another version of the game.
 */
export function entityReader(schema, parts) {
    const all = columns(schema);
    const find = (component, field, kind) => {
        const column = columnOf(schema, component, field);
        const found = all[column]?.kind.type;
        if (found !== kind) {
            throw new ProtocolError(`the game of the server has ${found ?? "no"} field ${component}.${field}; ${kind} is wanted`);
        }
        return kind === "bool" ? (values) => values[column] === 1 : (values) => values[column];
    };
    const reader = (component, field, kind) => {
        if (kind === "wide") {
            const [low, high] = ["", ".high"].map((half) => find(component, field + half, "unsigned"));
            return (values) => BigInt(low(values)) | (BigInt(high(values)) << 32n);
        }
        if (typeof kind === "string")
            return find(component, field, kind);
        const length = find(component, `${field}.len`, "unsigned");
        const each = Array.from({ length: kind[1] }, (_, at) => find(component, `${field}.${at}`, kind[0]));
        return (values) => each.slice(0, length(values)).map((read) => read(values));
    };
    const wanted = Object.entries(parts).map(([component, fields]) => ({
        component,
        mask: componentOf(schema, component),
        fields: Object.entries(fields).map(([field, kind]) => [field, reader(component, field, kind)]),
    }));
    return ({ slot, components, values }) => {
        const entity = { slot };
        for (const { component, mask, fields } of wanted) {
            if ((components & mask) === 0)
                continue;
            const part = {};
            for (const [field, read] of fields)
                part[field] = read(values);
            entity[component] = part;
        }
        return entity;
    };
}
