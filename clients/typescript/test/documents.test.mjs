// What a client asks documents, against nodes that a test plays by hand, in virtual time.
import assert from "node:assert/strict";
import { test } from "node:test";
import { begun, N1, N2, playing } from "./support.mjs";

const asked = (line) => line.said.filter(({ type }) => type === "documents");
const answer = (line, id, said) =>
  line.tell({ type: "documents", id, done: true, json: JSON.stringify(said) });
const refuse = (line, id, code) =>
  line.tell({ type: "documents", id, done: false, json: JSON.stringify({ code, message: "no" }) });
const reply = (said) => ({ reply: said, as_of_tick: 9 });

/** A client that is in, under version 6, and its documents. */
async function shopping(more) {
  const all = await playing([4, 5, 6], more);
  return { ...all, line: all.world.at(N1), profiles: all.session.documents("profile") };
}

/** What becomes of promises, in the order in which it does; looked at without waiting. */
function watched(promises, settled = []) {
  promises.forEach((promise, index) =>
    promise.then(
      (value) => settled.push([index, value]),
      ({ name, code, unknown }) => settled.push([index, name, code, unknown]),
    ),
  );
  return settled;
}

async function rejects(promise, code, unknown = false) {
  await assert.rejects(promise, { name: "DocumentError", code, unknown });
}

test("answers come to those who asked, whatever their order", async () => {
  const { world, line, profiles } = await shopping();
  const settled = watched([
    profiles.call("buy", "7", { item: "hat" }, { ifVersion: 4 }),
    profiles.get("8"),
    profiles.get("9"),
  ]);
  assert.deepEqual(
    asked(line).map(({ id, kind, json }) => [id, kind, JSON.parse(json)]),
    [
      [
        1,
        "profile",
        { calls: [{ action: "buy", key: "7", args: { item: "hat" }, if_version: 4 }] },
      ],
      [2, "profile", { get: { key: "8" } }],
      [3, "profile", { get: { key: "9" } }],
    ],
  );
  const row = { key: "9", version: 2, document: { credits: 3 } };
  answer(line, 3, reply({ document: row }));
  answer(line, 77, { done: [] });
  answer(line, 1, { done: [{ key: "7", version: 5, out: 91 }] });
  answer(line, 1, { done: [{ key: "7", version: 6 }] });
  answer(line, 2, reply({ document: null }));
  await world.time.advance(0);
  assert.deepEqual(settled, [
    [2, row],
    [0, { key: "7", version: 5, out: 91 }],
    [1, undefined],
  ]);
});

test("every question is asked in the protocol's words, and its answer is unpacked", async () => {
  const { line, profiles } = await shopping();
  const calls = [{ action: "pay", key: "7", args: 3 }, { action: "reset", key: "8", ifVersion: 0 }];
  const sent = [
    { action: "pay", key: "7", args: 3 },
    { action: "reset", key: "8", if_version: 0 },
  ];
  const done = [{ key: "7", version: 5 }, { key: "8", version: 1 }];
  const rows = { rows: [], matching: 12, more: true };
  const refused = { at: 1, code: "RK-DOC-105", message: "no" };
  const query = { filter: "credits > 3", sort: "-credits", limit: 0, skip: 5 };
  for (const [ask, wanted, said, told] of [
    [() => profiles.call("reset", "7"), { calls: [{ action: "reset", key: "7" }] }, { done },
      done[0]],
    [() => profiles.callAll(calls), { calls: sent }, { done }, done],
    [() => profiles.query(query), { query }, reply({ rows }), rows],
    [() => profiles.query(), { query: {} }, reply({ rows }), rows],
    [() => profiles.stats(), { stats: null }, reply({ stats: { rich: 2 } }), { rich: 2 }],
    [() => profiles.can(calls), { can: { calls: sent } }, reply({ can: { done } }), { done }],
    [() => profiles.can(calls), { can: { calls: sent } }, reply({ can: { refused } }), { refused }],
  ]) {
    const promise = ask();
    const { id, json } = asked(line).at(-1);
    assert.deepEqual(JSON.parse(json), wanted);
    answer(line, id, said);
    assert.deepEqual(await promise, told);
  }
});

test("a refusal rejects with the server's code; only one of them leaves it unknown", async () => {
  const { line, profiles } = await shopping();
  const [stale, lost] = [profiles.call("buy", "7"), profiles.call("buy", "7")];
  refuse(line, 1, "RK-DOC-104");
  refuse(line, 2, "RK-DOC-122");
  await rejects(stale, "RK-DOC-104");
  await rejects(lost, "RK-DOC-122", true);
});

test("an answer that makes no sense rejects, and the session goes on", async () => {
  const { line, profiles } = await shopping();
  for (const [done, json] of [
    [true, "{"],
    [true, "null"],
    [true, '{"done":[]}'],
    [true, '{"done":7}'],
    [false, "null"],
    [false, '{"code":7}'],
  ]) {
    const promise = profiles.call("buy", "7");
    line.tell({ type: "documents", id: asked(line).at(-1).id, done, json });
    await rejects(promise, "protocol", true);
  }
  const promise = profiles.get("7");
  answer(line, asked(line).at(-1).id, reply({ document: null }));
  assert.equal(await promise, undefined);
});

