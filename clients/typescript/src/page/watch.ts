/** The page for any game: what snapshots say of a match, and what the game sketches of it. */
import { connect, type Schema, type Session, type Welcome } from "../index.js";
import { described, PlainPainter } from "./plain.js";
import { Sketches } from "./sketch.js";
import { callsign, colour } from "./world.js";

/** An outage shorter than this is not shown. */
const NOTICEABLE_MS = 150;
const query = new URLSearchParams(location.search);
const find = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const form = document.querySelector("form")!;
const game = find<HTMLSelectElement>("game");
const match = find<HTMLInputElement>("match");
const painter = new PlainPainter(find<HTMLCanvasElement>("view"));
const sketches = new Sketches();

let session: Session | undefined;
let schema: Schema | undefined;
let chosen: number | undefined;
let lostAt: number | undefined;

function say(text: string, bad = false): void {
  find("join-text").textContent = text;
  find("join-text").classList.toggle("bad", bad);
}

function banner(text: string | undefined, good = false): void {
  find("banner").hidden = text === undefined;
  find("banner").classList.toggle("good", good);
  find("banner").querySelector("span")!.textContent = text ?? "";
}

async function games(): Promise<void> {
  const edge = (await (await fetch("/edge.json")).json()) as { games: string[] };
  for (const name of edge.games) game.add(new Option(name, name));
  const wanted = query.get("game");
  if (wanted !== null && edge.games.includes(wanted)) game.value = wanted;
  match.value = query.get("match") ?? "";
  if (match.value !== "") await enter();
}

async function ticket(): Promise<{ ticket: string; match?: string }> {
  const wanted = match.value.trim().toLowerCase();
  const body = { name: "watcher", game: game.value };
  const answer = await fetch("/play/ticket", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(wanted === "" ? body : { ...body, match: wanted.padStart(16, "0") }),
  });
  const given = (await answer.json()) as { ticket: string; match?: string; message?: string };
  if (!answer.ok) throw new Error(given.message ?? `the node answers ${answer.status}`);
  return given;
}

async function enter(): Promise<void> {
  say("Looking for a match…");
  try {
    const given = await ticket();
    watch(given.ticket, given.match);
    find("join").hidden = true;
  } catch (error) {
    say(error instanceof Error ? error.message : String(error), true);
  }
}

function watch(given: string, id: string | undefined): void {
  const begun = connect({
    edge: location.origin,
    ticket: given,
    role: "spectator",
    game: game.value,
    ...(id === undefined ? {} : { match: id }),
    timing: { giveUp: 300_000 },
  });
  session = begun;
  const welcomed = (welcome: Welcome): void => {
    schema = welcome.schema;
    const { node } = begun.stats;
    if (node !== undefined) {
      const name = welcome.match.toString(16).padStart(16, "0");
      sketches.follow(`${location.protocol}//${node}`, name);
    }
  };
  begun.on("welcome", (event) => welcomed(event.welcome));
  begun.on("resumed", (event) => welcomed(event.welcome));
  begun.on("disconnected", () => (lostAt ??= performance.now()));
  begun.on("snapshot", ({ header }) => {
    if (lostAt === undefined) return;
    const gap = Math.round(performance.now() - lostAt);
    lostAt = undefined;
    if (gap < NOTICEABLE_MS) return banner(undefined);
    banner(`node lost, match goes on at tick ${header.tick}, ${gap} ms`, true);
    window.setTimeout(() => lostAt ?? banner(undefined), 4_000);
  });
  begun.on("closed", ({ message }) => {
    [session, schema, lostAt] = [undefined, undefined, undefined];
    sketches.close();
    banner(undefined);
    find("join").hidden = false;
    say(message);
  });
}

function rows(body: HTMLTableSectionElement, lines: readonly (readonly [string, string, string?])[]): void {
  while (body.rows.length > lines.length) body.deleteRow(-1);
  lines.forEach(([name, text, tint], index) => {
    const row = body.rows[index] ?? body.insertRow();
    while (row.cells.length < 2) row.insertCell();
    row.cells[0]!.textContent = name;
    row.cells[0]!.style.color = tint ?? "";
    row.cells[1]!.textContent = text;
  });
}

function frame(): void {
  requestAnimationFrame(frame);
  painter.clear();
  const scene = session?.scene();
  const sketch = sketches.newest;
  for (const id of ["phase", "board", "net"]) find(id).hidden = scene === undefined;
  if (!session || !scene || !schema) return;
  if (lostAt !== undefined && performance.now() - lostAt > NOTICEABLE_MS) {
    banner("node lost, looking for the match…");
  }
  if (sketch) painter.sketch(sketch);
  else painter.scene(schema, scene);
  find("phase-name").textContent = sketch?.title ?? game.value;
  find("board").hidden = (sketch?.board.length ?? 0) === 0;
  rows(
    find<HTMLTableElement>("board").tBodies[0]!,
    (sketch?.board ?? []).map(([player, text]) => {
      const number = BigInt(player);
      return [callsign(number), text, colour(number)] as const;
    }),
  );
  const thing = scene.things.find(({ slot }) => slot === chosen);
  find("inspect").hidden = thing === undefined;
  if (thing) {
    painter.mark(schema, thing);
    find("inspect").querySelector("h2")!.textContent = `Entity ${thing.slot}`;
    rows(find("inspect").querySelector("tbody")!, described(schema, thing));
  }
  const { carrier, rtt, loss, tick } = session.stats;
  find("net-carrier").textContent = carrier ?? "no connection";
  find("net-carrier").className = `badge ${carrier === "websocket" ? "socket" : carrier ? "" : "none"}`;
  find("net-ping").textContent = `${Math.round(rtt)} ms`;
  find("net-loss").textContent = `${(loss * 100).toFixed(0)} % lost`;
  find("net-tick").textContent = `tick ${tick}`;
  find("net-things").textContent = `${scene.things.length} entities`;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (form.reportValidity()) void enter();
});
painter.canvas.addEventListener("click", ({ clientX, clientY }) => {
  const scene = session?.scene();
  if (scene && schema) chosen = painter.nearest(schema, scene, clientX, clientY)?.slot;
});
requestAnimationFrame(frame);
games().catch((error: unknown) => say(String(error), true));
Object.assign(window, { rekindle: { session: () => session, sketches } });
