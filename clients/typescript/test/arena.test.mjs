import assert from "node:assert/strict";
import { test } from "node:test";
import * as arena from "../dist/games/arena.js";
import { Prediction } from "../dist/predict.js";
import { golden, goldenJson, hex } from "./support.mjs";

const BITS = new DataView(new ArrayBuffer(4));
const float = (bits) => (BITS.setUint32(0, bits), BITS.getFloat32(0));
const bits = (value) => (BITS.setFloat32(0, value), BITS.getUint32(0));

test("fighters move bit for bit as on the server", () => {
  let steps = 0;
  for (const walk of goldenJson("arena-steps.json")) {
    const map = arena.arenaMap(walk.map, walk.width, walk.height);
    const [x, y, vx, vy] = walk.start.map(float);
    let fighter = { at: { x, y }, velocity: { x: vx, y: vy } };
    for (const [right, up, ...expected] of walk.steps) {
      fighter = arena.stepFighter(map, fighter, { right, up, aim: 0, fire: false });
      const { at, velocity } = fighter;
      assert.deepEqual([at.x, at.y, velocity.x, velocity.y].map(bits), expected);
      steps += 1;
    }
  }
  assert.ok(steps > 1000);
});

test("the arena's payloads are those of the samples", () => {
  const sample = (name) => golden(`protocol/arena-${name}.bin`);
  const input = { right: -127, up: 64, aim: 0x4000, fire: true };
  assert.equal(hex(arena.encodeInput(input)), hex(sample("input")));
  assert.equal(hex(arena.encodeReady()), hex(sample("ready")));
  assert.equal(hex(arena.encodeSwitch("launcher")), hex(sample("switch")));
  const event = (name) => arena.decodeEvent(name, sample(name));
  assert.deepEqual(event("phase"), { kind: "phase", phase: "live", reason: "fight" });
  assert.deepEqual(event("kill"), {
    kind: "kill",
    killer: 7n,
    victim: 66_051n,
    weapon: "shotgun",
  });
  assert.deepEqual(event("respawn"), { kind: "respawn", player: 7n });
  assert.deepEqual(event("pickup"), { kind: "pickup", player: 7n, pickup: "health" });
});

test("a prediction is the server's state with the inputs that it does not cover", () => {
  const prediction = new Prediction({ step: (state, input) => state + (input ?? 0) });
  assert.equal(prediction.at(5), undefined);
  prediction.reconcile(10, 0, 0);
  prediction.push(1, 12, 5);
  prediction.push(2, 13, 1);
  assert.deepEqual([10, 11, 12, 13, 14].map((tick) => prediction.at(tick)), [0, 0, 5, 6, 7]);
  prediction.reconcile(12, 4, 1);
  assert.deepEqual([12, 13, 14].map((tick) => prediction.at(tick)), [4, 5, 6]);
  // Input 2 came late: until it is applied, input 1 holds.
  prediction.reconcile(13, 9, 1);
  assert.equal(prediction.at(14), 10, "then input 2 counts");
  assert.equal(prediction.waiting, 1);
});
