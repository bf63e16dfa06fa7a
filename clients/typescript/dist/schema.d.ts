import type { Reader, Writer } from "./wire.js";
/** How a field is quantised. */
export type FieldKind = {
    readonly type: "float";
    readonly min: number;
    readonly max: number;
    readonly bits: number;
} | {
    readonly type: "angle";
    readonly bits: number;
} | {
    readonly type: "unsigned";
    readonly bits: number;
} | {
    readonly type: "bool";
};
/** One networked field. */
export interface Field {
    readonly name: string;
    readonly kind: FieldKind;
    /** The column that holds this field's rate of change per second. */
    readonly rate: number | undefined;
}
/** One networked component; its place in the schema is its bit in component masks. */
export interface Component {
    readonly name: string;
    readonly fields: readonly Field[];
}
/** All networked components of a game. Their fields, in order, are the columns of a row. */
export interface Schema {
    readonly components: readonly Component[];
    /** The columns of x and y. */
    readonly position: readonly [number, number] | undefined;
}
/** All fields in column order. */
export declare function columns(schema: Schema): Field[];
/** The number of bits of a quantum. */
export declare function bitsOf(kind: FieldKind): number;
/** What a quantum stands for: the field's unit, radians, a whole number, or 0 and 1. */
export declare function dequantise(kind: FieldKind, quantum: number): number;
/** Refuses a schema that snapshots cannot be made of. */
export declare function checkSchema(schema: Schema): void;
/** Reads a schema, and checks it. */
export declare function readSchema(reader: Reader): Schema;
/** Writes a schema: for servers of tests. */
export declare function writeSchema(writer: Writer, schema: Schema): void;
/** The column of a field; -1 if the schema has none of these names. */
export declare function columnOf(schema: Schema, component: string, field: string): number;
/** The bit of a component in component masks, as a mask; 0 if there is none of this name. */
export declare function componentOf(schema: Schema, component: string): number;
