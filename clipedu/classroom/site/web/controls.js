// @ts-check
// What interactive figures are made of: words in the language of the page, elements, and native controls.

/**
 * @typedef {{ name: string, kind: "range" | "buttons" | "text", labels: Record<string, string[]>,
 *   start: Record<string, number>, fewer: boolean }} Control
 * @typedef {{ kind: "explorer" | "dashboard" | "absent", controls: Control[], search?: boolean,
 *   recorded?: string[] }} Figure
 */

export const LANGUAGE = document.documentElement.lang.startsWith("zh") ? "zh" : "en"
const WORDS = {
  zh: {
    absent: "建这个网站的电脑上少了这个图要用的东西，所以滑块在这里不能动；请运行笔记本。",
    failed: "这个图没有载入，滑块不能动；请刷新页面再试。",
    loading: "正在载入……",
    fewer: "这里的档位比笔记本里少。",
    typed: "这一页只备好了这几句的结果。别的句子，",
    playground: "到「玩一玩」里写",
    notebook: "请在笔记本里试",
    end: "。",
    try: "试试",
    recordings: "这里放的是录像：每条曲线都是建这个网站时由笔记本里的 run_with 跑出来的。",
    unrecorded: "这组设置没有录下来；请在笔记本里运行。",
    run: "运行",
    clear: "清空",
    chance: "随机猜测",
    last: "最后的损失",
    step: "步",
    loss: "损失",
  },
  en: {
    absent: "The computer that built this site lacked something this figure needs, so it can't move here. Run the notebook.",
    failed: "This figure didn't load, so its controls do nothing. Reload the page to try again.",
    loading: "Loading…",
    fewer: "There are fewer stops here than in the notebook.",
    typed: "This page only has answers to the sentences above. For others, ",
    playground: "type them in the playground",
    notebook: "run the notebook",
    end: ".",
    try: "Try",
    recordings: "These are recordings: each run was made once, by the notebook's run_with, when the site was built.",
    unrecorded: "No run was recorded with these settings. Run the notebook to make one.",
    run: "Run",
    clear: "Clear",
    chance: "chance",
    last: "last loss",
    step: "step",
    loss: "loss",
  },
}

/** What the page says, in its language. */
export const say = WORDS[LANGUAGE]

/** A new element; strings among its children become text. */
export function make(/** @type {string} */ tag, /** @type {Record<string, any>} */ properties = {}, /** @type {(Node | string)[]} */ ...children) {
  const element = Object.assign(document.createElement(tag), properties)
  element.append(...children)
  return element
}

/**
 * One control, as a labelled element; `report` gets the place of the value that was chosen, or -1 for a text that
 * has no answer here.
 */
export function controlOf(/** @type {Control} */ control, /** @type {(place: number) => void} */ report) {
  return { range: slider, buttons: buttons, text: textBox }[control.kind](control, report)
}

/** @type {typeof controlOf} */
function slider({ name, labels, start }, report) {
  const stops = labels[LANGUAGE]
  const output = make("output", {}, stops[start[LANGUAGE]])
  const input = make("input", { type: "range", min: 0, max: stops.length - 1, step: 1, value: start[LANGUAGE] })
  const tell = () => {
    output.textContent = stops[input.valueAsNumber]
    input.setAttribute("aria-valuetext", stops[input.valueAsNumber])
  }
  input.addEventListener("input", () => (tell(), report(input.valueAsNumber)))
  tell()
  return make("label", { className: "control" }, make("span", { className: "name" }, name), input, output)
}

/** @type {typeof controlOf} */
function buttons({ name, labels, start }, report) {
  const group = `${name}-${Math.random()}`
  const choices = labels[LANGUAGE].map((label, place) => {
    const input = make("input", { type: "radio", name: group, value: place, checked: place === start[LANGUAGE] })
    input.addEventListener("change", () => report(place))
    return make("label", {}, input, make("span", {}, label))
  })
  return make("fieldset", { className: "control" }, make("legend", { className: "name" }, name), make("div", { className: "choices" }, ...choices))
}

/** @type {typeof controlOf} */
function textBox({ name, labels, start }, report) {
  const texts = labels[LANGUAGE]
  const input = make("input", { type: "text", value: texts[start[LANGUAGE]], autocomplete: "off", spellcheck: false })
  const answer = () => report(texts.indexOf(input.value.trim()))
  input.addEventListener("change", answer)
  const isChinese = (/** @type {string} */ text) => /^[\u3400-\u9fff]/.test(text)
  const own = texts.filter((text) => text && isChinese(text) === (LANGUAGE === "zh"))
  const others = texts.filter((text) => text && !own.includes(text))
  const examples = [...own, ...others].map((text) => {
    const button = make("button", { type: "button" }, text)
    button.addEventListener("click", () => ((input.value = text), answer()))
    return button
  })
  const label = make("label", { className: "control" }, make("span", { className: "name" }, name), input)
  return make("div", {}, label, make("div", { className: "examples" }, make("span", {}, say.try), ...examples))
}
