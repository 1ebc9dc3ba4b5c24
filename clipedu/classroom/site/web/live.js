// @ts-check
// Interactive figures without a kernel: native controls, and views that were computed when the site was built.

import { LANGUAGE, controlOf, make, say } from "./controls.js"
import { startDashboard } from "./dashboard.js"

/** @typedef {import("./controls.js").Figure} Figure */

const PATIENCE = 400 // ms without an answer before the page says that it is loading

/** JSON that was compressed by gzip. */
async function unpacked(/** @type {URL} */ address) {
  const answer = await fetch(address)
  if (!answer.ok || !answer.body) throw new Error(`${answer.status} ${address}`)
  return new Response(answer.body.pipeThrough(new DecompressionStream("gzip"))).json()
}

/** Where to go with a text that has no answer on this page. */
function elsewhere(/** @type {boolean} */ search) {
  const link = make("a", { href: `../play.html?lang=${LANGUAGE}#type` }, say.playground)
  return make("p", { className: "note" }, say.typed, search ? link : say.notebook, say.end)
}

/** A frame's HTML with its pictures, once they are decoded: nothing flickers when it takes the old one's place. */
async function decoded(/** @type {string} */ html, /** @type {string[]} */ images) {
  const template = make("template")
  // Made by our own build from views that are escaped already, never from what a reader typed.
  template.innerHTML = html.replace(/src="#(\d+)"/g, (_, place) => `src="${images[place]}"`)
  const content = document.adoptNode(template.content)
  await Promise.all([...content.querySelectorAll("img")].map((image) => image.decode().catch(() => {})))
  return content
}

/** Controls above a view that follows them. */
function explorer(/** @type {HTMLElement} */ box, /** @type {Figure} */ figure, /** @type {() => Promise<any>} */ load) {
  const view = /** @type {HTMLElement} */ (box.querySelector(".output"))
  const note = make("div", { className: "state" })
  note.setAttribute("role", "status")
  const places = figure.controls.map((control) => control.start[LANGUAGE])
  let latest = 0
  const show = async () => {
    const turn = ++latest
    const waiting = setTimeout(() => note.replaceChildren(make("p", { className: "note" }, say.loading)), PATIENCE)
    const { images, frames } = await load().finally(() => clearTimeout(waiting))
    const html = frames[places.join(",")]?.[LANGUAGE]
    if (turn !== latest) return
    if (html === undefined) { // only a text that was typed can have none
      view.hidden = true
      note.replaceChildren(elsewhere(figure.search ?? false))
      return
    }
    const content = await decoded(html, images)
    if (turn !== latest) return
    view.hidden = false
    note.replaceChildren()
    view.replaceChildren(content)
  }
  const controls = figure.controls.map((control, number) =>
    controlOf(control, (place) => {
      places[number] = place
      show().catch(() => note.replaceChildren(make("p", { className: "note" }, say.failed)))
    }),
  )
  const fewer = figure.controls.some((control) => control.fewer) ? [make("p", { className: "small" }, say.fewer)] : []
  return [make("div", { className: "controls" }, ...controls, ...fewer), note]
}

/** Give a figure its controls; what they show is fetched when one of them is first pointed at, focused or touched. */
async function hydrate(/** @type {HTMLElement} */ box) {
  const address = new URL(/** @type {string} */ (box.dataset.frames), location.href)
  const answer = await fetch(address)
  if (!answer.ok) throw new Error(`${answer.status} ${address}`)
  const figure = /** @type {Figure} */ (await answer.json())
  if (figure.kind === "absent") return box.prepend(make("p", { className: "note" }, say.absent))
  /** @type {Promise<any> | undefined} */
  let loaded
  const load = () => (loaded ??= unpacked(new URL(address.href.replace(/json$/, "frames"))).catch((error) => {
    loaded = undefined // so that the next touch tries again
    throw error
  }))
  const start = figure.kind === "dashboard" ? startDashboard : explorer
  const [controls, note] = start(box, figure, load)
  box.prepend(controls, note)
  for (const event of ["pointerenter", "focusin", "touchstart"]) {
    controls.addEventListener(event, () => load().catch(() => {}), { once: true, passive: true })
  }
  box.classList.add("moves")
}

for (const box of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".live"))) {
  hydrate(box).catch(() => box.prepend(make("p", { className: "note" }, say.failed)))
}
