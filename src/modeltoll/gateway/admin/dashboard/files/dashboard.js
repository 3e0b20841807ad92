/**
 * Draws the charts, and refreshes the page every fifteen seconds.
 *
 * A chart's data is in its element's data-chart; a table below the chart has the same numbers. htmx requests the page and
 * replaces only what changed, so that focus, open tables and typed text stay.
 */

const REFRESH_MS = 15_000;
const CHART_HEIGHT = 220; // pixels
const NARROW_WIDTH = 420; // pixels: a narrower chart has fewer labels
const TIME_OF_DAY = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
const charts = new Map(); // chart elements -> {json, plot}

// Numbers, formatted as in the tables.

const formatNumber = (value, places = 3) =>
  new Intl.NumberFormat("en-US", { maximumSignificantDigits: places, useGrouping: true }).format(value);

function formatSeconds(value, places = 3) {
  const steps = [
    [1e-3, 1e6, "µs"],
    [1, 1e3, "ms"],
    [120, 1, "s"],
    [7200, 1 / 60, "min"],
    [172_800, 1 / 3600, "h"],
  ];
  if (value === 0) return "0 s";
  const [, factor, unit] = steps.find(([below]) => value < below) ?? [0, 1 / 86_400, "days"];
  return `${formatNumber(value * factor, places)} ${unit}`;
}

const FORMATTERS = {
  time: (value) => TIME_OF_DAY.format(value * 1000),
  count: (value) => formatNumber(value, 6),
  seconds: (value) => formatSeconds(value),
  units: (value) => formatNumber(value),
  number: (value) => formatNumber(value),
  share: (value) => `${formatNumber(value * 100)}%`,
};

// Charts.

const colourOf = (tone) => getComputedStyle(document.documentElement).getPropertyValue(`--${tone}`).trim();

/** `direction` is that of the x axis: a step reaches from its x to the next larger one, which may be on the left. */
function seriesOf({ label, tone, style }, direction) {
  const stroke = colourOf(tone);
  const isStepped = style === "steps" || style === "edge";
  return {
    label,
    stroke,
    width: style === "dashes" ? 1.5 : 2,
    pxAlign: isStepped ? 1 : 0,
    dash: style === "dashes" ? [6, 4] : undefined,
    fill: style === "steps" ? `color-mix(in srgb, ${stroke} 16%, transparent)` : undefined,
    paths: isStepped ? uPlot.paths.stepped({ align: direction }) : undefined,
    points: style === "line" ? { size: 4, fill: stroke } : { show: false },
  };
}

function axis(kind, label, log, narrow) {
  const format = kind === "seconds" ? (value) => formatSeconds(value, 2) : FORMATTERS[kind];
  const sparse = log ? { filter: (_, ticks) => ticks.map((tick) => (isPower(tick) ? tick : null)) } : {};
  return {
    label,
    stroke: colourOf("soft"),
    font: `12px ${getComputedStyle(document.body).fontFamily}`,
    labelFont: `12px ${getComputedStyle(document.body).fontFamily}`,
    labelSize: 18,
    grid: { stroke: colourOf("line"), width: 1, ...sparse },
    ticks: { stroke: colourOf("line"), width: 1, size: 4, ...sparse },
    values: (_, ticks) => ticks.map((tick) => (tick == null ? "" : format(tick))),
    space: kind === "time" && narrow ? 70 : 50,
    ...sparse,
  };
}

function isPower(value) {
  const power = Math.log10(value);
  return Math.abs(power - Math.round(power)) < 1e-6;
}

/** The whole powers of ten around the values, so that a logarithmic axis always has labels. */
function powerRange(_, low, high) {
  if (low == null || !(low > 0)) return [0.1, 10];
  const [from, to] = [Math.floor(Math.log10(low) + 1e-9), Math.ceil(Math.log10(high) - 1e-9)];
  return [10 ** from, 10 ** Math.max(to, from + 1)];
}

/** The values to draw: a missing value of a step line is drawn at the bottom of the chart. */
function valuesToDraw({ series, y_log: logarithmic }) {
  const positive = series.flatMap(({ values }) => values.filter((value) => value > 0));
  const bottom = logarithmic ? powerRange(null, Math.min(...positive, 1), 1)[0] : 0;
  return series.map(({ style, values }) => (style === "steps" ? values.map((value) => value ?? bottom) : values));
}

