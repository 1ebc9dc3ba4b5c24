// @ts-check
// A notebook's page and the first page: formulas, buttons that copy, contents, and the way to the other language.

import renderMathInElement from "./katex/contrib/auto-render.mjs"

const WORDS = {
  zh: { copy: "复制", copied: "已复制", failed: "请手动复制" },
  en: { copy: "Copy", copied: "Copied", failed: "Copy by hand" },
}
const PLACE = "clipedu-place"
const root = document.documentElement

/** @returns {"zh" | "en"} */
const language = () => (root.lang.startsWith("zh") ? "zh" : "en")

/** Keep something for the next page, or read it, if this browser keeps anything. */
function stored(/** @type {Storage} */ storage, /** @type {string} */ key, /** @type {string} */ value) {
  try {
    if (value === undefined) return storage.getItem(key)
    storage.setItem(key, value)
  } catch {
    // a browser that keeps nothing
  }
  return null
}

function renderFormulas() {
  const delimiters = [
    { left: "$$", right: "$$", display: true },
    { left: "$", right: "$", display: false },
  ]
  for (const prose of document.querySelectorAll(".prose")) {
    renderMathInElement(/** @type {HTMLElement} */ (prose), { delimiters, throwOnError: false })
  }
}

function addCopyButtons() {
  for (const code of document.querySelectorAll(".highlight")) {
    const button = document.createElement("button")
    button.type = "button"
    button.className = "copy"
    button.textContent = WORDS[language()].copy
    button.addEventListener("click", () => copy(code.querySelector("pre")?.textContent ?? "", button))
    code.append(button)
  }
}

/** Put text on the clipboard and say so on the button for two seconds. */
async function copy(/** @type {string} */ text, /** @type {HTMLButtonElement} */ button) {
  const words = WORDS[language()]
  try {
    await navigator.clipboard.writeText(text)
    button.textContent = words.copied
  } catch {
    button.textContent = words.failed
  }
  setTimeout(() => (button.textContent = words.copy), 2000)
}

/** The cell at the top of the window, and how far it is scrolled: px below the top, or the share of it above. */
function place() {
  const cells = [...document.querySelectorAll(".cell")]
  const current = cells.filter((cell) => cell.getBoundingClientRect().top <= 100).at(-1) ?? cells[0]
  const { top, height } = current.getBoundingClientRect()
  return { cell: current.id, below: Math.max(0, top), share: Math.max(0, -top / height) }
}

/** Stay at a place while formulas and figures above it get their size, unless the reader moves. */
function goTo(/** @type {HTMLElement} */ cell, /** @type {number} */ below, /** @type {number} */ share) {
  const align = () => {
    const { top, height } = cell.getBoundingClientRect()
    scrollBy({ top: top + share * height - below, behavior: "instant" })
  }
  const watch = new ResizeObserver(align)
  watch.observe(document.body)
  const leave = () => watch.disconnect()
  for (const moved of ["wheel", "touchstart", "pointerdown", "keydown"]) addEventListener(moved, leave, { once: true })
  setTimeout(leave, 3000)
  align()
}

/** The link to the other language leads to the place that is being read. */
function keepThePlace() {
  const link = /** @type {HTMLAnchorElement | null} */ (document.querySelector("a.switch"))
  link?.addEventListener("click", () => {
    if (scrollY > 0) stored(sessionStorage, PLACE, JSON.stringify({ ...place(), page: link.pathname }))
  })
  const kept = JSON.parse(stored(sessionStorage, PLACE) ?? "null")
  if (kept?.page !== location.pathname) return
  stored(sessionStorage, PLACE, "null")
  const cell = document.getElementById(kept.cell)
  if (cell) goTo(cell, kept.below, kept.share)
}

/** Contents stand open beside the text where there is room, and show where the reader is. */
function followContents() {
  const contents = document.querySelector(".toc details")
  if (!contents) return
  const wide = matchMedia("(min-width: 70rem)")
  const fit = () => contents.toggleAttribute("open", wide.matches)
  wide.addEventListener("change", fit)
  fit()
  const links = [...contents.querySelectorAll("a")]
  for (const link of links) link.addEventListener("click", () => wide.matches || contents.removeAttribute("open"))
  const mark = () => {
    const passed = links.filter((link) => document.querySelector(link.hash).getBoundingClientRect().top <= 120)
    links.find((link) => link.hasAttribute("aria-current"))?.removeAttribute("aria-current")
    const current = passed.at(-1)
    current?.setAttribute("aria-current", "true")
    const column = contents.parentElement
    if (current && wide.matches) column.scrollTop = current.offsetTop - column.clientHeight / 2
  }
  addEventListener("scroll", () => requestAnimationFrame(mark), { passive: true })
  mark()
}

/** A box that scrolls sideways can be reached with the keyboard. */
function reachWideBoxes() {
  for (const box of document.querySelectorAll(".output, .highlight pre, .katex-display, .prose table")) {
    if (box.scrollWidth > box.clientWidth) box.setAttribute("tabindex", "0")
  }
}

/** On paper, what is folded is open. */
function openFoldsInPrint() {
  let closed = /** @type {Element[]} */ ([])
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("main details:not([open])")]
    for (const fold of closed) fold.setAttribute("open", "")
  })
  addEventListener("afterprint", () => closed.forEach((fold) => fold.removeAttribute("open")))
}

/** The first page's two buttons. */
function switchLanguage() {
  const buttons = /** @type {HTMLButtonElement[]} */ ([...document.querySelectorAll("button[data-language]")])
  const mark = () => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.language === language()))
  }
  for (const button of buttons) {
    button.addEventListener("click", () => {
      root.lang = /** @type {string} */ (button.dataset.language)
      stored(localStorage, "clipedu-language", root.lang)
      history.replaceState(null, "", `?lang=${root.lang}${location.hash}`)
      mark()
    })
  }
  mark()
}

if (root.dataset.language) stored(localStorage, "clipedu-language", root.dataset.language)
renderFormulas()
addCopyButtons()
keepThePlace()
followContents()
reachWideBoxes()
openFoldsInPrint()
switchLanguage()
root.classList.add("ready")
