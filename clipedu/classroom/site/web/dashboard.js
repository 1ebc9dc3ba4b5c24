// @ts-check
// A training dashboard that plays recorded runs: each press of Run adds a loss curve to the picture.

import { LANGUAGE, controlOf, make, say } from "./controls.js"

/** @typedef {{ label: string, losses: number[], chance: number | null }} Run */

const COLOURS = ["#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777"] // as in the notebook's plots
const WIDTH = 640, HEIGHT = 340, LEFT = 46, RIGHT = 12, TOP = 12, BOTTOM = 30
const SECONDS = 1.2 // in which a run is played

/**
 * Controls, Run and Clear; returns what goes above the view.
 * @param {HTMLElement} box
 * @param {import("./controls.js").Figure} figure
 * @param {() => Promise<{ runs: Record<string, { losses: number[], chance: number | null }> }>} load
 */
export function startDashboard(box, figure, load) {
  const view = /** @type {HTMLElement} */ (box.querySelector(".output"))
  const note = make("p", { className: "note" })
  note.setAttribute("role", "status")
  const places = figure.controls.map((control) => control.start[LANGUAGE])
  const run = make("button", { type: "button", className: "run" }, say.run)
  const clear = make("button", { type: "button" }, say.clear)
  /** @type {Run[]} */
  const runs = []
  const controls = figure.controls.map((control, number) =>
    controlOf(control, (place) => {
      places[number] = place
      run.disabled = !figure.recorded?.includes(places.join(","))
      note.textContent = run.disabled ? say.unrecorded : ""
    }),
  )
  run.addEventListener("click", async () => {
    const label = figure.controls.map((control, number) => `${control.name} ${control.labels[LANGUAGE][places[number]]}`).join(", ")
    const key = places.join(",")
    try {
      const recorded = (await load()).runs[key]
      runs.push({ label: `${runs.length + 1}: ${label}`, ...recorded })
      play(view, runs)
    } catch {
      note.textContent = say.failed
    }
  })
  clear.addEventListener("click", () => {
    runs.length = 0
    draw(view, runs, 1)
  })
  const row = make("div", { className: "examples" }, run, clear)
  return [make("div", { className: "controls" }, ...controls, row, make("p", { className: "small" }, say.recordings)), note]
}

/** Draw the runs with the last one growing, step by step. */
function play(/** @type {HTMLElement} */ view, /** @type {Run[]} */ runs) {
  const count = runs.length, begin = performance.now()
  const quickly = matchMedia("(prefers-reduced-motion: reduce)").matches
  const frame = (/** @type {number} */ now) => {
    const share = quickly ? 1 : Math.min(1, Math.max(0, (now - begin) / 1000 / SECONDS))
    if (runs.length !== count) return // another run, or none
    draw(view, runs, share)
    if (share < 1) requestAnimationFrame(frame)
  }
  frame(begin)
}

/** The chart and its key; of the last run, only this share of its steps. */
function draw(/** @type {HTMLElement} */ view, /** @type {Run[]} */ runs, /** @type {number} */ share) {
  const levels = [...new Set(runs.flatMap(({ chance }) => (chance === null ? [] : [chance])))]
  const steps = Math.max(...runs.map(({ losses }) => losses.length), 10)
  const most = Math.max(...runs.flatMap(({ losses }) => losses), ...levels, 1) * 1.05
  const x = (/** @type {number} */ step) => LEFT + ((step - 1) / (steps - 1)) * (WIDTH - LEFT - RIGHT)
  const y = (/** @type {number} */ loss) => HEIGHT - BOTTOM - (loss / most) * (HEIGHT - TOP - BOTTOM)
  const chart = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "chart" })
  chart.append(...axes(x, y, steps, most))
  for (const level of levels) chart.append(svg("line", { x1: x(1), x2: x(steps), y1: y(level), y2: y(level), class: "chance" }))
  const key = runs.map((run, number) => {
    const shown = number < runs.length - 1 ? run.losses.length : Math.max(1, Math.round(share * run.losses.length))
    const colour = COLOURS[number % COLOURS.length]
    const points = run.losses.slice(0, shown).map((loss, step) => `${x(step + 1).toFixed(1)},${y(loss).toFixed(1)}`)
    chart.append(svg("polyline", { points: points.join(" "), stroke: colour, class: "curve" }))
    const swatch = make("span", { className: "swatch" })
    swatch.style.background = colour
    return make("li", {}, swatch, `${run.label}: ${shown < run.losses.length ? `${say.step} ${shown}` : `${say.last} ${run.losses[shown - 1].toFixed(3)}`}`)
  })
  const dashed = levels.map((level) => make("li", {}, make("span", { className: "swatch dashed" }), `${say.chance} ${level.toFixed(2)}`))
  chart.setAttribute("aria-label", [...key, ...dashed].map((item) => item.textContent).join("; ") || say.loss)
  view.replaceChildren(chart, make("ul", { className: "key" }, ...key, ...dashed))
}

/** Ticks with numbers, and what the axes show. */
function axes(/** @type {(step: number) => number} */ x, /** @type {(loss: number) => number} */ y, /** @type {number} */ steps, /** @type {number} */ most) {
  const bottom = HEIGHT - BOTTOM
  const lines = [svg("path", { d: `M${LEFT},${TOP}V${bottom}H${WIDTH - RIGHT}`, class: "axis" })]
  for (const loss of ticks(most)) {
    lines.push(svg("text", { x: LEFT - 6, y: y(loss) + 4, "text-anchor": "end" }, String(loss)))
    lines.push(svg("path", { d: `M${LEFT - 4},${y(loss)}H${LEFT}`, class: "axis" }))
  }
  for (const step of ticks(steps).map((step) => Math.max(1, step))) {
    lines.push(svg("text", { x: x(step), y: bottom + 17, "text-anchor": "middle" }, String(step)))
  }
  lines.push(svg("text", { x: LEFT + 8, y: TOP + 10 }, `↑ ${say.loss}`))
  lines.push(svg("text", { x: WIDTH - RIGHT, y: bottom - 6, "text-anchor": "end" }, `→ ${say.step}`))
  return lines
}

/** About five round numbers from 0 to `most`. */
export function ticks(/** @type {number} */ most) {
  const rough = most / 5, power = 10 ** Math.floor(Math.log10(rough))
  const distance = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough) ?? 10 * power
  return Array.from({ length: Math.floor(most / distance) + 1 }, (_, index) => Number((index * distance).toPrecision(3)))
}

function svg(/** @type {string} */ tag, /** @type {Record<string, any>} */ attributes, /** @type {string[]} */ ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value))
  element.append(...children)
  return element
}
