/** The drawing pad, for pens, fingers and mice. */

import type { Point, Stroke } from "./rasterize.js";

const LINE = 0.085; // of the pad's width

export class Pad {
  private strokes: Point[][] = [];
  private drawing = false;

  /** `drawn` hears all strokes after each change by hand. */
  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly drawn: (strokes: readonly Stroke[]) => void,
  ) {
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.go(event));
    for (const end of ["pointerup", "pointercancel"] as const) {
      canvas.addEventListener(end, () => (this.drawing = false));
    }
    new ResizeObserver(() => this.paint()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
  }

  clear(): void {
    this.strokes = [];
    this.paint();
  }

  private begin(event: PointerEvent): void {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.drawing = true;
    this.strokes.push([]);
    this.go(event);
  }

  private go(event: PointerEvent): void {
    const stroke = this.strokes.at(-1);
    if (!this.drawing || !stroke) return;
    const between = event.getCoalescedEvents?.() ?? [];
    for (const { offsetX, offsetY } of between.length > 0 ? between : [event]) {
      stroke.push({ x: offsetX / this.canvas.clientWidth, y: offsetY / this.canvas.clientHeight });
    }
    this.paint();
    this.drawn(this.strokes);
  }

  private paint(): void {
    const { canvas } = this;
    const size = Math.round(canvas.clientWidth * devicePixelRatio);
    if (canvas.width !== size) canvas.width = canvas.height = size;
    const pen = canvas.getContext("2d")!;
    pen.clearRect(0, 0, size, size);
    pen.strokeStyle = getComputedStyle(canvas).color;
    pen.lineWidth = LINE * size;
    pen.lineCap = pen.lineJoin = "round";
    for (const stroke of this.strokes) {
      pen.beginPath();
      for (const { x, y } of [stroke[0]!, ...stroke]) pen.lineTo(x * size, y * size);
      pen.stroke();
    }
  }
}