/** The range of an axis from zero to a little above the largest value. */
const fromZero = (_, __, high) => [0, high > 0 ? high * 1.08 : 1];

function drawChart(element) {
  const json = element.dataset.chart;
  const previous = charts.get(element);
  if (previous?.json === json) return;
  previous?.plot.destroy();
  const chart = JSON.parse(json);
  const readout = element.querySelector(".readout") ?? element.appendChild(document.createElement("p"));
  readout.className = "readout";
  const width = element.clientWidth;
  const direction = chart.x_kind === "share" ? -1 : 1; // shares fall from left to right
  const describe = (at) => {
    const values = chart.series.map(
      ({ label, values: all }) => `${label} ${all[at] == null ? "\u2013" : FORMATTERS[chart.y_kind](all[at])}`,
    );
    return `${FORMATTERS[chart.x_kind](chart.x[at])}: ${values.join(", ")}`;
  };
  const options = {
    width,
    height: CHART_HEIGHT,
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, points: { size: 7 } },
    scales: {
      x: { time: chart.x_kind === "time", distr: chart.x_log ? 3 : 1, dir: direction },
      y: chart.y_log ? { distr: 3, range: powerRange } : { range: fromZero },
    },
    axes: [
      { ...axis(chart.x_kind, chart.x_label, chart.x_log, width < NARROW_WIDTH), size: 34 },
      { ...axis(chart.y_kind, chart.y_label, chart.y_log), size: 56, space: 34 },
    ],
    series: [{}, ...chart.series.map((each) => seriesOf(each, direction))],
    bands: chart.band
      ? [
          {
            series: chart.band.map((place) => place + 1),
            fill: `color-mix(in srgb, ${colourOf("honest")} 14%, transparent)`,
          },
        ]
      : undefined,
    hooks: {
      setCursor: [({ cursor: { idx } }) => (readout.textContent = idx == null ? "" : describe(idx))],
    },
  };
  const plot = new uPlot(options, [chart.x, ...valuesToDraw(chart)], element);
  charts.set(element, { json, plot });
}

/** Draw charts that are new or have changed; remove those whose element is gone. */
function drawAll() {
  for (const [element, { plot }] of charts) {
    if (!element.isConnected) {
      plot.destroy();
      charts.delete(element);
    }
  }
  document.querySelectorAll(".chart").forEach(drawChart);
}

function redrawAll() {
  for (const { plot } of charts.values()) plot.destroy();
  charts.clear();
  drawAll();
}

/** Moves the cursor of the focused chart with the arrow keys, Home and End. */
function moveCursor(event) {
  const chart = charts.get(event.target);
  const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
  if (!chart || !(event.key in steps)) return;
  event.preventDefault();
  const { plot } = chart;
  const last = plot.data[0].length - 1;
  const step = steps[event.key] * (plot.scales.x.dir ?? 1);
  const at = Math.max(0, Math.min(last, (plot.cursor.idx ?? (step > 0 ? -1 : last + 1)) + step));
  event.target.querySelector(".readout").setAttribute("aria-live", "polite");
  plot.setCursor({ left: plot.valToPos(plot.data[0][at], "x"), top: 10 });
}

// Refreshing.

let isPaused = false;

function refresh() {
  const panels = document.querySelector("#panels");
  if (!isPaused && !document.hidden && panels) htmx.trigger(panels, "refresh");
}

function togglePause({ currentTarget }) {
  isPaused = !isPaused;
  currentTarget.setAttribute("aria-pressed", String(isPaused));
}

/** Shows a message, and gives it to screen readers. */
function showMessage(text) {
  const status = document.querySelector("#status");
  if (status.textContent !== text) status.textContent = text;
}

document.addEventListener("htmx:after:swap", () => {
  showMessage("");
  drawAll();
});
document.addEventListener("htmx:error", () =>
  showMessage("The gateway does not answer; these are the latest figures."),
);
document.addEventListener("keydown", moveCursor);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);

let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return; // a phone's address bar changes the height only
  width = innerWidth;
  redrawAll();
});

document.querySelector("#pause").addEventListener("click", togglePause);
document.querySelector("#pause").hidden = false;
setInterval(refresh, REFRESH_MS);
drawAll();
document.documentElement.dataset.ready = "";
