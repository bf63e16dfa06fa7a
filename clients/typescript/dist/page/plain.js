/** Draws matches of games that the page does not know: sketches, or entities by their schema. */
import { columns } from "../index.js";
import { colour } from "./world.js";
const KINDS = ["#8a96a8", "#f6e05e", "#63b3ed", "#d53f8c", "#9ae6b4", "#fbd38d"];
const STILL = "#4a5568";
/** Around what is seen, as a part of it. */
const MARGIN = 0.08;
/** How near a click must be, in pixels. */
const NEAR = 28;
function paint(ink) {
    if (ink === "still")
        return STILL;
    return "kind" in ink ? KINDS[ink.kind % KINDS.length] : colour(BigInt(ink.player));
}
/** One canvas. */
export class PlainPainter {
    canvas;
    context;
    extent = { x: [-1, 1], y: [-1, 1] };
    toScreen = { scale: 1, x: 0, y: 0 };
    constructor(canvas) {
        this.canvas = canvas;
        this.context = canvas.getContext("2d");
    }
    clear() {
        const { canvas, context } = this;
        const density = window.devicePixelRatio || 1;
        const [width, height] = [canvas.clientWidth, canvas.clientHeight];
        if (canvas.width !== Math.round(width * density))
            canvas.width = Math.round(width * density);
        if (canvas.height !== Math.round(height * density))
            canvas.height = Math.round(height * density);
        context.setTransform(density, 0, 0, density, 0, 0);
        context.clearRect(0, 0, width, height);
    }
    /** Fits what is seen into the window, y upwards. */
    fit() {
        const { x, y } = this.extent;
        const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
        const [wide, high] = [Math.max(x[1] - x[0], 1e-6), Math.max(y[1] - y[0], 1e-6)];
        const scale = Math.min(width / wide, height / high) * (1 - MARGIN);
        this.toScreen = {
            scale,
            x: width / 2 - (scale * (x[0] + x[1])) / 2,
            y: height / 2 + (scale * (y[0] + y[1])) / 2,
        };
    }
    at(x, y) {
        const { scale, x: left, y: bottom } = this.toScreen;
        return [left + x * scale, bottom - y * scale];
    }
    sketch(sketch) {
        this.extent = { x: sketch.x, y: sketch.y };
        this.fit();
        const { context } = this;
        context.lineWidth = 1.5;
        const [left, top] = this.at(sketch.x[0], sketch.y[1]);
        const [right, bottom] = this.at(sketch.x[1], sketch.y[0]);
        context.strokeStyle = "rgb(255 255 255 / 10%)";
        context.strokeRect(left, top, right - left, bottom - top);
        for (const shape of sketch.shapes)
            this.shape(shape);
    }
    shape(shape) {
        const { context } = this;
        context.beginPath();
        if ("point" in shape) {
            context.fillStyle = paint(shape.point.ink);
            context.arc(...this.at(...shape.point.at), 3, 0, 2 * Math.PI);
            return context.fill();
        }
        if ("circle" in shape) {
            context.strokeStyle = paint(shape.circle.ink);
            context.arc(...this.at(...shape.circle.at), shape.circle.radius * this.toScreen.scale, 0, 2 * Math.PI);
        }
        else if ("line" in shape) {
            context.strokeStyle = paint(shape.line.ink);
            context.moveTo(...this.at(...shape.line.from));
            context.lineTo(...this.at(...shape.line.to));
        }
        else {
            context.strokeStyle = paint(shape.rectangle.ink);
            const [left, top] = this.at(shape.rectangle.min[0], shape.rectangle.max[1]);
            const [right, bottom] = this.at(shape.rectangle.max[0], shape.rectangle.min[1]);
            context.rect(left, top, right - left, bottom - top);
            context.fillStyle = "rgb(255 255 255 / 4%)";
            context.fill();
        }
        context.stroke();
    }
    /** Dots where things are, one colour for each set of components; the rest as a list of cards. */
    scene(schema, scene) {
        const position = schema.position;
        const placed = position ? scene.things.filter((thing) => hasPosition(schema, thing)) : [];
        if (position && placed.length > 0) {
            this.grow(placed, position);
            this.fit();
            for (const { values, components } of placed) {
                this.context.beginPath();
                this.context.fillStyle = kindColour(components);
                this.context.arc(...this.at(values[position[0]], values[position[1]]), 5, 0, 2 * Math.PI);
                this.context.fill();
            }
        }
        if (placed.length === 0)
            this.cards(schema, scene);
    }
    /** Keeps in view what was in view: a picture that jumps is no picture. */
    grow(things, [x, y]) {
        const span = (column, before) => {
            const values = things.map((thing) => thing.values[column]);
            return [Math.min(before[0], ...values), Math.max(before[1], ...values)];
        };
        this.extent = { x: span(x, this.extent.x), y: span(y, this.extent.y) };
    }
    cards(schema, scene) {
        const { context } = this;
        const [width, wide, high] = [this.canvas.clientWidth, 190, 22];
        const across = Math.max(1, Math.floor((width - 40) / wide));
        context.font = "12px system-ui, sans-serif";
        context.textBaseline = "top";
        scene.things.forEach((thing, index) => {
            const [x, y] = [20 + (index % across) * wide, 60 + Math.floor(index / across) * (high * 3)];
            context.fillStyle = kindColour(thing.components);
            context.fillText(`#${thing.slot}`, x, y);
            context.fillStyle = "#8a96a8";
            described(schema, thing).slice(0, 2).forEach(([name, value], line) => {
                context.fillText(`${name.split(".").at(-2)}.${name.split(".").at(-1)} ${value}`, x + 34, y + line * 16);
            });
        });
    }
    /** The thing nearest to a place on the screen. */
    nearest(schema, scene, x, y) {
        const { position } = schema;
        if (!position)
            return undefined;
        let [best, distance] = [undefined, NEAR];
        for (const thing of scene.things.filter((one) => hasPosition(schema, one))) {
            const [left, top] = this.at(thing.values[position[0]], thing.values[position[1]]);
            const off = Math.hypot(left - x, top - y);
            if (off < distance)
                [best, distance] = [thing, off];
        }
        return best;
    }
    mark(schema, thing) {
        const { position } = schema;
        if (!position)
            return;
        this.context.beginPath();
        this.context.strokeStyle = "#4fd1c5";
        this.context.lineWidth = 2;
        this.context.arc(...this.at(thing.values[position[0]], thing.values[position[1]]), 12, 0, 2 * Math.PI);
        this.context.stroke();
    }
}
function kindColour(components) {
    return `hsl(${(Math.imul(components, 2654435761) >>> 0) % 360} 60% 65%)`;
}
/** Whether a thing has the component that its place is in. */
function hasPosition(schema, thing) {
    let at = 0;
    for (const [index, { fields }] of schema.components.entries()) {
        at += fields.length;
        if (schema.position !== undefined && schema.position[0] < at) {
            return (thing.components & (1 << index)) !== 0;
        }
    }
    return false;
}
function told(field, value) {
    if (field.kind.type === "bool")
        return value === 1 ? "yes" : "no";
    return field.kind.type === "unsigned" ? String(value) : value.toFixed(2);
}
/** All fields of a thing by name, as text. */
export function described(schema, thing) {
    const all = columns(schema);
    const lines = [];
    let at = 0;
    for (const [index, { name, fields }] of schema.components.entries()) {
        if ((thing.components & (1 << index)) !== 0) {
            fields.forEach((field, offset) => {
                lines.push([`${name}.${field.name}`, told(all[at + offset], thing.values[at + offset])]);
            });
        }
        at += fields.length;
    }
    return lines;
}
