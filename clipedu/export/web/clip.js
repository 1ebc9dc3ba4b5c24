// @ts-check
// A model that `python -m clipedu export` wrote, in the browser: words to ids, and the two sides by ONNX Runtime.
// No page is touched here. Every function that loads throws an Error with a `code`, for the page to put into words:
//   "no-wasm"  this browser has no WebAssembly
//   "missing"  a file did not come
//   "wrong"    a file came, but is not what it should be

const FORMAT = "clipedu export 1"
const RUNTIME = "ort.wasm.bundle.min.mjs"
const WASM = "ort-wasm-simd-threaded.wasm.gz"
const [PAD, UNK, CLS, SEP] = [0, 1, 2, 3]
const SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]

// As in clipedu/tokenizer.py. Python's \w is a letter, a number or "_"; marks such as accents are not in it.
const HAN = "\\u3007\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\u{20000}-\\u{323af}"
const TOKEN = new RegExp(`[${HAN}]|(?:(?![${HAN}])[\\p{L}\\p{N}])+`, "gu")

/** @type {Promise<any> | undefined} */
let runtime

/**
 * ONNX Runtime, once for the page.
 * @param {string} base folder of the runtime, relative to the page
 * @param {{onProgress?: (bytes: number) => void}} options `onProgress` is told the size of each piece that arrives
 */
export function loadRuntime(base, { onProgress } = {}) {
    runtime ??= startRuntime(absolute(base), onProgress).catch(error => {
        runtime = undefined // so that the reader can try again
        throw error
    })
    return runtime
}

async function startRuntime(base, onProgress) {
    if (typeof WebAssembly !== "object") throw problem("no-wasm", "WebAssembly is absent")
    const [ort, wasm] = await Promise.all([
        import(base + RUNTIME).catch(error => {
            throw problem("missing", `${base}${RUNTIME}: ${error}`)
        }),
        download(base + WASM, onProgress).then(unpacked),
    ])
    Object.assign(ort.env.wasm, { wasmBinary: wasm, numThreads: 1 })
    ort.env.logLevel = "error"
    return ort
}

/**
 * The model in a folder, ready to use. Call `loadRuntime` first: it knows where the runtime is.
 * @param {string} base the model's folder, relative to the page
 * @param {{image?: boolean, onProgress?: (bytes: number) => void}} options `image: false` leaves out the image side
 * @returns {Promise<Clip>}
 */
export async function loadModel(base, { image = true, onProgress } = {}) {
    base = absolute(base)
    if (!runtime) throw new TypeError("call loadRuntime first")
    const read = name => download(base + name, onProgress)
    const [ort, card, vocabulary, text, pictures] = await Promise.all([
        runtime, read("card.json").then(json), read("vocabulary.json").then(json), read("text.onnx"),
        image ? read("image.onnx") : undefined,
    ])
    if (card.format !== FORMAT) throw problem("wrong", `${base}card.json: format ${card.format}, not ${FORMAT}`)
    try {
        const [textSession, imageSession] = [await session(ort, text), pictures && (await session(ort, pictures))]
        return new Clip(ort, card, vocabulary.words, textSession, imageSession)
    } catch (error) {
        throw problem("wrong", `${base}: ${error}`)
    }
}

/** A model: `card` has its numbers, see `card.json`. */
export class Clip {
    #ort
    #text
    #image
    #busy = Promise.resolve()

    constructor(ort, card, words, text, image) {
        this.card = card
        /** @type {Map<string, number>} */
        this.tokenToId = new Map([...SPECIAL_TOKENS, ...words].map((token, id) => [token, id]))
        this.#ort = ort
        this.#text = text
        this.#image = image
    }

    /** Lower-case words without punctuation; every Chinese character on its own. @returns {string[]} */
    tokenize(text) {
        return tokenize(text)
    }

    /** The words of `text` that the model does not know, each once. @returns {string[]} */
    unknownWords(text) {
        return [...new Set(tokenize(text))].filter(word => !this.tokenToId.has(word))
    }

    /** `[CLS] words [SEP]` as ids, cut off at 77 with [SEP] as the last. @returns {number[]} */
    encode(text) {
        const ids = tokenize(text).map(word => this.tokenToId.get(word) ?? UNK)
        return [CLS, ...ids.slice(0, this.card.max_length - 2), SEP]
    }

