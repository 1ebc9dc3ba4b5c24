// @ts-check
// A search over one folder's pictures, by a sentence or by another picture.
import { download, loadModel, loadRuntime, nearest, rows } from "./clip.js"
import { at, language, latest, make, say, tell } from "./page.js"
import { decode, square } from "./pictures.js"

const STEP = 24 // pictures shown at first, and with each press of the button
const MB = 1e6
const PIECES = /[\u3007\u3400-\u4dbf\u4e00-\u9fff]|[\p{L}\p{N}\p{M}'\u2019]+|[^\p{L}\p{N}\p{M}'\u2019]+/gu

/** @type {{clip: import("./clip.js").Clip, names: string[], embeddings: Float32Array[]} | undefined} */
let index
/** @type {Promise<import("./clip.js").Clip> | undefined} */
let pictureModel
/** @type {{picture?: ImageBitmap, name?: string}} what is searched for, if not the sentence */
let query = {}
let shown = STEP
let [status, isFault] = [() => say("正在载入模型……", "Loading the model…"), false]

/** @param {() => string} line in the page's language, whichever it is later @param {boolean} fault */
function report(line, fault = false) {
    [status, isFault] = [line, fault]
    at("told").classList.toggle("fault", fault)
    tell(at("told"), line())
}

async function start() {
    let [loaded, total] = [0, 0]
    const onProgress = bytes => {
        if (isFault) return // one file did not come; the others still may
        loaded += bytes
        at("progress").value = loaded
        report(() => say(`正在载入模型：${(loaded / MB).toFixed(1)} / ${(total / MB).toFixed(1)} MB`,
            `Loading the model: ${(loaded / MB).toFixed(1)} of ${(total / MB).toFixed(1)} MB`))
    }
    const described = JSON.parse(new TextDecoder().decode(await download("pictures.json")))
    total = described.bytes
    Object.assign(at("progress"), { max: total, hidden: false })
    const [, clip, matrix] = await Promise.all([
        loadRuntime("ort", { onProgress }), loadModel("model", { image: false, onProgress }),
        download("pictures.bin", onProgress),
    ])
    const embeddings = rows(new Float32Array(matrix.buffer), clip.card.embedding_dim)
    if (embeddings.length !== described.names.length) throw Object.assign(new Error("pictures.bin"), { code: "wrong" })
    index = { clip, names: described.names, embeddings }
    at("progress").hidden = true
    performance.mark("ready")
    await find()
}

const find = latest(async () => {
    if (!index) return
    at("chosen").hidden = !query.picture
    const vector = query.picture ? await ofPicture(query.picture) : await ofSentence(at("sentence").value)
    const hits = vector ? nearest(index.embeddings, vector, shown) : []
    at("hits").replaceChildren(...hits.map(card))
    at("more").hidden = hits.length === 0 || hits.length === index.names.length
    if (!vector) return
    const [count, all, name] = [hits.length, index.names.length, query.name]
    report(query.picture
        ? () => say(`${all} 张图中，与 ${name} 最接近的 ${count} 张，数字是余弦。`, `The ${count} of ${all} pictures nearest to ${name}, with their cosines.`)
        : () => say(`${all} 张图中，与句子最接近的 ${count} 张，数字是余弦。`, `The ${count} of ${all} pictures nearest to your sentence, with their cosines.`))
})

/** The sentence's embedding; undefined, and a line that says why, if there is nothing to search for. */
async function ofSentence(text) {
    const { clip } = /** @type {NonNullable<typeof index>} */ (index)
    const [words, unknown] = [clip.tokenize(text), clip.unknownWords(text)]
    const pieces = (unknown.length && text.match(PIECES)) || []
    at("echo").replaceChildren(...pieces.map(piece => (clip.unknownWords(piece).length ? make("mark", {}, piece) : piece)),
        unknown.length ? say(" ← 模型不认识划线的词。", " ← the model does not know the underlined words.") : "")
    if (!words.length) {
        return void report(() => say("请写一句话。", "Type a sentence."))
    }
    if (words.every(word => unknown.includes(word))) {
        return void report(() => say("模型一个词也不认识：请换一种说法或语言。", "The model knows none of these words: try other words or another language."), true)
    }
    return (await clip.embedTexts([text]))[0]
}

