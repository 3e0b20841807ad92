/** A canvas to draw on with a pen, a finger or a mouse. */

import type { Point, Stroke } from "./rasterize.js";

const LINE_WIDTH = 0.085; // share of the pad's width

export class DrawingPad {
  private strokes: Point[][] = [];
  private isDrawing = false;

  /** `onChange` receives all strokes after each change by the user. */
  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly onChange: (strokes: readonly Stroke[]) => void,
  ) {
    canvas.addEventListener("pointerdown", (event) => this.beginStroke(event));
    canvas.addEventListener("pointermove", (event) => this.extendStroke(event));
    for (const type of ["pointerup", "pointercancel"] as const) {
      canvas.addEventListener(type, () => (this.isDrawing = false));
    }
    new ResizeObserver(() => this.paint()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
  }

  clear(): void {
    this.strokes = [];
    this.paint();
  }

  private beginStroke(event: PointerEvent): void {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.isDrawing = true;
    this.strokes.push([]);
    this.extendStroke(event);
  }

  private extendStroke(event: PointerEvent): void {
    const stroke = this.strokes.at(-1);
    if (!this.isDrawing || !stroke) return;
    for (const { offsetX, offsetY } of coalescedEvents(event)) {
      stroke.push({ x: offsetX / this.canvas.clientWidth, y: offsetY / this.canvas.clientHeight });
    }
    this.paint();
    this.onChange(this.strokes);
  }

  private paint(): void {
    const { canvas } = this;
    const size = Math.round(canvas.clientWidth * devicePixelRatio);
    if (canvas.width !== size) canvas.width = canvas.height = size;
    const context = canvas.getContext("2d");
    if (!context) return;
    context.clearRect(0, 0, size, size);
    context.strokeStyle = getComputedStyle(canvas).color;
    context.lineWidth = LINE_WIDTH * size;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of this.strokes) {
      context.beginPath();
      for (const { x, y } of [...stroke.slice(0, 1), ...stroke]) context.lineTo(x * size, y * size); // a dot is a line, too
      context.stroke();
    }
  }
}

/** The pointer's positions since the last event; the event itself in browsers that do not report them. */
function coalescedEvents(event: PointerEvent): readonly PointerEvent[] {
  const supported: Partial<PointerEvent> = event;
  const events = supported.getCoalescedEvents?.() ?? [];
  return events.length > 0 ? events : [event];
}
