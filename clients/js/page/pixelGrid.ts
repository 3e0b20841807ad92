/** The 8 x 8 numbers of the model's input as a grid that can be changed by keyboard and pointer. */

import { BLANK, type Cells, MAX_INK, SIDE } from "./rasterize.js";

const INK_STEP = MAX_INK / 2; // that one press of the space bar adds

/** The cell that a key moves to; it may lie outside the grid. */
const MOVES: Readonly<Record<string, (row: number, column: number) => [number, number]>> = {
  ArrowUp: (row, column) => [row - 1, column],
  ArrowDown: (row, column) => [row + 1, column],
  ArrowLeft: (row, column) => [row, column - 1],
  ArrowRight: (row, column) => [row, column + 1],
  Home: (row) => [row, 0],
  End: (row) => [row, SIDE - 1],
  PageUp: (_, column) => [0, column],
  PageDown: (_, column) => [SIDE - 1, column],
};

export class PixelGrid {
  private readonly elements: readonly HTMLElement[];
  private values: Cells = BLANK;
  private current = 0;

  /** `onChange` receives a description of each change by the user. */
  constructor(
    root: HTMLElement,
    private readonly onChange: (description: string) => void,
  ) {
    this.elements = BLANK.map(createCell);
    for (let row = 0; row < SIDE; row++) {
      const rowElement = document.createElement("div");
      rowElement.setAttribute("role", "row");
      rowElement.append(...this.elements.slice(row * SIDE, (row + 1) * SIDE));
      root.append(rowElement);
    }
    root.addEventListener("keydown", (event) => this.onKeyDown(event));
    root.addEventListener("click", (event) => {
      const at = this.elements.findIndex((cell) => cell === event.target);
      if (at < 0) return;
      this.moveTo(at);
      this.addInk();
    });
    this.show(BLANK);
    this.setTabIndex(0);
  }

  get cells(): Cells {
    return this.values;
  }

  show(cells: Cells): void {
    this.values = cells;
    this.elements.forEach((cell, at) => {
      const ink = cells[at] ?? 0;
      cell.style.setProperty("--ink-share", String(ink / MAX_INK));
      const position = `row ${Math.floor(at / SIDE) + 1}, column ${(at % SIDE) + 1}`;
      cell.setAttribute("aria-label", `${position}: ${describeInk(ink)}`);
    });
  }

  private onKeyDown(event: KeyboardEvent): void {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const move = MOVES[event.key];
    if (move) {
      const [row, column] = move(Math.floor(this.current / SIDE), this.current % SIDE);
      this.moveTo(clampToGrid(row) * SIDE + clampToGrid(column));
    } else if (event.key === " " || event.key === "Enter") this.addInk();
    else if (event.key === "Delete" || event.key === "Backspace") this.setInk(0);
    else return;
    event.preventDefault();
  }

  private moveTo(at: number): void {
    this.setTabIndex(-1);
    this.current = at;
    this.setTabIndex(0);
    this.elements[at]?.focus();
  }

  private setTabIndex(tabIndex: number): void {
    const cell = this.elements[this.current];
    if (cell) cell.tabIndex = tabIndex;
  }

  /** Darken the current cell; a full one becomes empty. */
  private addInk(): void {
    const ink = this.values[this.current] ?? 0;
    this.setInk(ink >= MAX_INK ? 0 : Math.min(MAX_INK, ink + INK_STEP));
  }

  private setInk(ink: number): void {
    this.show(this.values.with(this.current, ink));
    this.onChange(describeInk(ink));
  }
}

function createCell(): HTMLElement {
  const cell = document.createElement("div");
  cell.setAttribute("role", "gridcell");
  cell.tabIndex = -1;
  return cell;
}

function clampToGrid(index: number): number {
  return Math.min(Math.max(index, 0), SIDE - 1);
}

function describeInk(ink: number): string {
  return ink === 0 ? "empty" : `ink ${Math.round(ink)} of ${MAX_INK}`;
}
