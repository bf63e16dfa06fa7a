// Clock and interpolation: what is drawn, and when, over lines that are late and uneven.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ClockSync, Interpolator } from "../dist/index.js";
import { generator } from "./support.mjs";

const PERIOD = 1000 / 30;

/** Snapshots of a server whose tick 0 was at 0 of our clock, each `late(tick)` ms on its way. */
function listen(clock, from, to, late, echo = () => 0) {
  const arrivals = [];
  for (let tick = from; tick <= to; tick += 1) arrivals.push([tick * PERIOD + late(tick), tick]);
  arrivals.sort((a, b) => a[0] - b[0]);
  for (const [at, tick] of arrivals) clock.onSnapshot(at, { tick, echo: echo(at), held: 0 });
  return arrivals.at(-1)[0];
}

test("the clock knows the server's tick behind an even line, whatever the line's length", () => {
  for (const way of [0, 40, 300]) {
    const clock = new ClockSync(30);
    const now = listen(clock, 1, 90, () => way, (at) => Math.floor(at - 2 * way));
    assert.ok(Math.abs(clock.rtt - 2 * way) < 2, `round trip ${clock.rtt}`);
    assert.ok(clock.jitter < 0.01);
    // What is drawn is a tick behind what arrives; an input gets there before it is needed.
    assert.ok(Math.abs(clock.renderTick(now) - 89) < 0.01, `${clock.renderTick(now)}`);
    const ahead = clock.targetTick(now) - (90 + (2 * way) / PERIOD);
    assert.ok(ahead >= 1 && ahead < 2.1, `${ahead} ticks ahead`);
  }
});

test("time runs on without jumps over an uneven line, and stops when nothing comes", () => {
  const dice = generator(7);
  const clock = new ClockSync(30);
  listen(clock, 1, 60, () => 50 + dice(20));
  assert.ok(clock.jitter > 2 && clock.jitter < 12, `jitter ${clock.jitter}`);
  let last = clock.renderTick(60 * PERIOD + 70);
  const step = 5;
  for (let now = 60 * PERIOD + 70 + step, tick = 61; now < 120 * PERIOD; now += step) {
    while (tick * PERIOD + 60 < now) {
      clock.onSnapshot(tick * PERIOD + 60 + dice(20), { tick: tick++, echo: 0, held: 0 });
    }
    const drawn = clock.renderTick(now);
    const rate = ((drawn - last) * PERIOD) / step;
    assert.ok(rate > 0.9 && rate < 1.1, `time runs at ${rate}`);
    last = drawn;
  }
  const end = 120 * PERIOD + 60;
  const [soon, later, muchLater] = [600, 2000, 9000].map((ms) => clock.renderTick(end + ms));
  assert.ok(later - soon < 20 && Math.abs(muchLater - later) < 2, `${soon} ${later} ${muchLater}`);
});

test("after an outage the clock jumps to where the server is", () => {
  const clock = new ClockSync(30);
  listen(clock, 1, 60, () => 30);
  // The match stood still for ten seconds.
  const now = listen(clock, 61, 90, () => 10_030);
  assert.ok(Math.abs(clock.renderTick(now) - 89) < 0.5, `${clock.renderTick(now)}`);
});

test("a match that is slowed is followed within nine ticks, and so is its return", () => {
  for (const periods of [2, 3, 4]) {
    const clock = new ClockSync(30);
    let [now, tick] = [0, 0];
    const hear = (count, gap) => {
      for (const end = tick + count; tick < end; ) {
        now += gap;
        tick += 1;
        clock.onSnapshot(now, { tick, echo: 0, held: 0 });
      }
    };
    hear(60, PERIOD);
    hear(9, PERIOD * periods);
    assert.deepEqual([clock.slowdown, clock.period], [periods, PERIOD * periods]);
    hear(6, PERIOD * periods);
    // What is drawn is a tick behind, and an input is for the tick that comes next.
    assert.ok(Math.abs(clock.renderTick(now) - (tick - 1)) < 0.2, `${clock.renderTick(now)}`);
    assert.ok(clock.targetTick(now) - tick <= 2, `${clock.targetTick(now)} at ${tick}`);
    hear(12, PERIOD);
    assert.equal(clock.slowdown, 1);
  }
});

