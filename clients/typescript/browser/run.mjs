// Plays the arena in a real Chromium against one of two real nodes on one store, kills that node
// with SIGKILL, and asks that the page goes on in its session at the other one: over WebTransport,
// then over WebSocket. Prints what a player would notice.
//
// `node browser/run.mjs [--seconds 20] [--binary PATH] [--shots FOLDER] [--fresh]`; with `--fresh`
// the page comes from `dist/` instead of out of the node, which has it from when it was compiled.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL("..", import.meta.url));
const option = (name, otherwise) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const seconds = Number(option("seconds", "20"));
const binary = option("binary", join(here, "../../target/debug/rekindle"));
const shots = option("shots", undefined);
const chromium = process.env.CHROMIUM ?? "/usr/bin/chromium";

function skip(words) {
  console.log(`SKIPPED: the browser test: ${words}`);
  process.exit(0);
}

if (!existsSync(binary)) skip(`no node at ${binary}: run \`cargo build -p rekindle-server\``);
if (!existsSync(chromium)) skip(`no ${chromium}: run \`apt-get install chromium\``);
const playwright = await import("playwright-core").catch(() =>
  skip("no playwright-core: run `npm ci` in clients/typescript"),
);

/** A port that is free for UDP, and for TCP with the same number. */
async function freePort() {
  for (;;) {
    const socket = createSocket("udp4");
    await new Promise((resolve) => socket.bind(0, "127.0.0.1", resolve));
    const { port } = socket.address();
    const server = createServer();
    const free = await new Promise((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (free) await new Promise((resolve) => server.close(resolve));
    await new Promise((resolve) => socket.close(resolve));
    if (free) return port;
  }
}

async function until(what, ms, check) {
  for (const end = Date.now() + ms; Date.now() < end; ) {
    const found = await check().catch(() => undefined);
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${what} did not come within ${ms} ms`);
}

/** A node of the store in `dir`. `command`: none for a match with bots, `start` for an empty node. */
async function start(dir, name, command) {
  const [port, admin] = [await freePort(), await freePort()];
  const home = join(dir, name);
  mkdirSync(home);
  const own = ["--data-dir", home, "--store", `local:${join(dir, "store")}`];
  const listen = ["--listen", `127.0.0.1:${port}`, "--admin", `127.0.0.1:${admin}`];
  const node = spawn(binary, [...own, ...command, ...listen, "--set", `node.name=${name}`], {
    stdio: ["ignore", "pipe", "pipe"],
    cwd: home,
  });
  node.origin = `http://127.0.0.1:${port}`;
  let said = "";
  for (const out of [node.stdout, node.stderr]) out.on("data", (chunk) => (said = (said + chunk).slice(-4000)));
  node.said = () => said;
  return node;
}

async function play(browser, carrier, dir) {
  const nodes = [await start(dir, "a", [])];
  const [{ origin }] = nodes;
  const page = await browser.newPage({ viewport: { width: 1280, height: 760 } });
  const errors = [];
  let dead;
  // A browser writes down itself that it could not reach a dead node; that is no error of the page.
  // It is one to dial the dead node once the session goes on elsewhere: see `dials`.
  page.on("console", (message) => {
    const ofTheDead = dead !== undefined && message.text().includes(`//${dead}/`);
    if (message.type() === "error" && !ofTheDead) errors.push(message.text());
  });
  page.on("pageerror", (error) => errors.push(String(error)));
  const metrics = () => page.evaluate(() => globalThis.rekindle.metrics);
  const tick = () => page.evaluate(() => globalThis.rekindle.game.session?.stats.tick ?? 0);
  const shot = (name) => shots && page.screenshot({ path: join(shots, `${carrier}-${name}.png`) });
  try {
    await until("the node", 60_000, async () => (await fetch(`${origin}/edge.json`)).ok);
    nodes.push(await start(dir, "b", ["start"]));
    const other = nodes[1].origin;
    await until("the other node", 60_000, async () => (await fetch(`${other}/edge.json`)).ok);
    if (carrier === "websocket") {
      await page.addInitScript(() => delete globalThis.WebTransport);
    }
    if (process.argv.includes("--fresh")) {
      await page.route(new RegExp(`^${origin}/(play/(?!ticket).*)?$`), (route) => {
        const path = new URL(route.request().url()).pathname.replace(/^\/(play\/)?/, "");
        return route.fulfill({ path: join(here, "dist", path || "index.html") });
      });
    }
    await page.addInitScript(() => {
      globalThis.dials = [];
      for (const name of ["WebSocket", "WebTransport"]) {
        const Real = globalThis[name];
        if (Real === undefined) continue;
        globalThis[name] = class extends Real {
          constructor(url, ...rest) {
            super(url, ...rest);
            globalThis.dials.push({ at: Date.now(), host: new URL(url).host });
          }
        };
      }
    });
    await page.goto(origin);
    await shot("join");
    await page.fill("#name", "Tester");
    await until("a match", 15_000, async () => {
      if (await page.isVisible("#play")) await page.click("#play");
      return (await tick()) > 0;
    });
    await page.mouse.move(800, 300);
    await page.mouse.down();
    const end = Date.now() + (seconds * 1000) / 2;
    for (let turn = 0; Date.now() < end; turn += 1) {
      const key = ["d", "w", "a", "s"][turn % 4];
      await page.keyboard.down(key);
      await page.waitForTimeout(500);
      await page.keyboard.up(key);
      await page.waitForTimeout(150);
    }
    await shot("fight");
    const session = await page.evaluate(() => String(globalThis.rekindle.game.session.welcome.session));
    const before = await tick();
    dead = new URL(origin).host;
    nodes[0].kill("SIGKILL");
    await until("the session again", 60_000, async () => (await metrics()).carriers.length > 1);
    const back = Date.now() + 100;
    await until("the match again", 60_000, async () => (await tick()) > before + 15);
    await page.waitForTimeout((seconds * 1000) / 4);
    await shot("resumed");
    const after = await page.evaluate(() => String(globalThis.rekindle.game.session.welcome.session));
    const found = await metrics();
    assert.equal(after, session, "the session goes on");
    assert.equal(found.carriers[0], carrier);
    assert.ok(found.gaps.length >= 1, "the page noticed the outage");
    assert.deepEqual(errors, [], "no errors in the console");
    const dials = await page.evaluate(() => globalThis.dials);
    assert.ok(dials.length >= 2, "the page dials through what is watched here");
    const late = dials.filter(({ at, host }) => host === dead && at > back);
    assert.deepEqual(late, [], "the dead node is not dialled once the session goes on elsewhere");
    const middle = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? NaN;
    console.log(
      `${carrier}: ${found.fps.toFixed(0)} frames/s, key to picture ` +
        `${middle(found.photonTicks).toFixed(1)} ticks, key to the server's word ` +
        `${middle(found.confirmTicks).toFixed(1)} ticks, prediction off by ` +
        `${(middle(found.errors) * 100).toFixed(1)} cm, gaps ${found.gaps.join(", ")} ms, ` +
        `carriers ${found.carriers.join(" > ")}`,
    );
  } catch (error) {
    console.log(...nodes.map((node) => node.said()), errors);
    await shot("failed");
    throw error;
  } finally {
    nodes.forEach((node) => node.kill("SIGKILL"));
    await page.close();
  }
}

/** A phone: two thumbs on the glass walk and shoot. */
async function thumbs(browser, dir) {
  const node = await start(dir, "a", []);
  const phone = { viewport: { width: 412, height: 839 }, isMobile: true, hasTouch: true };
  const context = await browser.newContext({ ...phone, deviceScaleFactor: 2.6 });
  const page = await context.newPage();
  const errors = [];
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  try {
    await until("the node", 60_000, async () => (await fetch(`${node.origin}/edge.json`)).ok);
    await page.goto(node.origin);
    await page.fill("#name", "Thumbs");
    const game = () =>
      page.evaluate(() => {
        const { game } = globalThis.rekindle;
        const tick = game.session?.stats.tick ?? 0;
        return { tick, at: game.drawn, fires: game.controls.fires };
      });
    await until("a match", 15_000, async () => {
      if (await page.isVisible("#play")) await page.tap("#play");
      return (await game()).at !== undefined;
    });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, "nothing reaches beyond the screen");
    const cdp = await context.newCDPSession(page);
    const touch = (type, ...at) =>
      cdp.send("Input.dispatchTouchEvent", { type, touchPoints: at.map(([x, y], id) => ({ x, y, id })) });
    const [left, right] = [[100, 650], [310, 650]];
    let [farthest, fired] = [0, false];
    // One way may be a wall, and a fighter may fall: there are four ways, three times.
    for (let turn = 0; turn < 12 && (farthest < 2 || !fired); turn += 1) {
      const [x, y] = [[40, 0], [0, -40], [-40, 0], [0, 40]][turn % 4];
      const before = await game();
      await touch("touchStart", left, right);
      await touch("touchMove", [left[0] + x, left[1] + y], [right[0] + 30, right[1] - 10]);
      await page.waitForTimeout(900);
      const now = await game();
      if (turn === 0 && shots) await page.screenshot({ path: join(shots, "phone.png") });
      fired ||= now.fires;
      if (before.at && now.at) {
        const way = Math.hypot(now.at.x - before.at.x, now.at.y - before.at.y);
        farthest = Math.max(farthest, Math.min(way, 9));
      }
      await touch("touchEnd");
      assert.equal((await game()).fires, false, "thumbs that are lifted shoot no more");
    }
    assert.ok(farthest >= 2 && fired, `walked ${farthest} m, fired: ${fired}`);
    assert.deepEqual(errors, [], "no errors in the console");
    console.log(`phone: thumbs walked ${farthest.toFixed(1)} m in 0.9 s and fired`);
  } catch (error) {
    console.log(node.said(), errors);
    if (shots) await page.screenshot({ path: join(shots, "phone-failed.png") });
    throw error;
  } finally {
    node.kill("SIGKILL");
    await context.close();
  }
}

const work = mkdtempSync(join(tmpdir(), "rekindle-browser-"));
if (shots) mkdirSync(shots, { recursive: true });
const browser = await playwright.chromium.launch({
  executablePath: chromium,
  // A page that is not loaded from the loopback would have to ask before it connects to it.
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-features=LocalNetworkAccessChecks"],
});
try {
  for (const carrier of ["webtransport", "websocket"]) {
    const dir = join(work, carrier);
    mkdirSync(dir);
    await play(browser, carrier, dir);
  }
  mkdirSync(join(work, "phone"));
  await thumbs(browser, join(work, "phone"));
} finally {
  await browser.close();
  rmSync(work, { recursive: true, force: true });
}
