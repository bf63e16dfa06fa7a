/** A match on the page: the session, what the player does, and what is drawn each frame. */
import { arenaInput, arenaMap, decodeConfig, decodeEvent, encodeInput, encodeReady, encodeSwitch, fighterPredictor, } from "../games/arena.js";
import { columns, connect, dequantise, entityIn, Prediction, } from "../index.js";
import { Controls } from "./controls.js";
import { Painter } from "./draw.js";
import { Hud } from "./hud.js";
import { Eyes } from "./world.js";
/** A prediction that was this far off is jumped over: a respawn. */
const JUMP = 3;
/** What a prediction was off by is drawn away within about so many milliseconds. */
const BLEND_MS = 90;
/** An outage shorter than this is not shown. */
const NOTICEABLE_MS = 120;
const NO_MAP = arenaMap("open", 48, 32);
/** Draws empty fields behind the form, and matches. */
export class Game {
    painter;
    controls;
    hud;
    metrics = {
        fps: 0, frames: 0, photonTicks: [], confirmTicks: [], errors: [], gaps: [], carriers: [],
    };
    session;
    options;
    map = NO_MAP;
    eyes;
    fields = [];
    prediction;
    avatar;
    alive = false;
    appliedSeq = 0;
    lastTarget = 0;
    angle = 0;
    offset = { x: 0, y: 0 };
    drawn;
    lastFrame = 0;
    hudAt = 0;
    bannerTimer = 0;
    away;
    heardAt = 0;
    press;
    confirming;
    constructor(painter, controls, hud) {
        this.painter = painter;
        this.controls = controls;
        this.hud = hud;
        controls.onSwitch = (weapon) => this.command(encodeSwitch(weapon));
        controls.onPress = (at) => (this.press ??= { at });
        requestAnimationFrame((now) => this.frame(now));
    }
    command(payload) {
        if (!this.options?.watches && this.session?.connected)
            this.session.command(payload);
    }
    switchTo(weapon) {
        this.command(encodeSwitch(weapon));
    }
    begin(options) {
        this.options = options;
        const session = connect({
            edge: options.edge,
            ticket: options.ticket,
            role: options.watches ? "spectator" : "player",
            game: "arena",
            ...(options.match === undefined ? {} : { match: options.match }),
            ...(options.carriers === undefined ? {} : { carriers: options.carriers }),
            timing: { giveUp: 300_000 },
        });
        this.session = session;
        session.on("welcome", (event) => this.welcomed(event.welcome, event.carrier, true));
        session.on("resumed", (event) => this.welcomed(event.welcome, event.carrier, false));
        session.on("snapshot", (event) => this.snapshot(event));
        session.on("event", ({ kind, payload }) => {
            const event = decodeEvent(kind, payload);
            if (event)
                this.hud.tell(event);
        });
        session.on("disconnected", ({ reason }) => this.lost(reason));
        session.on("rewound", () => this.prediction?.reset());
        session.on("closed", ({ message }) => this.over(message));
    }
    welcomed(welcome, carrier, first) {
        const config = decodeConfig(welcome.config);
        this.map = arenaMap(config.map, config.width, config.height);
        this.eyes = new Eyes(welcome.schema);
        this.fields = columns(welcome.schema);
        this.prediction = new Prediction(fighterPredictor(this.map));
        [this.appliedSeq, this.lastTarget] = [0, 0];
        this.metrics.carriers.push(carrier);
        if (!first)
            return;
        const { watches, name } = this.options;
        this.hud.begin(watches ? undefined : welcome.player, name);
        this.command(encodeReady());
    }
    lost(reason) {
        if (this.away === undefined)
            this.away = this.heardAt;
        const standby = reason.includes("standby") || reason.includes("elsewhere");
        if (standby)
            return;
        window.clearTimeout(this.bannerTimer);
        this.bannerTimer = window.setTimeout(() => {
            if (this.away !== undefined)
                this.hud.warn("node lost, looking for the match…");
        }, NOTICEABLE_MS);
    }
    back(tick, now) {
        if (this.away === undefined)
            return;
        const gap = Math.round(now - this.away);
        this.away = undefined;
        window.clearTimeout(this.bannerTimer);
        this.metrics.gaps.push(gap);
        this.hud.praise(`node lost, match resumed at tick ${tick}, ${gap} ms`);
    }
    snapshot({ header, view }) {
        const now = performance.now();
        this.back(header.tick, now);
        this.heardAt = now;
        const newest = header.applied.at(-1);
        if (newest) {
            this.appliedSeq = newest.seq;
            if (this.confirming && newest.seq >= this.confirming.seq) {
                this.metrics.confirmTicks.push((now - this.confirming.at) / Painter.tickMs);
                this.confirming = undefined;
            }
        }
        this.avatar = header.avatar;
        const entity = header.avatar === undefined ? undefined : entityIn(view, header.avatar);
        if (!entity || !this.eyes || !this.prediction)
            return;
        const { place } = this.eyes;
        const value = (column) => dequantise(this.fields[column].kind, entity.row[column]);
        const state = {
            at: { x: value(place.x), y: value(place.y) },
            velocity: { x: value(place.vx), y: value(place.vy) },
        };
        const alive = value(place.health) > 0;
        const before = this.place(this.session.now());
        this.prediction.reconcile(header.tick, state, this.appliedSeq);
        const after = this.place(this.session.now());
        if (before && after && alive && this.alive) {
            const [x, y] = [before.x - after.x, before.y - after.y];
            const off = Math.hypot(x, y);
            if (this.metrics.errors.length < 5000)
                this.metrics.errors.push(off);
            if (off < JUMP)
                this.offset = { x: this.offset.x + x, y: this.offset.y + y };
        }
        else {
            this.offset = { x: 0, y: 0 };
        }
        this.alive = alive;
    }
    /** Where the own fighter is now, between two ticks of its inputs. */
    place(now) {
        const time = this.session?.clock.targetTime(now) ?? 0;
        const tick = Math.ceil(time);
        const [a, b] = [this.prediction?.at(tick - 1), this.prediction?.at(tick)];
        if (!a || !b)
            return undefined;
        const part = time - (tick - 1);
        return { x: a.at.x + (b.at.x - a.at.x) * part, y: a.at.y + (b.at.y - a.at.y) * part };
    }
    act(session) {
        const target = session.clock.targetTick(session.now());
        if (target <= this.lastTarget && target > this.lastTarget - 60)
            return;
        const { x, y } = this.controls.direction();
        const input = arenaInput(x, y, this.angle, this.controls.fires);
        const sent = session.input(encodeInput(input));
        if (!sent)
            return;
        this.lastTarget = sent.target;
        this.prediction?.push(sent.seq, sent.target, input);
        if (this.press && this.press.seq === undefined && (x !== 0 || y !== 0)) {
            this.press = { ...this.press, seq: sent.seq, target: sent.target };
            this.confirming = { seq: sent.seq, at: this.press.at };
        }
    }
    measure(now, session) {
        const { press } = this;
        if (press?.target === undefined || session.clock.targetTime(session.now()) <= press.target - 1)
            return;
        this.metrics.photonTicks.push((now - press.at) / Painter.tickMs);
        this.press = undefined;
    }
    aim(at) {
        const { mouse } = this.controls;
        if (!mouse)
            this.angle = this.controls.thumbAngle;
        else if (at) {
            const to = this.painter.toWorld(mouse.x, mouse.y);
            this.angle = Math.atan2(to.y - at.y, to.x - at.x);
        }
    }
    frame(now) {
        requestAnimationFrame((next) => this.frame(next));
        const passed = Math.min(Math.max(now - this.lastFrame, 0.1), 1000);
        this.lastFrame = now;
        this.metrics.frames += 1;
        this.metrics.fps += (1000 / passed - this.metrics.fps) * 0.05;
        const { session } = this;
        const scene = session?.scene();
        const world = scene && this.eyes?.see(scene);
        let own = { slot: undefined, name: "", at: undefined, angle: 0 };
        if (session && world && !this.options.watches) {
            this.aim(this.drawn);
            if (session.connected)
                this.act(session);
            own = this.ownView(session, passed);
            this.measure(performance.now(), session);
        }
        this.painter.draw(this.map, world, own, now);
        if (this.controls.sticks.length > 0)
            this.painter.drawSticks(this.controls.sticks);
        if (!session || now - this.hudAt < 100)
            return;
        this.hudAt = now;
        if (world)
            this.hud.show(world);
        this.hud.showNet(session.stats, this.metrics.fps);
    }
    ownView(session, passed) {
        const kept = Math.exp(-passed / BLEND_MS);
        this.offset = { x: this.offset.x * kept, y: this.offset.y * kept };
        const at = this.alive ? this.place(session.now()) : undefined;
        this.drawn = at && { x: at.x + this.offset.x, y: at.y + this.offset.y };
        const slot = this.avatar;
        return {
            slot,
            name: this.options.name,
            at: this.drawn && slot !== undefined ? { slot, ...this.drawn } : undefined,
            angle: this.angle,
        };
    }
    over(words) {
        this.session = undefined;
        this.away = undefined;
        window.clearTimeout(this.bannerTimer);
        this.hud.calm();
        this.options?.ended(words);
    }
}