/** The picture's embedding. The image side is loaded when the first picture is searched for. */
async function ofPicture(picture) {
    at("echo").replaceChildren()
    report(() => say("正在载入模型的图像一侧……", "Loading the image side of the model…"))
    try {
        const clip = await (pictureModel ??= loadModel("model"))
        return (await clip.embedImages(square(picture, clip.card.image_size)))[0]
    } catch (error) {
        pictureModel = undefined
        return void fail(error)
    }
}

async function choose(file) {
    if (!file) return
    try {
        query = { picture: await decode(file), name: file.name }
    } catch {
        query = {}
        await find()
        return report(() => say("这个浏览器打不开这张图：请换一张 JPEG 或 PNG。", "This browser cannot open that picture: choose a JPEG or a PNG."), true)
    }
    const [canvas, { width, height }] = [at("chosen"), query.picture]
    Object.assign(canvas, { width: Math.round((160 * width) / height), height: 160 })
    canvas.getContext("2d").drawImage(query.picture, 0, 0, canvas.width, canvas.height)
    at("sentence").value = ""
    shown = STEP
    await find()
}

function card({ index: place, cosine }) {
    const name = index?.names[place] ?? ""
    const picture = make("img", { src: `pictures/${place}.webp`, alt: "", loading: "lazy" })
    return make("li", {}, picture, make("b", {}, cosine.toFixed(2)), make("span", {}, name))
}

function fail(error) {
    at("progress").hidden = true
    const lines = {
        "no-wasm": () => say("这个浏览器不能运行模型：没有 WebAssembly。请换新一点的 Firefox、Chrome、Edge 或 Safari。",
            "This browser cannot run the model, for it has no WebAssembly: try a recent Firefox, Chrome, Edge or Safari."),
        wrong: () => say("这个文件夹里的文件不是一起导出的，或已损坏：请重新导出。",
            "The files of this folder are damaged, or were not exported together: export it again."),
    }
    report(lines[error.code] ?? (() => say("模型没有载入：请检查网络，再刷新页面。",
        "The model did not load: check the connection, then reload the page.")), true)
}

function translate() {
    document.title = say("用一句话找图", "Search these pictures")
    for (const button of document.querySelectorAll("[data-language]")) {
        button.setAttribute("aria-pressed", String(button.getAttribute("data-language") === language()))
    }
    report(status, isFault)
    if (!index) return
    const { languages } = index.clip.card
    const names = [{ zh: "中文", en: "英文" }, { zh: "Chinese", en: "English" }]
    const [zh, en] = names.map(name => ["zh", "en"].filter(code => languages.includes(code)).map(code => name[code]))
    tell(at("about"), say(`${index.names.length} 张图；模型读得懂${zh.join("和") || "训练时的语言"}。`,
        `${index.names.length} pictures; the model reads ${en.join(" and ") || "the language that it was trained on"}.`))
}

for (const button of document.querySelectorAll("[data-language]")) {
    button.addEventListener("click", () => {
        document.documentElement.lang = button.getAttribute("data-language") ?? "en"
        try {
            localStorage.setItem("clipedu-language", language())
        } catch {
            // a browser that keeps nothing
        }
        translate()
        find()
    })
}
at("sentence").addEventListener("input", () => {
    [query, shown] = [{}, STEP]
    find()
})
at("picture").addEventListener("change", event => choose(event.target.files[0]))
at("more").addEventListener("click", () => {
    shown += STEP
    find()
})
translate()
start().then(translate, fail)
