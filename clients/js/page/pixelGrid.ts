/** The 8 x 8 numbers that the model sees, to look at and to change by keyboard. */

import { BLANK, type Cells, FULL, SIDE } from "./rasterize.js";

const STEP = FULL / 2; // of one press of the space bar

/** Where keys lead from a place, within the grid. */
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

export class Grid {
  private readonly places: HTMLElement[] = [];
  private shown: Cells = BLANK;
  private at = 0;

  /** `changed` hears of each change by hand, in words. */
  constructor(
    root: HTMLElement,
    private readonly changed: (words: string) => void,
  ) {
    for (let row = 0; row < SIDE; row++) {
      const line = document.createElement("div");
      line.setAttribute("role", "row");
      for (let column = 0; column < SIDE; column++) line.append(this.place());
      root.append(line);
    }
    root.addEventListener("keydown", (event) => this.press(event));
    root.addEventListener("click", (event) => {
      const at = this.places.indexOf(event.target as HTMLElement);
      if (at < 0) return;
      this.move(at);
      this.darken();
    });
    this.show(BLANK);
    this.places[0]!.tabIndex = 0;
  }

  get cells(): Cells {
    return this.shown;
  }

  show(cells: Cells): void {
    this.shown = cells;
    this.places.forEach((place, at) => {
      const ink = cells[at]!;
      place.style.setProperty("--ink-share", String(ink / FULL));
      place.setAttribute("aria-label", `row ${Math.floor(at / SIDE) + 1}, column ${(at % SIDE) + 1}: ${words(ink)}`);
    });
  }

  private place(): HTMLElement {
    const place = document.createElement("div");
    place.setAttribute("role", "gridcell");
    place.tabIndex = -1;
    this.places.push(place);
    return place;
  }

  private press(event: KeyboardEvent): void {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const move = MOVES[event.key];
    if (move) {
      const [row, column] = move(Math.floor(this.at / SIDE), this.at % SIDE).map((value) =>
        Math.min(Math.max(value, 0), SIDE - 1),
      );
      this.move(row! * SIDE + column!);
    } else if (event.key === " " || event.key === "Enter") this.darken();
    else if (event.key === "Delete" || event.key === "Backspace") this.put(0);
    else return;
    event.preventDefault();
  }

  private move(at: number): void {
    this.places[this.at]!.tabIndex = -1;
    this.at = at;
    this.places[at]!.tabIndex = 0;
    this.places[at]!.focus();
  }

  private darken(): void {
    const ink = this.shown[this.at]!;
    this.put(ink >= FULL ? 0 : Math.min(FULL, ink + STEP));
  }

  private put(ink: number): void {
    this.show(this.shown.with(this.at, ink));
    this.changed(words(ink));
  }
}

function words(ink: number): string {
  return ink === 0 ? "empty" : `ink ${Math.round(ink)} of ${FULL}`;
}
