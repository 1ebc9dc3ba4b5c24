// @ts-check
// "Temperature": the cosines of the other parts as probabilities.
import { softmax } from "./clip.js"
import { at, bar, say, short, tell } from "./page.js"

const LISTED = 8
const LEAST = -2 // the slider's decimal logarithm, up to 0

/** @typedef {{cosine: number, label: () => Node | string}} Item */

export class Temperature {
    constructor() {
        /** @type {Record<string, {learned: number, items: Item[]}>} */
        this.sources = {}
        /** @type {number | null} null: as learned, by whichever model is shown */
        this.chosen = null
        this.slider = at("tau")
        this.slider.addEventListener("input", () => this.turn(10 ** Number(this.slider.value)))
        at("learned").addEventListener("click", () => this.turn(null))
        at("sources").addEventListener("change", () => this.show())
    }

    /** @param {number | null} tau */
    turn(tau) {
        this.chosen = tau
        this.show()
    }

    /**
     * @param {string} source "found" or "named"
     * @param {number} learned the temperature of the model that found or named
     * @param {Item[]} items the nearest first; none if there is nothing to show
     */
    set(source, learned, items) {
        this.sources[source] = { learned, items }
        this.show()
    }

    show() {
        const source = at("sources").querySelector(":checked").value
        if (!this.sources[source]) return
        const { learned, items } = this.sources[source]
        const tau = this.chosen ?? learned
        if (this.chosen === null) this.slider.value = String(Math.log10(tau))
        tell(at("tau-value"), short(tau))
        this.slider.setAttribute("aria-valuetext", short(tau))
        at("learned-mark").style.setProperty("--share", String(1 - Math.log10(learned) / LEAST))
        tell(at("learned"), say(`▲ 学到的 τ = ${short(learned)}`, `▲ the learned τ = ${short(learned)}`))
        if (!items.length) {
            tell(at("spread"), source === "named" ? say("还什么都没有画：先在上面画一个图形。", "Nothing is drawn yet: draw a shape above first.")
                : say("还没有句子：先在上面写一句。", "No sentence yet: type one above first."))
            return at("probabilities").replaceChildren()
        }
        const probabilities = softmax(items.map(item => item.cosine), tau)
        const line = (label, p) => bar(label, p, `${(100 * p).toFixed(1)}%`)
        const rest = probabilities.slice(LISTED).reduce((sum, p) => sum + p, 0)
        const others = items.length - LISTED
        at("probabilities").replaceChildren(
            ...items.slice(0, LISTED).map((item, n) => line(item.label(), probabilities[n])),
            line(say(`其余 ${others} 个`, `the other ${others}`), rest))
        const [first, count] = [(100 * probabilities[0]).toFixed(1), items.length]
        tell(at("spread"), source === "named"
            ? say(`softmax 取遍 ${count} 个名字：第一名得 ${first}%。`, `Softmax over all ${count} names: the first gets ${first}%.`)
            : say(`softmax 取遍 ${count} 张图：第一名得 ${first}%。`, `Softmax over all ${count} pictures: the first gets ${first}%.`))
    }
}
