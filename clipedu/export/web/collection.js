// @ts-check
// Pictures that were embedded when the site was built: their captions, their embeddings, and one sheet with them all.
import { download, nearest, rows } from "./clip.js"
import { language, make } from "./page.js"

/** @typedef {{zh: string, en: string}} Words */
/** @typedef {Words & {swapped?: Words}} Picture a caption in each language, and the same with its objects swapped */

export class Collection {
    /**
     * @param {string} sheet address of the picture with all pictures, in rows of `columns`
     * @param {number} columns
     * @param {Picture[]} pictures N of them
     * @param {Float32Array[]} embeddings N rows of length 1
     */
    constructor(sheet, columns, pictures, embeddings) {
        Object.assign(this, { sheet, columns, pictures, embeddings })
    }

    /** @param {number} index @returns {string} its caption in the page's language */
    caption(index) {
        return this.pictures[index][language()]
    }

    /** Every picture with its cosine, the nearest first. @param {Float32Array} query of length 1 */
    ranked(query) {
        return nearest(this.embeddings, query, this.embeddings.length)
    }

    /** The picture, cut out of the sheet; its caption must stand beside it. @param {number} index */
    picture(index) {
        const [column, row] = [index % this.columns, Math.floor(index / this.columns)]
        const lastRow = Math.ceil(this.pictures.length / this.columns) - 1
        const picture = make("span", { class: "picture", "aria-hidden": "true" })
        picture.style.backgroundImage = `url("${this.sheet}")`
        picture.style.backgroundSize = `${100 * this.columns}% ${100 * (lastRow + 1)}%`
        picture.style.backgroundPosition = `${(100 * column) / (this.columns - 1)}% ${(100 * row) / lastRow}%`
        return picture
    }
}

/**
 * @param {string} base address without ending: `.json`, `.bin` and `.webp` are there
 * @param {(bytes: number) => void} onProgress
 */
export async function loadCollection(base, onProgress) {
    const [description, embeddings] = await Promise.all([
        download(`${base}.json`, onProgress), download(`${base}.bin`, onProgress),
    ])
    const { columns, pictures } = JSON.parse(new TextDecoder().decode(description))
    const matrix = new Float32Array(embeddings.buffer)
    return new Collection(`${base}.webp`, columns, pictures, rows(matrix, matrix.length / pictures.length))
}
