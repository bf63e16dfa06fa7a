// Entities as objects with named fields.
import assert from "node:assert/strict";
import { test } from "node:test";
import { entityReader, ProtocolError } from "../dist/index.js";

const schema = {
  components: [
    {
      name: "game.place",
      fields: [
        { name: "x", kind: { type: "float", min: -8, max: 8, bits: 10 }, rate: undefined },
        { name: "there", kind: { type: "bool" }, rate: undefined },
      ],
    },
    { name: "game.score", fields: [{ name: "kills", kind: { type: "unsigned", bits: 8 }, rate: undefined }] },
  ],
  position: undefined,
};
const parts = { "game.place": { x: "float", there: "bool" }, "game.score": { kills: "unsigned" } };
const thing = (components, values) => ({ slot: 7, generation: 0, components, values });

test("a thing has the components that its mask names, with flags as booleans", () => {
  const read = entityReader(schema, parts);
  assert.deepEqual(read(thing(0b01, [1.5, 1, 0])), { slot: 7, "game.place": { x: 1.5, there: true } });
  assert.deepEqual(read(thing(0b10, [0, 0, 3])), { slot: 7, "game.score": { kills: 3 } });
  assert.deepEqual(read(thing(0b11, [-2, 0, 0])), {
    slot: 7,
    "game.place": { x: -2, there: false },
    "game.score": { kills: 0 },
  });
});

test("a schema of another version of the game is refused by the name of the field", () => {
  const other = { ...parts, "game.place": { x: "angle" } };
  assert.throws(() => entityReader(schema, other), (error) =>
    error instanceof ProtocolError && /has float field game\.place\.x; angle is wanted/.test(error.message));
  const lacks = { ...parts, "game.armour": { points: "unsigned" } };
  assert.throws(() => entityReader(schema, lacks), /has no field game\.armour\.points/);
});

test("a number of two columns is a bigint, and a list has as many elements as its length says", () => {
  const whole = (name, bits) => ({ name, kind: { type: "unsigned", bits }, rate: undefined });
  const fields = [whole("owner", 32), whole("owner.high", 32), whole("hand.len", 2),
    whole("hand.0", 6), whole("hand.1", 6), whole("hand.2", 6)];
  const cards = { components: [{ name: "seat", fields }], position: undefined };
  const read = entityReader(cards, { seat: { owner: "wide", hand: ["unsigned", 3] } });
  const seat = (values) => read(thing(1, values)).seat;
  assert.deepEqual(seat([1, 0x7f3a91c2, 2, 9, 40, 0]), { owner: 0x7f3a91c200000001n, hand: [9, 40] });
  assert.deepEqual(seat([0xffff_ffff, 0xffff_ffff, 0, 0, 0, 0]), { owner: 2n ** 64n - 1n, hand: [] });
  assert.throws(() => entityReader(cards, { seat: { hand: ["unsigned", 4] } }), /no field seat\.hand\.3/);
});