test("four are on their way at a time, the others follow in order, 256 wait at most", async () => {
  const { world, line, profiles } = await shopping();
  const ids = () => asked(line).map(({ id }) => id);
  const settled = watched(Array.from({ length: 260 }, () => profiles.get("7")));
  assert.deepEqual(ids(), [1, 2, 3, 4]);
  await rejects(profiles.get("7"), "busy");
  answer(line, 2, reply({ document: null }));
  assert.deepEqual(ids(), [1, 2, 3, 4, 5]);
  refuse(line, 1, "RK-DOC-121");
  assert.deepEqual(ids(), [1, 2, 3, 4, 5, 6]);
  for (let id = 3; id <= 260; id += 1) answer(line, id, reply({ document: null }));
  await world.time.advance(0);
  assert.deepEqual(ids(), Array.from({ length: 260 }, (_, index) => index + 1));
  assert.equal(settled.length, 260);
});

test("what a broken connection took with it is unknown; what was not sent goes on", async () => {
  const { world, line, profiles } = await shopping();
  const settled = watched(Array.from({ length: 6 }, () => profiles.call("buy", "7")));
  world.dead.add(N1);
  line.die();
  await world.time.advance(400);
  const unknown = [0, 1, 2, 3].map((index) => [index, "DocumentError", "unknown", true]);
  assert.deepEqual(settled, unknown);
  const next = world.at(N2);
  assert.deepEqual(asked(next), [], "it is not in yet");
  next.welcome({ epoch: 2, tick: 103, resumed: true });
  assert.deepEqual(asked(next).map(({ id }) => id), [5, 6]);
  answer(next, 5, { done: [{ key: "7", version: 5 }] });
  answer(next, 1, { done: [{ key: "7", version: 5 }] });
  await world.time.advance(0);
  assert.deepEqual(settled.slice(4), [[4, { key: "7", version: 5 }]]);
});

test("what is asked without a connection waits for the next one", async () => {
  const early = await begun([6]);
  const first = early.session.documents("profile").get("7");
  early.world.at(N1).welcome();
  assert.equal(early.world.at(N1).said.at(-1).json, '{"get":{"key":"7"}}');
  answer(early.world.at(N1), 1, reply({ document: null }));
  assert.equal(await first, undefined);
  early.world.dead.add(N1);
  early.world.at(N1).die();
  const settled = watched([early.session.documents("profile").get("8")]);
  early.world.dead.clear();
  await early.world.time.advance(2000);
  const back = early.world.at(N1);
  back.welcome({ resumed: true });
  assert.deepEqual(asked(back).map(({ id }) => id), [2]);
  assert.deepEqual(settled, []);
});

test("nothing is given to a server that is silent or is left", async () => {
  const { world, line, profiles } = await shopping();
  world.mute.add(N1).add(N2);
  await world.time.advance(1200);
  const settled = watched([profiles.call("buy", "7"), profiles.call("buy", "8")]);
  assert.deepEqual(asked(line), []);
  line.snapshot(104);
  assert.deepEqual(asked(line).map(({ id }) => id), [1, 2], "it speaks again");
  world.mute.clear();
  line.tell({ type: "redirect", address: N2 });
  watched([profiles.call("buy", "9")]);
  await world.time.advance(60);
  assert.deepEqual(asked(line).length, 2, "it is left");
  const next = world.at(N2);
  next.welcome({ epoch: 2, tick: 104, resumed: true });
  assert.deepEqual(asked(next).map(({ id }) => id), [3]);
  await world.time.advance(0);
  assert.deepEqual(settled.map(([, , code]) => code), ["unknown", "unknown"]);
});

test("when the client leaves, everything open rejects, and what is asked later", async () => {
  const { world, line, session, profiles } = await shopping();
  const settled = watched(Array.from({ length: 5 }, () => profiles.get("7")));
  session.leave();
  answer(line, 1, reply({ document: null }));
  assert.equal(asked(line).length, 4, "nothing follows the goodbye");
  await world.time.advance(600);
  const unknown = [1, 2, 3].map((index) => [index, "DocumentError", "unknown", true]);
  assert.deepEqual(settled, [[0, undefined], ...unknown, [4, "DocumentError", "closed", false]]);
  await rejects(profiles.get("7"), "closed");
  const early = await begun([6]);
  const open = watched([early.session.documents("profile").get("7")]);
  early.session.leave();
  await early.world.time.advance(0);
  assert.deepEqual(open, [[0, "DocumentError", "closed", false]]);
});

test("a session that the server ends takes its questions along", async () => {
  const { world, line, profiles } = await shopping();
  const settled = watched(Array.from({ length: 5 }, () => profiles.get("7")));
  line.tell({ type: "refused", code: "removed", message: "out" });
  await world.time.advance(0);
  assert.deepEqual(settled.map(([, , code]) => code), [...Array(4).fill("unknown"), "closed"]);
});

test("old servers, spectators and what is too large: refused at once, and unsent", async () => {
  const old = await playing([4, 5]);
  await rejects(old.session.documents("profile").get("7"), "protocol");
  const waits = await begun([4]);
  const settled = watched([waits.session.documents("profile").get("7")]);
  waits.session.on("welcome", () =>
    watched([waits.session.documents("profile").get("8")], settled),
  );
  waits.world.at(N1).welcome();
  await waits.world.time.advance(0);
  assert.deepEqual(settled, Array(2).fill([0, "DocumentError", "protocol", false]));
  const spectator = await shopping({ role: "spectator" });
  await rejects(spectator.profiles.get("7"), "spectator");
  const { line, profiles } = await shopping();
  await rejects(profiles.call("write", "7", "x".repeat(16_400)), "too-large");
  await assert.rejects(profiles.call("write", "7", 7n), TypeError);
  const lines = [old, waits, spectator].map(({ world }) => world.at(N1));
  assert.deepEqual([...lines, line].flatMap(asked), []);
  // What fits is sent, and the numbers have no gaps.
  watched([profiles.call("write", "7", "x".repeat(16_000))]);
  assert.deepEqual(asked(line).map(({ id }) => id), [1]);
});
