// @ts-check
// A picture as a model reads it: the middle square, S x S px, on white. The same arithmetic as Pillow's, which
// clipedu/data/pictures.py uses, so that the same pixels give the same numbers; a canvas would scale in its own way.

const BITS = 22 // of the fractions by which pixels are multiplied

/**
 * The middle square of a picture, S x S px.
 * @param {ImageData | ImageBitmap | HTMLCanvasElement | OffscreenCanvas} picture
 * @param {number} size S
 * @returns {Uint8Array} [3, S, S]
 */
export function square(picture, size) {
    const { data, width, height } = "data" in picture ? picture : read(picture)
    const side = Math.min(width, height)
    const columns = weights(width, (width - side) / 2, side, size)
    const lines = weights(height, (height - side) / 2, side, size)
    const plane = size * size
    const pixels = new Uint8Array(3 * plane)
    const narrow = new Uint8Array(size * height)
    for (let channel = 0; channel < 3; channel++) {
        resample(onWhite(data, channel), width, 1, height, columns, narrow, size, 1)
        resample(narrow, 1, size, size, lines, pixels.subarray(channel * plane, (channel + 1) * plane), 1, size)
    }
    return pixels
}

/**
 * The picture in a file, turned as its camera says; an Error with code "picture" if the browser cannot read it.
 * @param {Blob} file
 * @returns {Promise<ImageBitmap>}
 */
export async function decode(file) {
    try {
        return await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" })
    } catch (error) {
        throw Object.assign(new Error(`not a picture: ${error}`), { code: "picture" })
    }
}

/** @returns {ImageData} */
function read(picture) {
    const canvas = new OffscreenCanvas(picture.width, picture.height)
    const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }))
    context.drawImage(picture, 0, 0)
    return context.getImageData(0, 0, canvas.width, canvas.height)
}

/** One channel of RGBA pixels on white. */
function onWhite(data, channel) {
    const values = new Uint8Array(data.length / 4)
    for (let pixel = 0; pixel < values.length; pixel++) {
        const alpha = data[4 * pixel + 3]
        const sum = data[4 * pixel + channel] * alpha + 255 * (255 - alpha) + 128
        values[pixel] = ((sum >> 8) + sum) >> 8 // sum / 255, rounded
    }
    return values
}

/**
 * Which source pixels make up each new pixel: from which one on, and by how much each counts.
 * @returns {{first: number, by: Int32Array}[]}
 */
function weights(length, start, side, size) {
    const scale = side / size
    const wide = Math.max(scale, 1)
    return Array.from({ length: size }, (_, index) => {
        const centre = start + (index + 0.5) * scale
        const first = Math.max(0, Math.trunc(centre - 2 * wide + 0.5))
        const last = Math.min(length, Math.trunc(centre + 2 * wide + 0.5))
        const by = Array.from({ length: last - first }, (_, step) => bicubic((first + step - centre + 0.5) / wide))
        const sum = by.reduce((total, value) => total + value, 0)
        const rounded = by.map(value => Math.trunc((value / sum) * 2 ** BITS + (value < 0 ? -0.5 : 0.5)))
        return { first, by: Int32Array.from(rounded) }
    })
}

function bicubic(x) {
    x = Math.abs(x)
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0
}

/** Resample `count` lines of `from` in one direction; the strides are from line to line and from pixel to pixel. */
function resample(from, fromLine, fromStep, count, taps, to, toLine, toStep) {
    for (let line = 0; line < count; line++) {
        for (let index = 0; index < taps.length; index++) {
            const { first, by } = taps[index]
            let sum = 1 << (BITS - 1)
            for (let step = 0, at = line * fromLine + first * fromStep; step < by.length; step++, at += fromStep) {
                sum += from[at] * by[step]
            }
            to[line * toLine + index * toStep] = Math.min(255, Math.max(0, sum >> BITS))
        }
    }
}
