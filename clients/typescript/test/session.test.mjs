// The session against nodes that a test plays by hand, in virtual time.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "../dist/index.js";
import { begun, N1, N2, playing } from "./support.mjs";

test("a client shows its ticket, and its packets acknowledge what came", async () => {
  const { world, types } = await playing();
  const [arrive] = world.at(N1).said;
  assert.deepEqual(
    [arrive.type, arrive.protocol, arrive.role, arrive.credential.token],
    ["arrive", 4, "player", "ticket"],
  );
  assert.deepEqual(types().slice(0, 2), ["welcome", "snapshot"]);
  assert.ok(world.at(N1).datagrams.length >= 2);
});

test("when its node dies a client goes on at another, in its session", async () => {
  const { world, session, told, types } = await playing();
  world.dead.add(N1);
  world.at(N1).die();
  await world.time.advance(400);
  const [arrive] = world.at(N2).said;
  assert.deepEqual(arrive.credential, { type: "resume", token: "token" });
  assert.deepEqual([arrive.match, arrive.stood.tick], [9n, 103]);
  world.at(N2).welcome({ epoch: 2, tick: 103, resumed: true, nextInput: 5 });
  world.at(N2).snapshot(104, { epoch: 2 });
  assert.deepEqual(types().slice(-4), ["disconnected", "resumed", "moved", "snapshot"]);
  assert.equal(session.stats.moves, 1);
  assert.ok(told.find(({ type }) => type === "moved").gap >= 300);
  assert.equal(session.input(Uint8Array.of(1)).seq, 5);
});

test("a client looks beside a silent node, and takes what speaks first", async () => {
  const { world, types } = await playing();
  world.mute.add(N1);
  await world.time.advance(1500);
  assert.ok(world.at(N2), "it dialled the other one");
  assert.ok(types().includes("disconnected"));
  assert.equal(world.at(N2).said[0].type, "arrive");
});

test("a redirect is followed, and counted", async () => {
  const { world, session } = await begun();
  world.at(N1).tell({ type: "redirect", address: N2 });
  await world.time.advance(60);
  const [arrive] = world.at(N2).said;
  assert.deepEqual([arrive.type, arrive.redirects], ["arrive", 1]);
  assert.equal(session.stats.redirects, 1);
});

test("a client goes on at the standby over the connection that waits there", async () => {
  const { world, types } = await playing();
  world.at(N1).tell({ type: "standby", address: N2 });
  await world.time.advance(20);
  const warm = world.at(N2);
  assert.equal(warm.said[0].type, "wait");
  warm.tell({ type: "here", match: 9n, epoch: 2 });
  assert.equal(warm.said[1].type, "arrive");
  warm.welcome({ epoch: 2, tick: 104, resumed: true });
  assert.deepEqual(types().slice(-3), ["disconnected", "resumed", "moved"]);
});

test("who is superseded does not come back; who is told to wait does", async () => {
  const first = await playing();
  first.world.at(N1).tell({ type: "refused", code: "unavailable", message: "not now" });
  await first.world.time.advance(300);
  assert.equal(first.types().at(-1), "disconnected");
  const again = first.world.lines.findLast((line) => line.isOpen && !line.over);
  assert.equal(again.said[0].type, "arrive");
  again.tell({ type: "refused", code: "superseded", message: "another one" });
  await first.world.time.advance(5000);
  assert.deepEqual(first.told.at(-1), { type: "closed", code: "superseded", message: "another one" });
});

test("a node is greeted in the newest version of both, and in a lower one if it refuses that", async () => {
  const { world } = await begun([4, 5, 6, 7]);
  const first = world.at(N1);
  assert.equal(first.said[0].protocol, 6);
  world.protocols = [4];
  first.tell({ type: "refused", code: "protocol", message: "versions 1 to 4" });
  await world.time.advance(2000);
  const again = world.lines.findLast((line) => line.isOpen && !line.over);
  assert.notEqual(again, first);
  assert.equal(again.said[0].protocol, 4);
});

