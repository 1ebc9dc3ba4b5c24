// @ts-check
// "Draw": a drawing, and which of 48 names is nearest to it.
import { cosine } from "./clip.js"
import { Drawing } from "./canvas.js"
import { at, bar, decimal, language, latest, make, say, tell, took } from "./page.js"
import { square } from "./pictures.js"

const LISTED = 5

/** @typedef {{en: string, zh: string}} Word */
/** @typedef {{colours: (Word & {rgb: number[]})[], shapes: Word[], novel: string[], background: number[]}} World */

export class Name {
    /**
     * @param {import("./clip.js").Clip} clip
     * @param {World} world what sample_data draws
     */
    constructor(clip, world) {
        Object.assign(this, { clip, world })
        const css = rgb => `rgb(${rgb.join(" ")})`
        this.css = Object.fromEntries(world.colours.map(({ en, rgb }) => [en, css(rgb)]))
        /** @type {{en: string, zh: string, colour: number, shape: number, novel: boolean}[]} */
        this.names = world.colours.flatMap((colour, c) => world.shapes.map((shape, s) => ({
            en: `${colour.en} ${shape.en}`, zh: `${colour.zh}的${shape.zh}`, colour: c, shape: s,
            novel: world.novel.includes(`${colour.en} ${shape.en}`),
        })))
        /** @type {Record<string, Float32Array[]>} the names' embeddings by language */
        this.embeddings = {}
        /** Told the cosines of all names, or null when nothing is drawn. */
        this.onnamed = (/** @type {number[] | null} */ cosines) => {}
        this.drawing = new Drawing(at("canvas"), at("cross"), world.shapes.map(shape => shape.en), css(world.background))
        this.drawing.colour = css(world.colours[0].rgb)
        this.name = latest(() => this.#name())
        this.drawing.onchange = this.name
        at("undo").addEventListener("click", () => this.drawing.undo())
        at("clear").addEventListener("click", () => this.drawing.clear())
        for (const id of ["colours", "tools", "sizes"]) {
            at(id).addEventListener("change", event => (this.drawing[event.target.name] = event.target.dataset.value))
        }
    }

    /** Everything in the page's language. */
    show() {
        const { colours, shapes } = this.world
        const named = word => word[language()]
        this.choices("colours", "colour", colours.map(colour => [this.css[colour.en], named(colour), this.css[colour.en]]))
        this.choices("tools", "tool", [["brush", say("画笔", "brush")], ...shapes.map(shape => [shape.en, named(shape)])])
        this.choices("sizes", "size", [["small", say("小", "small")], ["big", say("大", "big")]])
        this.cells = this.names.map(({ novel }) => ({
            cell: make("td", novel ? { class: "novel" } : {}), fill: make("span", { class: "fill" }), number: make("span", {}),
        }))
        const rows = colours.map((colour, c) => {
            const swatch = make("span", { class: "swatch" })
            swatch.style.background = this.css[colour.en]
            const cells = this.cells.slice(c * shapes.length, (c + 1) * shapes.length)
            for (const { cell, fill, number } of cells) cell.append(number, make("span", { class: "rail" }, fill))
            return make("tr", {}, make("th", { scope: "row" }, swatch, named(colour)), ...cells.map(({ cell }) => cell))
        })
        const heads = shapes.map(shape => make("th", { scope: "col" }, named(shape)))
        const caption = make("caption", {}, say("48 个名字的余弦", "The cosines of all 48 names"))
        at("grid").replaceChildren(caption, make("thead", {}, make("tr", {}, make("td"), ...heads)), make("tbody", {}, ...rows))
        return this.name()
    }

    /** Radio buttons for one property of the drawing. */
    choices(id, property, options) {
        const legend = at(id).querySelector("legend")
        const labels = options.map(([value, text, colour]) => {
            const input = make("input", { type: "radio", name: property, "data-value": value })
            input.checked = value === this.drawing[property]
            const swatch = make("span", { class: "swatch" })
            if (colour) swatch.style.background = colour
            return make("label", {}, input, ...(colour ? [swatch] : []), make("span", {}, text))
        })
        at(id).replaceChildren(legend, ...labels)
    }

    async #name() {
        const [start, spoken] = [performance.now(), language()]
        this.embeddings[spoken] ??= await this.clip.embedTexts(this.names.map(name => name[spoken]))
        const pixels = square(this.drawing.pixels, this.clip.card.image_size)
        const [seen] = await this.clip.embedImages(pixels) // with nothing drawn too: the first stroke then goes fast
        if (!this.drawing.marks.length) return this.paint(null)
        this.paint(this.embeddings[spoken].map(embedding => cosine(embedding, seen)))
        tell(at("named-time"), took(start))
    }

    /** @param {number[] | null} cosines */
    paint(cosines) {
        const order = this.names.map((_, n) => n).sort((a, b) => (cosines ? cosines[b] - cosines[a] : 0))
        this.cells.forEach(({ cell, fill, number }, n) => {
            fill.style.width = cosines ? `${100 * Math.max(0, cosines[n])}%` : "0"
            number.textContent = cosines ? decimal(cosines[n]) : ""
            cell.classList.toggle("first", cosines !== null && n === order[0])
        })
        at("best").replaceChildren(...(cosines ? order.slice(0, LISTED) : []).map(
            n => bar(this.names[n][language()], cosines[n], decimal(cosines[n]))))
        tell(at("named"), cosines ? this.names[order[0]][language()]
            : say("还什么都没有画。", "Nothing is drawn yet."))
        at("named").classList.toggle("nothing", !cosines)
        if (!cosines) tell(at("named-time"), "")
        this.onnamed(cosines)
    }
}
