// @ts-check
// The playground: loads the model, brings its four parts to life, and switches the language in place.
import { download, loadModel, loadRuntime } from "./clip.js"
import { loadCollection } from "./collection.js"
import { Find } from "./find.js"
import { Name } from "./name.js"
import { at, language, make, say, tell } from "./page.js"
import { Swap } from "./swap.js"
import { Temperature } from "./temperature.js"

const BASE = "play/"
const MB = 1e6

/** @type {{show: () => unknown}[]} */
const parts = []
let failed = false
let status = () => say("正在载入模型……", "Loading the model…")

/** Everything in the page's language. */
function translate() {
    document.title = say("玩一玩 CLIP", "Play with CLIP")
    for (const button of document.querySelectorAll("[data-language]")) {
        button.setAttribute("aria-pressed", String(button.getAttribute("data-language") === language()))
    }
    for (const element of document.querySelectorAll("[data-label-zh]")) {
        element.setAttribute("aria-label", element.getAttribute(`data-label-${language()}`) ?? "")
    }
    tell(at("status"), status())
    return Promise.all(parts.map(part => part.show()))
}

/** The other language, with what the reader looks at kept where it is. @param {string} chosen */
function speak(chosen) {
    const places = [...document.querySelectorAll("h1, h2")].map(title => ({ title, top: title.getBoundingClientRect().top }))
    const nearest = places.reduce((best, place) => (Math.abs(place.top) < Math.abs(best.top) ? place : best))
    document.documentElement.lang = chosen
    try {
        localStorage.setItem("clipedu-language", chosen)
    } catch {
        // a browser that keeps nothing
    }
    const address = new URL(location.href)
    address.searchParams.set("lang", chosen)
    history.replaceState(null, "", address)
    translate()
    scrollBy({ top: nearest.title.getBoundingClientRect().top - nearest.top, behavior: "instant" })
}

function report(line, isFault = false) {
    status = line
    at("status").classList.toggle("fault", isFault)
    tell(at("status"), status())
}

/** @param {number} total bytes @returns {(bytes: number) => void} */
function progress(total) {
    let loaded = 0
    at("progress").max = total
    return bytes => {
        if (failed) return // what is told of the fault stays
        loaded += bytes
        at("progress").value = loaded
        const [now, all] = [(loaded / MB).toFixed(1), (total / MB).toFixed(1)]
        report(() => say(`正在载入模型：${now} / ${all} MB`, `Loading the model: ${now} of ${all} MB`))
    }
}

async function start() {
    const world = JSON.parse(new TextDecoder().decode(await download(`${BASE}playground.json`)))
    at("progress").hidden = false
    const onProgress = progress(world.bytes)
    const [, clip, scenes] = await Promise.all([
        loadRuntime(`${BASE}ort`, { onProgress }),
        loadModel(`${BASE}scenes`, { onProgress }),
        loadCollection(`${BASE}scenes/pictures`, onProgress),
    ])
    await bringToLife(clip, scenes, world)
    at("progress").hidden = true
    at("status").removeAttribute("aria-busy")
    report(() => say(`模型已就绪：${(world.bytes / MB).toFixed(1)} MB，在你的设备上运行。`,
        `The model is ready: ${(world.bytes / MB).toFixed(1)} MB, running on your device.`))
    performance.mark("ready")
}

function bringToLife(clip, scenes, world) {
    const temperature = new Temperature()
    const find = new Find(clip, scenes, world.emoji && loadEmoji)
    const name = new Name(clip, world)
    find.onfound = (hits, chosen) => temperature.set("found", chosen.clip.card.tau, hits.map(({ index, cosine }) => ({
        cosine, label: () => make("span", {}, chosen.collection.picture(index), chosen.collection.caption(index)),
    })))
    name.onnamed = cosines => temperature.set("named", clip.card.tau, (cosines ?? [])
        .map((cosine, n) => ({ cosine, label: () => name.names[n][language()] }))
        .sort((a, b) => b.cosine - a.cosine))
    parts.push(find, name, new Swap(clip, scenes), temperature)
    if (!at("sentence").value) at("sentence").value = say("一个红色的大圆", "a big red circle")
    at(world.emoji ? "emoji-drawn" : "emoji-absent").hidden = false
    return translate()
}

async function loadEmoji() {
    const [clip, collection] = await Promise.all([
        loadModel(`${BASE}emoji`, { image: false }), loadCollection(`${BASE}emoji/pictures`, () => {}),
    ])
    return { clip, collection }
}

function fault(error) {
    failed = true
    at("progress").hidden = true
    at("status").removeAttribute("aria-busy")
    if (error.code === "no-wasm") {
        return report(() => say("这个浏览器不能运行模型：没有 WebAssembly。请换新一点的 Firefox、Chrome、Edge 或 Safari。",
            "This browser cannot run the model, for it has no WebAssembly: try a recent Firefox, Chrome, Edge or Safari."), true)
    }
    report(() => say("模型没有载入：请检查网络，再刷新页面。", "The model did not load: check the connection, then reload the page."), true)
}

for (const button of document.querySelectorAll("[data-language]")) {
    button.addEventListener("click", () => speak(button.getAttribute("data-language") ?? "en"))
}
translate()
start().catch(fault)
