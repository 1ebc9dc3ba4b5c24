// @ts-check
// "Swap": a scene of two objects, its sentence, and the sentence with its objects swapped.
import { cosine } from "./clip.js"
import { at, bar, decimal, language, latest, make, say, tell } from "./page.js"

const TIE = 1e-5 // a smaller difference is rounding: a tie, which counts as wrong, as in notebook 08
const AT_ONCE = 8

export class Swap {
    /**
     * @param {import("./clip.js").Clip} clip
     * @param {import("./collection.js").Collection} scenes
     */
    constructor(clip, scenes) {
        Object.assign(this, { clip, scenes })
        this.indices = scenes.pictures.flatMap((picture, index) => (picture.swapped ? [index] : []))
        this.place = 0
        this.round = 0 // a new count ends the old one
        this.compare = latest(() => this.#compare())
        at("swap-previous").addEventListener("click", () => this.go(-1))
        at("swap-next").addEventListener("click", () => this.go(1))
        at("swap-count").addEventListener("click", () => this.count())
    }

    /** Everything in the page's language; a count that was made in the other one is gone. */
    show() {
        this.round++
        at("tally").hidden = true
        tell(at("swap-count"), say(`${this.indices.length} 张全试一遍`, `Try all ${this.indices.length} scenes`))
        return this.compare()
    }

    /** @param {number} step */
    go(step) {
        this.place = (this.place + step + this.indices.length) % this.indices.length
        return this.compare()
    }

    /** Of each scene, the cosines with its own sentence and with the swapped one. @param {number[]} indices */
    async cosines(indices) {
        const pictures = indices.map(index => this.scenes.pictures[index])
        const spoken = language()
        const own = await this.clip.embedTexts(pictures.map(picture => picture[spoken]))
        const swapped = await this.clip.embedTexts(pictures.map(picture => picture.swapped[spoken]))
        return indices.map((index, n) => [own, swapped].map(texts => cosine(this.scenes.embeddings[index], texts[n])))
    }

    async #compare() {
        const index = this.indices[this.place]
        const [[own, swapped]] = await this.cosines([index])
        at("swap-picture").replaceChildren(this.scenes.picture(index))
        const label = (kind, text) => make("span", {}, make("b", {}, kind), text)
        at("swap-bars").replaceChildren(
            bar(label(say("原句", "own"), this.scenes.caption(index)), own, decimal(own, 4)),
            bar(label(say("对调", "swapped"), this.scenes.pictures[index].swapped[language()]), swapped, decimal(swapped, 4)))
        const lead = own - swapped
        const size = Math.abs(lead).toFixed(4)
        tell(at("swap-told"), Math.abs(lead) <= TIE ? say("一样近：它分不出。", "A tie: it cannot tell.")
            : lead > 0 ? say(`原句更近，差 ${size}：这次对了。`, `Its own sentence is closer, by ${size}: right this time.`)
            : say(`对调的句子反而更近，差 ${size}：这次错了。`, `The swapped sentence is closer, by ${size}: wrong this time.`))
    }

    /** Ask about every scene, with the result so far in view. */
    async count() {
        const round = ++this.round
        let right = 0
        at("tally").hidden = false
        for (let start = 0; start < this.indices.length; start += AT_ONCE) {
            const part = this.indices.slice(start, start + AT_ONCE)
            const pairs = await this.cosines(part)
            if (round !== this.round) return
            right += pairs.filter(([own, swapped]) => own - swapped > TIE).length
            this.tally(right, start + part.length)
            await new Promise(requestAnimationFrame)
        }
    }

    tally(right, asked) {
        const share = (100 * right) / asked
        at("tally-bar").style.width = `${share}%`
        const done = asked === this.indices.length
        if (!done) at("tally-told").setAttribute("aria-busy", "true")
        else at("tally-told").removeAttribute("aria-busy")
        tell(at("tally-told"), say(
            `${asked} 张图里，${right} 张离原句更近：${share.toFixed(0)}%。竖线是抛硬币的 50%。`,
            `${right} of ${asked} scenes are closer to their own sentence: ${share.toFixed(0)}%. The line marks 50%, a coin toss.`))
    }
}
