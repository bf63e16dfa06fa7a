/** The page: a form for a name, then the match. */
import type { CarrierKind } from "../index.js";
import { Controls } from "./controls.js";
import { Painter } from "./draw.js";
import { Game } from "./game.js";
import { Hud } from "./hud.js";
import type { Weapon } from "../games/arena.js";

const query = new URLSearchParams(location.search);
/** The node; another than the page's own for a page that is hosted elsewhere. */
const edge = query.get("edge") ?? location.origin;
const carrier = query.get("carrier");
const carriers = carrier === "websocket" || carrier === "webtransport" ? [carrier] : undefined;

const find = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const form = document.querySelector("form")!;
const name = find<HTMLInputElement>("name");
const match = find<HTMLInputElement>("match");
const canvas = find<HTMLCanvasElement>("arena");
const game = new Game(new Painter(canvas), new Controls(canvas), new Hud());

function say(text: string, bad = false): void {
  find("join-text").textContent = text;
  find("join-text").classList.toggle("bad", bad);
}

async function ticket(): Promise<{ ticket: string; match?: string }> {
  const wanted = match.value.trim().toLowerCase();
  const answer = await fetch(`${new URL(edge).origin}/play/ticket`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      name: name.value.trim(),
      game: "arena",
      ...(wanted === "" ? {} : { match: wanted.padStart(16, "0") }),
    }),
  });
  const body = (await answer.json()) as { ticket: string; match?: string; message?: string };
  if (!answer.ok) throw new Error(body.message ?? `the node answers ${answer.status}`);
  return body;
}

function remember(): void {
  try {
    localStorage.setItem("rekindle-name", name.value.trim());
  } catch {
    // A page without storage asks again.
  }
}

function remembered(): string {
  try {
    return localStorage.getItem("rekindle-name") ?? "";
  } catch {
    return "";
  }
}

async function enter(watches: boolean): Promise<void> {
  if (!form.reportValidity()) return;
  const buttons = [...form.querySelectorAll("button")];
  buttons.forEach((button) => (button.disabled = true));
  say("Looking for a match…");
  try {
    remember();
    const given = await ticket();
    game.begin({
      edge,
      ticket: given.ticket,
      match: given.match,
      name: name.value.trim(),
      watches,
      carriers: carriers as readonly CarrierKind[] | undefined,
      ended: (words) => {
        find("join").hidden = false;
        say(words === "the client left" ? "See you." : words, words !== "the client left");
      },
    });
    find("join").hidden = true;
    name.blur();
  } catch (error) {
    say(error instanceof Error ? error.message : String(error), true);
  } finally {
    buttons.forEach((button) => (button.disabled = false));
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  void enter(false);
});
find("watch").addEventListener("click", () => void enter(true));
for (const button of document.querySelectorAll<HTMLButtonElement>("#weapons button")) {
  button.addEventListener("click", () => {
    game.switchTo(button.dataset["weapon"] as Weapon);
    button.blur();
  });
}
name.value = query.get("name") ?? remembered();
name.focus();
Object.assign(window, { rekindle: { game, metrics: game.metrics } });
