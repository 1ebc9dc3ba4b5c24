// @ts-check
// Helpers of the playground's parts: the page's language, elements, and work of which only the latest counts.

/** @returns {"zh" | "en"} the language that the page shows now */
export function language() {
    return document.documentElement.lang === "zh" ? "zh" : "en"
}

/**
 * @param {string} zh
 * @param {string} en
 */
export function say(zh, en) {
    return language() === "zh" ? zh : en
}

/**
 * @param {string} id
 * @returns {any} the element of play.html with this id
 */
export function at(id) {
    return document.getElementById(id)
}

/**
 * A new element. What is in `content` as a string becomes text, never markup.
 * @param {string} tag
 * @param {Record<string, string>} attributes
 * @param {...(Node | string)} content
 */
export function make(tag, attributes = {}, ...content) {
    const element = document.createElement(tag)
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
    element.append(...content)
    return element
}

/**
 * `text` set in the element, if it is another: a live region repeats what is set again.
 * @param {HTMLElement} element
 * @param {string} text
 */
export function tell(element, text) {
    if (element.textContent !== text) element.textContent = text
}

/**
 * `work`, so that calls during a run lead to one more run, with the newest input.
 * @param {() => Promise<void>} work
 */
export function latest(work) {
    let running = false, again = false
    return async () => {
        again = true
        if (running) return
        running = true
        try {
            while (again) {
                again = false
                await work()
            }
        } finally {
            running = false
        }
    }
}

/**
 * A line with a label, a bar and a number.
 * @param {Node | string} label
 * @param {number} share of the full length, cut to 0..1
 * @param {string} number
 */
export function bar(label, share, number) {
    const fill = make("span", { class: "fill" })
    fill.style.width = `${100 * Math.min(1, Math.max(0, share))}%`
    const text = make("span", { class: "label" }, label)
    return make("div", { class: "bar" }, text, make("span", { class: "rail" }, fill), make("span", { class: "number" }, number))
}

/**
 * With a fixed number of decimals, and a minus sign only if a digit other than 0 follows.
 * @param {number} value
 */
export function decimal(value, digits = 2) {
    const text = Math.abs(value).toFixed(digits)
    return value < 0 && Number(text) ? `\u2212${text}` : text
}

/** @param {number} tau */
export function short(tau) {
    return tau.toPrecision(2)
}

/** @param {number} start by `performance.now()` */
export function took(start) {
    const ms = Math.max(1, Math.round(performance.now() - start))
    return say(`用时 ${ms} 毫秒`, `answered in ${ms} ms`)
}