test("events come once, and a rewind gives them again", async () => {
  const { world, told } = await playing();
  const event = (tick, ordinal) =>
    world.at(N1).tell({ type: "event", tick, ordinal, kind: "kill", payload: Uint8Array.of(1) });
  event(101, 0);
  event(101, 0);
  event(102, 0);
  world.at(N1).tell({ type: "eventsMissed", from: 103, to: 110 });
  event(105, 0);
  world.at(N1).tell({ type: "rewound", epoch: 2, to: 101 });
  event(102, 0);
  const kinds = told.filter(({ type }) => type !== "snapshot").map(({ type, tick }) => [type, tick]);
  assert.deepEqual(kinds.slice(1), [
    ["event", 101],
    ["event", 102],
    ["eventsMissed", undefined],
    ["rewound", undefined],
    ["event", 102],
  ]);
});

test("commands are given again to the node that goes on", async () => {
  const { world, session, told } = await playing();
  [1, 2].forEach((byte) => session.command(Uint8Array.of(byte)));
  assert.deepEqual(world.at(N1).said.slice(1).map(({ seq }) => seq), [1, 2]);
  world.dead.add(N1);
  world.at(N1).die();
  await world.time.advance(400);
  world.at(N2).welcome({ epoch: 2, tick: 103, resumed: true, nextCommand: 2 });
  assert.deepEqual(world.at(N2).said.slice(1).map(({ seq }) => seq), [2]);
  world.at(N2).tell({ type: "commandDone", seq: 2, tick: 104, accepted: true });
  world.at(N2).snapshot(140, { epoch: 2 });
  const done = told.filter(({ type }) => type === "commandDone").map(({ seq, tick }) => [seq, tick]);
  assert.deepEqual(done, [[2, 104], [1, undefined]]);
});

test("without any node a client gives up after its time", async () => {
  const { world, told } = await playing();
  world.dead.add(N1).add(N2);
  world.at(N1).die();
  await world.time.advance(59_000);
  assert.notEqual(told.at(-1).type, "closed");
  await world.time.advance(3000);
  assert.equal(told.at(-1).type, "closed");
});

test("a node that breaks the protocol is left", async () => {
  const { world, types } = await playing();
  const line = world.at(N1);
  line.events.stream(Uint8Array.of(255, 255, 255, 255));
  assert.ok(line.closedByClient);
  assert.equal(types().at(-1), "disconnected");
});

test("a client looks for a match by its properties, and names it once it is in", async () => {
  const lobby = { properties: { mode: "duel" }, create: true };
  const { world } = await begun([4, 5, 6], { game: "arena", lobby });
  const [seek] = world.at(N1).said;
  assert.deepEqual(
    [seek.type, seek.protocol, seek.game, seek.match, seek.properties, seek.create],
    ["seek", 6, "arena", undefined, { mode: "duel" }, true],
  );
  world.at(N1).tell({ type: "redirect", address: N2 });
  await world.time.advance(100);
  const [again] = world.at(N2).said;
  assert.deepEqual([again.type, again.redirects], ["seek", 1]);
  world.at(N2).welcome();
  world.at(N2).snapshot(101);
  world.at(N2).die();
  await world.time.advance(400);
  const back = world.lines.findLast((line) => line.isOpen && !line.over);
  assert.deepEqual([back.said[0].type, back.said[0].match], ["arrive", 9n]);
});

test("who looks for a match is told at once that there is none, or that nobody looks", async () => {
  const lobby = { properties: { mode: "duel" } };
  const { world, told } = await begun([4, 5, 6], { game: "arena", lobby });
  world.at(N1).tell({ type: "refused", code: "no-match", message: "none runs" });
  await world.time.advance(50);
  assert.deepEqual(told.at(-1), { type: "closed", code: "no-match", message: "none runs" });
  const old = await begun([4], { game: "arena", lobby });
  await old.world.time.advance(50);
  assert.deepEqual([old.told.at(-1).type, old.told.at(-1).code], ["closed", "protocol"]);
  const said = old.world.lines.flatMap((line) => line.said);
  assert.deepEqual(said, [], "it enters no match at random");
});

test("a program without a carrier is told so at once", () => {
  const options = { edge: "http://127.0.0.1:1", ticket: "ticket", carriers: ["webtransport"] };
  assert.throws(() => connect(options), /no webtransport here to connect by: pass `WebSocket`/);
});
