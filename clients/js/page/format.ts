/** Formats numbers for people. */

/** Seconds, in the unit that suits their size. */
export function formatSeconds(seconds: number): string {
  if (seconds < 0.9995) return `${formatNumber(1000 * seconds)} ms`;
  if (seconds < 99.5) return `${formatNumber(seconds)} s`;
  if (seconds < 5970) return `${formatNumber(seconds / 60)} min`;
  if (seconds < 171_000) return `${formatNumber(seconds / 3600)} h`;
  return `${formatNumber(seconds / 86_400)} days`;
}

/** Two significant digits, or all digits before the decimal point if there are more. */
export function formatNumber(value: number): string {
  if (value >= 10) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(2)));
}

/** A number and its noun: "1 query", "2 queries". */
export function formatCount(value: number, one: string, many = `${one}s`): string {
  return `${value.toLocaleString("en")} ${value === 1 ? one : many}`;
}

/** A share of 1, in percent; a small share is "< 1%", not "0%". */
export function formatPercent(share: number): string {
  if (share > 0 && share < 0.005) return "< 1%";
  return `${Math.round(100 * share)}%`;
}