test("an outage, or snapshots in pairs, are no slowdown", () => {
  const clock = new ClockSync(30);
  listen(clock, 1, 60, () => 30);
  listen(clock, 61, 120, (tick) => 3_030 + (tick % 2) * PERIOD);
  assert.equal(clock.slowdown, 1);
});

test("inputs that came too late make later ones earlier, for a while", () => {
  const clock = new ClockSync(30);
  let now = listen(clock, 1, 60, () => 20);
  const before = clock.targetTime(now) - now / PERIOD;
  for (let turn = 0; turn < 10; turn += 1) clock.onApplied(100, 103);
  const run = (ms) => {
    for (const end = now + ms; now < end; now += 10) {
      clock.onSnapshot(now, { tick: Math.floor((now - 20) / PERIOD), echo: 0, held: 0 });
      clock.targetTime(now);
    }
    return clock.targetTime(now) - now / PERIOD;
  };
  const late = run(5000);
  assert.ok(late > before + 3 && late < before + 8, `${before}, then ${late}`);
  for (let turn = 0; turn < 2000; turn += 1) clock.onApplied(100, 100);
  assert.ok(run(5000) < before + 1);
});

const schema = {
  components: [
    {
      name: "place",
      fields: [
        { name: "x", kind: { type: "float", min: 0, max: 255, bits: 8 } },
        { name: "turn", kind: { type: "angle", bits: 8 } },
        { name: "lives", kind: { type: "unsigned", bits: 8 } },
      ],
    },
  ],
  position: undefined,
};
const entity = (slot, row, generation = 0) => ({
  slot,
  generation,
  components: 1,
  stamp: 0,
  row: Uint32Array.from(row),
});
const view = (tick, ...entities) => ({ tick, entities });

test("between two views floats go straight, angles the shorter way, counts not at all", () => {
  const between = new Interpolator(schema);
  assert.equal(between.sample(3), undefined);
  between.push(view(10, entity(1, [100, 250, 3])));
  between.push(view(12, entity(1, [110, 6, 2])));
  const at = (tick) => [...between.sample(tick).things[0].values];
  const near = (found, wanted) => assert.ok(Math.abs(found - wanted) < 1e-9, `${found} ${wanted}`);
  const angle = (quantum) => (quantum / 256) * 2 * Math.PI - (quantum >= 128 ? 2 * Math.PI : 0);
  const whole = [10, 11, 12].map(at);
  near(whole[0][0], 100);
  near(whole[1][0], 105);
  near(whole[2][0], 110);
  const turns = whole.map(([, turn]) => turn);
  // From 250 over 0 to 6, and not back by half a circle.
  const way = (from, to) => Math.atan2(Math.sin(to - from), Math.cos(to - from));
  near(way(turns[0], turns[1]), way(turns[1], turns[2]));
  near(way(turns[0], turns[2]), angle(12));
  assert.deepEqual(whole.map(([, , lives]) => lives), [3, 3, 2]);
  // Before the first view and behind the last there is nothing to guess from.
  assert.deepEqual(at(2), whole[0]);
  assert.deepEqual(at(99), whole[2]);
});

test("a view that comes late is sorted in, and another thing in the slot is not blended", () => {
  const between = new Interpolator(schema);
  between.push(view(10, entity(1, [0, 0, 0])));
  between.push(view(14, entity(1, [200, 0, 0], 1)));
  assert.equal(between.sample(12).things[0].values[0], 0, "it is another one");
  between.push(view(12, entity(1, [20, 0, 0])));
  assert.ok(Math.abs(between.sample(11).things[0].values[0] - 10) < 1e-9);
  between.rewind(12);
  assert.equal(between.sample(14).tick, 12);
  for (let tick = 20; tick < 200; tick += 1) between.push(view(tick));
  assert.equal(between.sample(0).tick, 168, "old ones are forgotten");
});
