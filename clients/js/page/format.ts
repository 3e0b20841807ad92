/** How numbers are said. */

/** Seconds, in the unit that a reader thinks in. */
export function time(seconds: number): string {
  if (seconds < 0.9995) return `${digits(1000 * seconds)} ms`;
  if (seconds < 99.5) return `${digits(seconds)} s`;
  if (seconds < 5970) return `${digits(seconds / 60)} min`;
  if (seconds < 171_000) return `${digits(seconds / 3600)} h`;
  return `${digits(seconds / 86_400)} days`;
}

/** Two digits that mean something, more where they stand before the point. */
export function digits(value: number): string {
  if (value >= 10) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(2)));
}

export function count(value: number, one: string, many = `${one}s`): string {
  return `${value.toLocaleString("en")} ${value === 1 ? one : many}`;
}

/** A share of 1, in percent; what is not nothing is not said to be. */
export function percent(share: number): string {
  if (share > 0 && share < 0.005) return "< 1%";
  return `${Math.round(100 * share)}%`;
}
