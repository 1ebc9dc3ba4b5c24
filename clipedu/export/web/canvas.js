// @ts-check
// A canvas for coloured strokes and shapes like those of sample_data; it knows nothing of models.

const SCENE = 96 // px: the side of the pictures in sample_data, which all lengths here refer to
const ZOOM = 4 // the canvas is this much larger, so that scaling down makes smooth edges
const RADIUS = { small: 14, big: 20 }
const BRUSH = { small: 4, big: 10 }
const STEP = 4 // of the arrow keys

/** @typedef {{tool: string, colour: string, size: "small" | "big", points: [number, number][]}} Mark */

export class Drawing {
    /**
     * @param {HTMLCanvasElement} canvas
     * @param {HTMLElement} cross shown where the keyboard draws
     * @param {string[]} shapes in the order of the keys 1, 2, ...
     * @param {string} background a CSS colour
     */
    constructor(canvas, cross, shapes, background) {
        canvas.width = canvas.height = SCENE * ZOOM
        this.canvas = canvas
        this.cross = cross
        this.shapes = shapes
        this.background = background
        this.pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }))
        /** @type {Mark[]} */
        this.marks = []
        /** @type {Mark | null} the mark that is being made, by the pointer or by the keyboard */
        this.open = null
        this.tool = "brush"
        this.colour = "red"
        /** @type {"small" | "big"} */
        this.size = "big"
        this.x = this.y = SCENE / 2
        this.onchange = () => {}
        this.listen()
        this.paint()
    }

    /** @returns {ImageData} what is drawn, without the cross */
    get pixels() {
        return this.pen.getImageData(0, 0, this.canvas.width, this.canvas.height)
    }

    undo() {
        this.open = null
        this.marks.pop()
        this.paint()
    }

    clear() {
        this.open = null
        this.marks = []
        this.paint()
    }

    /** @param {string} tool @param {[number, number]} point */
    begin(tool, point) {
        this.open = { tool, colour: this.colour, size: this.size, points: [point] }
        this.marks.push(this.open)
        this.paint()
    }

    /** @param {[number, number][]} points */
    follow(...points) {
        if (!this.open) return
        this.open.points = this.open.tool === "brush" ? [...this.open.points, ...points] : points.slice(-1)
        this.paint()
    }

    paint() {
        this.pen.setTransform(ZOOM, 0, 0, ZOOM, 0, 0)
        this.pen.fillStyle = this.background
        this.pen.fillRect(0, 0, SCENE, SCENE)
        for (const mark of this.marks) paintMark(this.pen, mark)
        this.onchange()
    }

    listen() {
        const { canvas } = this
        canvas.addEventListener("pointerdown", event => {
            if (event.button !== 0) return
            canvas.setPointerCapture(event.pointerId)
            this.begin(this.tool, this.where(event))
        })
        canvas.addEventListener("pointermove", event => {
            if (!canvas.hasPointerCapture(event.pointerId)) return
            const events = event.getCoalescedEvents()
            this.follow(...(events.length ? events : [event]).map(part => this.where(part)))
        })
        canvas.addEventListener("pointerup", () => (this.open = null))
        canvas.addEventListener("pointercancel", () => (this.open = null))
        canvas.addEventListener("keydown", event => this.key(event))
        canvas.addEventListener("focus", () => this.moveCross(0, 0))
        canvas.addEventListener("blur", () => this.lift())
    }

    /** @param {PointerEvent} event @returns {[number, number]} */
    where(event) {
        const box = this.canvas.getBoundingClientRect()
        return [((event.clientX - box.left) / box.width) * SCENE, ((event.clientY - box.top) / box.height) * SCENE]
    }

    /** @param {KeyboardEvent} event */
    key(event) {
        const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key]
        const shape = this.shapes[Number(event.key) - 1]
        if ((event.ctrlKey || event.metaKey) && event.key === "z") this.undo()
        else if (event.ctrlKey || event.metaKey || event.altKey) return
        else if (arrow) this.moveCross(arrow[0] * STEP, arrow[1] * STEP)
        else if (event.key === "Enter" || event.key === " ") this.press(this.tool)
        else if (shape) this.press(shape)
        else return
        event.preventDefault()
    }

    /** @param {string} tool put down at the cross, or the brush lifted from there */
    press(tool) {
        if (tool === "brush" && this.open) this.lift()
        else this.begin(tool, [this.x, this.y])
        if (tool !== "brush") this.open = null
        this.moveCross(0, 0)
    }

    lift() {
        this.open = null
        this.moveCross(0, 0)
    }

    /** @param {number} dx @param {number} dy */
    moveCross(dx, dy) {
        const kept = (/** @type {number} */ place) => Math.min(SCENE, Math.max(0, place))
        this.x = kept(this.x + dx)
        this.y = kept(this.y + dy)
        this.cross.style.left = `${(100 * this.x) / SCENE}%`
        this.cross.style.top = `${(100 * this.y) / SCENE}%`
        this.cross.classList.toggle("down", this.open !== null)
        if (this.open && (dx || dy)) this.follow([this.x, this.y])
    }
}

/** @param {CanvasRenderingContext2D} pen @param {Mark} mark */
function paintMark(pen, { tool, colour, size, points }) {
    pen.fillStyle = pen.strokeStyle = colour
    if (tool === "brush") {
        pen.lineWidth = BRUSH[size]
        pen.lineCap = pen.lineJoin = "round"
        pen.beginPath()
        pen.moveTo(...points[0])
        for (const point of points) pen.lineTo(...point)
        pen.stroke()
        return
    }
    pen.save()
    pen.translate(...points[0])
    paintShape(pen, tool, RADIUS[size])
    pen.restore()
}

/**
 * A shape around the origin, as `draw_scene` of clipedu/data/scenes.py draws it.
 * @param {CanvasRenderingContext2D} pen
 * @param {string} shape
 * @param {number} radius
 */
function paintShape(pen, shape, radius) {
    pen.beginPath()
    if (shape === "circle") pen.arc(0, 0, radius, 0, 2 * Math.PI)
    else if (shape === "ring") {
        pen.lineWidth = 0.36 * radius
        pen.arc(0, 0, radius - pen.lineWidth / 2, 0, 2 * Math.PI)
        pen.stroke()
        return
    } else for (const [x, y] of outline(shape)) pen.lineTo(x * radius, y * radius)
    pen.fill()
}

/** @param {string} shape @returns {[number, number][]} its corners for radius 1, y pointing down */
function outline(shape) {
    const corner = (/** @type {number} */ turn, radius = 1) =>
        /** @type {[number, number]} */ ([radius * Math.sin(2 * Math.PI * turn), -radius * Math.cos(2 * Math.PI * turn)])
    if (shape === "triangle") return [corner(0), corner(1 / 3), corner(2 / 3)]
    if (shape === "star") return Array.from({ length: 10 }, (_, k) => corner(k / 10, k % 2 ? 0.45 : 1.1))
    if (shape === "square") return [[-0.85, -0.85], [0.85, -0.85], [0.85, 0.85], [-0.85, 0.85]]
    const arm = 0.32
    return [
        [arm, -1], [arm, -arm], [1, -arm], [1, arm], [arm, arm], [arm, 1],
        [-arm, 1], [-arm, arm], [-1, arm], [-1, -arm], [-arm, -arm], [-arm, -1],
    ]
}
