// @ts-check
// "Type": a sentence, and the pictures nearest to it.
import { at, decimal, language, latest, make, say, tell, took } from "./page.js"

const SHOWN = 12
const PIECES = /[\u3007\u3400-\u4dbf\u4e00-\u9fff]|[\p{L}\p{N}\p{M}'\u2019]+/gu
const SUGGESTIONS = {
    scenes: {
        zh: ["一个红色的大圆", "一个小五角星", "黄色和蓝色", "一个绿色的圆环在一个白色的正方形的上面", "一头紫色的大象"],
        en: ["a big red circle", "a small star", "yellow and blue", "a green ring above a white square", "a purple elephant"],
    },
    emoji: {
        zh: ["哭泣的脸", "猫", "绿心", "女警察", "唱歌"],
        en: ["crying face", "cat", "green heart", "woman police officer", "singing"],
    },
}

export class Find {
    /**
     * @param {import("./clip.js").Clip} clip
     * @param {import("./collection.js").Collection} scenes
     * @param {(() => Promise<Chosen>) | null} loadEmoji null if this site has no emoji
     * @typedef {{clip: import("./clip.js").Clip, collection: import("./collection.js").Collection}} Chosen
     */
    constructor(clip, scenes, loadEmoji) {
        /** @type {Record<string, Chosen>} */
        this.sets = { scenes: { clip, collection: scenes } }
        this.loadEmoji = loadEmoji
        this.set = "scenes"
        this.sentence = at("sentence")
        /** Told what was found: N hits, the nearest first; none for an empty sentence. */
        this.onfound = (/** @type {{index: number, cosine: number}[]} */ hits, /** @type {Chosen} */ chosen) => {}
        this.find = latest(() => this.#find())
        this.sentence.addEventListener("input", this.find)
        at("type-sets").hidden = !loadEmoji
        at("type-sets").addEventListener("change", event => this.choose(event.target.value))
    }

    /** Everything in the page's language; a suggestion that stands in the box is put into it too. */
    show() {
        const all = Object.values(SUGGESTIONS).flatMap(({ zh, en }) => zh.map((text, n) => ({ zh: text, en: en[n] })))
        const suggested = all.find(({ zh, en }) => [zh, en].includes(this.sentence.value))
        if (suggested) this.sentence.value = suggested[language()]
        this.suggest()
        return this.find()
    }

    suggest() {
        const buttons = SUGGESTIONS[this.set][language()].map(text => {
            const button = make("button", { type: "button" }, text)
            button.addEventListener("click", () => this.ask(text))
            return button
        })
        at("suggestions").replaceChildren(...buttons)
    }

    /** @param {string} text */
    ask(text) {
        this.sentence.value = text
        return this.find()
    }

    /** @param {string} set */
    async choose(set) {
        this.set = set
        this.suggest()
        if (!this.sets[set]) {
            this.clear()
            tell(at("found"), say("正在载入表情符号的模型……", "Loading the emoji model…"))
        }
        try {
            if (set === "emoji" && this.loadEmoji) this.sets.emoji ??= await this.loadEmoji()
        } catch {
            this.clear()
            return tell(at("found"), say("表情符号的模型没有载入：请检查网络，再刷新页面。",
                "The emoji model did not load: check the connection, then reload the page."))
        }
        if (this.set === set) await this.ask(SUGGESTIONS[set][language()][0])
    }

    async #find() {
        const [chosen, text] = [this.sets[this.set], this.sentence.value]
        if (!chosen) return
        const start = performance.now()
        const words = chosen.clip.tokenize(text)
        this.echo(text, chosen.clip)
        if (!words.length) {
            this.clear()
            tell(at("found"), say("还没有句子：写几个字，或点一个例句。", "No sentence yet: type one, or press an example."))
            return this.onfound([], chosen)
        }
        const [query] = await chosen.clip.embedTexts([text])
        const hits = chosen.collection.ranked(query)
        at("hits").replaceChildren(...hits.slice(0, SHOWN).map(hit => card(chosen.collection, hit)))
        const [total, limit] = [hits.length, chosen.clip.card.max_length - 2]
        tell(at("found"), say(`${total} 张图中最接近的 ${SHOWN} 张，数字是余弦。`,
            `The ${SHOWN} nearest of ${total} pictures, with their cosines.`) + (words.length > limit
            ? say(`句子太长，只读了前 ${limit} 个词。`, ` The sentence is long: only its first ${limit} words were read.`) : ""))
        tell(at("found-time"), took(start))
        this.onfound(hits, chosen)
    }

    clear() {
        at("hits").replaceChildren()
        tell(at("found-time"), "")
    }

    /** The sentence once more, with the words marked that the model does not know. */
    echo(text, clip) {
        const unknown = clip.unknownWords(text)
        const known = clip.tokenize(text).length > unknown.length
        const parts = []
        let end = 0
        for (const { 0: piece, index } of text.matchAll(PIECES)) {
            if (!clip.unknownWords(piece).length) continue
            parts.push(text.slice(end, index), make("mark", {}, piece))
            end = index + piece.length
        }
        const why = known
            ? say(" ← 划线的词没有学过，都当作同一个 [UNK]。", " ← it never learned the underlined words: to it, they are all [UNK].")
            : say(" ← 一个词都没有学过，都当作同一个 [UNK]，所以找到什么全凭碰巧。",
                " ← it never learned any of these words: to it, they are all [UNK], so what it finds means little.")
        at("echo").replaceChildren(...(unknown.length ? [...parts, text.slice(end), make("span", { class: "why" }, why)] : []))
    }
}

function card(collection, { index, cosine }) {
    return make("li", {}, collection.picture(index), make("b", {}, decimal(cosine)), make("span", {}, collection.caption(index)))
}
