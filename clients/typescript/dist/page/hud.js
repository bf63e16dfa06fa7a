import { callsign, colour, isBot } from "./world.js";
const PHASE = {
    lobby: "waiting for players",
    countdown: "get ready",
    live: "fight",
    podium: "it is decided",
};
const FEED = 6;
const FEED_MS = 6000;
const ROWS = 10;
function find(id) {
    const found = document.getElementById(id);
    if (!found)
        throw new Error(`the page has no #${id}`);
    return found;
}
function say(element, text) {
    if (element.textContent !== text)
        element.textContent = text;
}
export class Hud {
    board = find("board").tBodies[0];
    banner = find("banner");
    bannerTimer = 0;
    own;
    /** Who plays here; nobody while it is only watched. */
    begin(player, name) {
        this.own = player === undefined ? undefined : { player, name };
        for (const id of ["phase", "board", "net"])
            find(id).hidden = false;
        find("own").hidden = player === undefined;
        find("feed").replaceChildren();
    }
    name(player) {
        return player === this.own?.player ? this.own.name : callsign(player);
    }
    ink(player) {
        return player === this.own?.player ? "var(--own)" : colour(player);
    }
    show(world) {
        say(find("phase-name"), PHASE[world.phase]);
        const { seconds } = world;
        const clock = seconds > 0 ? `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}` : "";
        say(find("phase-clock"), clock);
        this.showBoard(world.fighters);
        const me = world.fighters.find((fighter) => fighter.player === this.own?.player);
        if (me)
            this.showOwn(me);
    }
    showBoard(fighters) {
        const sorted = [...fighters].sort((a, b) => b.kills - a.kills || a.deaths - b.deaths || (a.player < b.player ? -1 : 1));
        const top = sorted.slice(0, ROWS);
        const me = sorted.find(({ player }) => player === this.own?.player);
        if (me && !top.includes(me))
            top[ROWS - 1] = me;
        while (this.board.rows.length > top.length)
            this.board.deleteRow(-1);
        for (const [index, fighter] of top.entries()) {
            const row = this.board.rows[index] ?? this.newRow();
            row.className = [
                fighter === me ? "own" : "",
                fighter.health > 0 ? "" : "down",
            ].join(" ").trim();
            const [dot, name, kills, deaths] = [...row.cells];
            dot.firstElementChild.style.background = this.ink(fighter.player);
            say(name, this.name(fighter.player));
            name.title = isBot(fighter.player) ? "a bot of the house" : "a player";
            say(kills, String(fighter.kills));
            say(deaths, String(fighter.deaths));
        }
    }
    newRow() {
        const row = this.board.insertRow();
        for (let cell = 0; cell < 4; cell += 1)
            row.insertCell();
        row.cells[0].append(document.createElement("i"));
        return row;
    }
    showOwn(me) {
        const health = find("health");
        const [bar, text] = [health.children[0], health.children[1]];
        bar.style.transform = `scaleX(${Math.min(me.health, 100) / 100})`;
        health.classList.toggle("low", me.health <= 35);
        say(text, me.health > 0 ? String(me.health) : "down: back in a moment");
        const ammo = { blaster: Infinity, shotgun: me.shells, launcher: me.rockets };
        for (const button of document.querySelectorAll("#weapons button")) {
            const weapon = button.dataset["weapon"];
            button.classList.toggle("in-hand", weapon === me.weapon);
            button.disabled = ammo[weapon] === 0;
            say(button.querySelector("em"), ammo[weapon] === Infinity ? "∞" : String(ammo[weapon]));
        }
    }
    tell(event) {
        if (event.kind === "kill") {
            const who = (player) => {
                const name = document.createElement("b");
                name.textContent = this.name(player);
                name.style.color = this.ink(player);
                return name;
            };
            const accident = event.killer === event.victim;
            this.feed(...(accident
                ? [who(event.victim), " had an accident"]
                : [who(event.killer), ` ${event.weapon} `, who(event.victim)]));
        }
        else if (event.kind === "phase")
            this.feed(event.reason);
    }
    feed(...parts) {
        const feed = find("feed");
        const line = document.createElement("li");
        line.append(...parts);
        feed.append(line);
        while (feed.children.length > FEED)
            feed.firstElementChild?.remove();
        setTimeout(() => line.classList.add("old"), FEED_MS);
        setTimeout(() => line.remove(), FEED_MS + 700);
    }
    showNet(stats, fps) {
        const badge = find("net-carrier");
        const names = { webtransport: "WebTransport", websocket: "WebSocket" };
        say(badge, stats.carrier ? names[stats.carrier] : "offline");
        badge.className = `badge ${stats.carrier === "websocket" ? "socket" : stats.carrier ? "" : "none"}`;
        badge.title = stats.node ?? "";
        say(find("net-ping"), `${Math.round(stats.rtt)} ms`);
        say(find("net-loss"), `${(stats.loss * 100).toFixed(stats.loss < 0.095 ? 1 : 0)} % loss`);
        say(find("net-tick"), `tick ${stats.tick}`);
        say(find("net-fps"), `${Math.round(fps)} fps`);
    }
    /** A line that stays until the next one. */
    warn(text) {
        window.clearTimeout(this.bannerTimer);
        this.banner.hidden = false;
        this.banner.className = "";
        say(this.banner.lastElementChild, text);
    }
    /** A line that goes away by itself. */
    praise(text) {
        this.warn(text);
        this.banner.className = "good";
        this.bannerTimer = window.setTimeout(() => (this.banner.hidden = true), 5000);
    }
    calm() {
        this.banner.hidden = true;
    }
}
