/** What a game's snapshots are made of (docs/PROTOCOL.md, section 3.3). */
import { ProtocolError } from "./error.js";
import type { Reader, Writer } from "./wire.js";

/** How a field is quantised. */
export type FieldKind =
  | { readonly type: "float"; readonly min: number; readonly max: number; readonly bits: number }
  | { readonly type: "angle"; readonly bits: number }
  | { readonly type: "unsigned"; readonly bits: number }
  | { readonly type: "bool" };

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

const MAX_COMPONENTS = 32;
const MAX_COLUMNS = 128;

/** All fields in column order. */
export function columns(schema: Schema): Field[] {
  return schema.components.flatMap((component) => component.fields);
}

/** The number of bits of a quantum. */
export function bitsOf(kind: FieldKind): number {
  return kind.type === "bool" ? 1 : kind.bits;
}

/** What a quantum stands for: the field's unit, radians, a whole number, or 0 and 1. */
export function dequantise(kind: FieldKind, quantum: number): number {
  switch (kind.type) {
    case "float":
      return kind.min + (quantum / (2 ** kind.bits - 1)) * (kind.max - kind.min);
    case "angle":
      return (quantum / 2 ** kind.bits - 0.5) * 2 * Math.PI;
    default:
      return quantum;
  }
}

/** Refuses a schema that snapshots cannot be made of. */
export function checkSchema(schema: Schema): void {
  const fields = columns(schema);
  if (schema.components.length > MAX_COMPONENTS || fields.length > MAX_COLUMNS) {
    throw new ProtocolError("a schema with more than 32 components or 128 columns");
  }
  for (const { name, kind } of fields) {
    const most = kind.type === "float" || kind.type === "angle" ? 24 : 32;
    if (bitsOf(kind) < 1 || bitsOf(kind) > most) {
      throw new ProtocolError(`field ${name} has ${bitsOf(kind)} bits`);
    }
    const finite = kind.type !== "float" || (Number.isFinite(kind.min) && Number.isFinite(kind.max));
    if (!finite || (kind.type === "float" && kind.min >= kind.max)) {
      throw new ProtocolError(`the range of field ${name} is empty or not finite`);
    }
  }
  for (const column of schema.position ?? []) {
    if (fields[column]?.kind.type !== "float") {
      throw new ProtocolError(`the position names column ${column}, which is no float`);
    }
  }
}

function readKind(reader: Reader): FieldKind {
  const kind = reader.int();
  switch (kind) {
    case 0:
      return { type: "float", min: reader.f32(), max: reader.f32(), bits: reader.u8() };
    case 1:
      return { type: "angle", bits: reader.u8() };
    case 2:
      return { type: "unsigned", bits: reader.u8() };
    case 3:
      return { type: "bool" };
    default:
      throw new ProtocolError(`a field of kind ${kind}`);
  }
}

/** Reads a schema, and checks it. */
export function readSchema(reader: Reader): Schema {
  const components = reader.list(() => {
    const name = reader.string();
    const fields = reader.list((): Field => {
      const field = reader.string();
      const kind = readKind(reader);
      return { name: field, kind, rate: reader.option(() => reader.int(0xffff)) };
    });
    return { name, fields };
  });
  const position = reader.option((): [number, number] => [
    reader.int(0xffff),
    reader.int(0xffff),
  ]);
  const schema = { components, position };
  checkSchema(schema);
  return schema;
}

/** Writes a schema: for servers of tests. */
export function writeSchema(writer: Writer, schema: Schema): void {
  writer.list(schema.components, ({ name, fields }) => {
    writer.string(name).list(fields, (field) => {
      writer.string(field.name);
      const kind = field.kind;
      if (kind.type === "float") writer.uint(0).f32(kind.min).f32(kind.max).u8(kind.bits);
      else if (kind.type === "angle") writer.uint(1).u8(kind.bits);
      else if (kind.type === "unsigned") writer.uint(2).u8(kind.bits);
      else writer.uint(3);
      writer.option(field.rate, (rate) => writer.uint(rate));
    });
  });
  writer.option(schema.position, ([x, y]) => writer.uint(x).uint(y));
}

/** The column of a field; -1 if the schema has none of these names. */
export function columnOf(schema: Schema, component: string, field: string): number {
  let at = 0;
  for (const { name, fields } of schema.components) {
    const index = fields.findIndex((known) => known.name === field);
    if (name === component) return index < 0 ? -1 : at + index;
    at += fields.length;
  }
  return -1;
}

/** The bit of a component in component masks, as a mask; 0 if there is none of this name. */
export function componentOf(schema: Schema, component: string): number {
  const index = schema.components.findIndex(({ name }) => name === component);
  return index < 0 ? 0 : (1 << index) >>> 0;
}