    /** Embeddings of sentences: N rows of length 1. @param {string[]} texts @returns {Promise<Float32Array[]>} */
    async embedTexts(texts) {
        const rows = texts.map(text => this.encode(text))
        const dims = [rows.length, Math.max(...rows.map(row => row.length))]
        const input_ids = new BigInt64Array(dims[0] * dims[1]).fill(BigInt(PAD))
        const attention_mask = new BigInt64Array(input_ids.length)
        rows.forEach((row, n) => {
            input_ids.set(row.map(BigInt), n * dims[1])
            attention_mask.fill(1n, n * dims[1], n * dims[1] + row.length)
        })
        const tensor = data => new this.#ort.Tensor("int64", data, dims)
        return this.#run(this.#text, { input_ids: tensor(input_ids), attention_mask: tensor(attention_mask) })
    }

    /**
     * Embeddings of pictures: N rows of length 1.
     * @param {Uint8Array} pictures [N, 3, S, S] with S = card.image_size, values 0 to 255; see pictures.js
     * @returns {Promise<Float32Array[]>}
     */
    async embedImages(pictures) {
        const side = this.card.image_size
        const dims = [pictures.length / (3 * side * side), 3, side, side]
        return this.#run(this.#image, { images: new this.#ort.Tensor("uint8", pictures, dims) })
    }

    /** One run after the other: a session cannot do two at once. */
    #run(session, inputs) {
        const run = this.#busy.then(() => session.run(inputs))
        this.#busy = run.catch(() => {})
        return run.then(({ embeddings }) => rows(embeddings.data, this.card.embedding_dim))
    }
}

/** As `SimpleTokenizer.tokenize_text`. @param {string} text @returns {string[]} */
export function tokenize(text) {
    // NFKC turns full-width letters and digits, as Chinese keyboards produce them, into plain ones.
    const lower = text.normalize("NFKC").toLowerCase().replace(/['\u2019]/g, "")
    return lower.normalize("NFKC").match(TOKEN) ?? [] // again: neighbours may now form one letter
}

/** A matrix's N rows of E numbers, which share its memory. @param {Float32Array} matrix @returns {Float32Array[]} */
export function rows(matrix, E) {
    return Array.from({ length: matrix.length / E }, (_, n) => matrix.subarray(n * E, (n + 1) * E))
}

/** The cosine of two embeddings, which have length 1. @param {Float32Array} a @param {Float32Array} b */
export function cosine(a, b) {
    let sum = 0
    for (let index = 0; index < a.length; index++) sum += a[index] * b[index]
    return sum
}

/** Probabilities of cosines at temperature `tau`. @param {ArrayLike<number>} cosines @returns {number[]} */
export function softmax(cosines, tau) {
    const largest = Math.max(...Array.from(cosines))
    const powers = Array.from(cosines, value => Math.exp((value - largest) / tau))
    const sum = powers.reduce((total, power) => total + power, 0)
    return powers.map(power => power / sum)
}

/**
 * The `top` rows nearest to the query, nearest first.
 * @param {Float32Array[]} embedding N rows of length 1
 * @param {Float32Array} query of length 1
 * @returns {{index: number, cosine: number}[]}
 */
export function nearest(embedding, query, top) {
    const hits = embedding.map((row, index) => ({ index, cosine: cosine(row, query) }))
    return hits.sort((a, b) => b.cosine - a.cosine).slice(0, top)
}

/**
 * A file's bytes; Error "missing" if it does not come.
 * @param {string} url
 * @param {((bytes: number) => void) | undefined} onProgress
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
export async function download(url, onProgress = undefined) {
    try {
        const answer = await fetch(url)
        if (!answer.ok || !answer.body) throw new Error(`${answer.status} ${answer.statusText}`)
        const pieces = []
        for (const reader = answer.body.getReader(); ; ) {
            const { done, value } = await reader.read()
            if (done) break
            pieces.push(value)
            onProgress?.(value.length)
        }
        return new Uint8Array(await new Blob(pieces).arrayBuffer())
    } catch (error) {
        throw problem("missing", `${url}: ${error}`)
    }
}

/** What `bytes` hold, unpacked if they are gzip: some servers, told by a name in .gz, let the browser unpack it. */
async function unpacked(bytes) {
    if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))
    return new Uint8Array(await new Response(stream).arrayBuffer())
}

function json(bytes) {
    try {
        return JSON.parse(new TextDecoder().decode(bytes))
    } catch (error) {
        throw problem("wrong", `not JSON: ${error}`)
    }
}

function session(ort, bytes) {
    return ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], logSeverityLevel: 3 })
}

function absolute(base) {
    return new URL(base.endsWith("/") ? base : `${base}/`, globalThis.location?.href).href
}

function problem(code, message) {
    return Object.assign(new Error(message), { code })
}
