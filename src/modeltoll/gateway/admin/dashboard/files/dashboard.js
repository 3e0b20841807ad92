/**
 * Draws the charts, and asks for fresh figures every fifteen seconds.
 *
 * A chart is what its element says in data-chart; what it shows stands in a table below it, too. The page is asked for by
 * htmx, which puts what changed in place, so that focus, open tables and what is being typed stay as they are.
 */

const REFRESH = 15_000; // milliseconds
const HEIGHT = 220; // of a chart, in pixels
const NARROW = 420; // a chart below this width has fewer labels
const DAY = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
const drawn = new Map(); // elements of charts -> {json, plot}

// Numbers, in the words of the tables.

const digits = (value, places = 3) =>
  new Intl.NumberFormat("en-US", { maximumSignificantDigits: places, useGrouping: true }).format(value);

function seconds(value, places = 3) {
  const steps = [
    [1e-3, 1e6, "µs"],
    [1, 1e3, "ms"],
    [120, 1, "s"],
    [7200, 1 / 60, "min"],
    [172_800, 1 / 3600, "h"],
  ];
  if (value === 0) return "0 s";
  const [, factor, unit] = steps.find(([below]) => value < below) ?? [0, 1 / 86_400, "days"];
  return `${digits(value * factor, places)} ${unit}`;
}

const SAY = {
  time: (value) => DAY.format(value * 1000),
  count: (value) => digits(value, 6),
  seconds: (value) => seconds(value),
  units: (value) => digits(value),
  number: (value) => digits(value),
  share: (value) => `${digits(value * 100)}%`,
};

// Charts.

const colour = (tone) => getComputedStyle(document.documentElement).getPropertyValue(`--${tone}`).trim();

/** `direction` is that of x: a step holds from its x to the next larger one, which may lie to the left. */
function seriesOf({ label, tone, style }, direction) {
  const stroke = colour(tone);
  const stepped = style === "steps" || style === "edge";
  return {
    label,
    stroke,
    width: style === "dashes" ? 1.5 : 2,
    pxAlign: stepped ? 1 : 0,
    dash: style === "dashes" ? [6, 4] : undefined,
    fill: style === "steps" ? `color-mix(in srgb, ${stroke} 16%, transparent)` : undefined,
    paths: stepped ? uPlot.paths.stepped({ align: direction }) : undefined,
    points: style === "line" ? { size: 4, fill: stroke } : { show: false },
  };
}

function axis(kind, label, log, narrow) {
  const say = kind === "seconds" ? (value) => seconds(value, 2) : SAY[kind];
  const sparse = log ? { filter: (_, ticks) => ticks.map((tick) => (isPower(tick) ? tick : null)) } : {};
  return {
    label,
    stroke: colour("soft"),
    font: `12px ${getComputedStyle(document.body).fontFamily}`,
    labelFont: `12px ${getComputedStyle(document.body).fontFamily}`,
    labelSize: 18,
    grid: { stroke: colour("line"), width: 1, ...sparse },
    ticks: { stroke: colour("line"), width: 1, size: 4, ...sparse },
    values: (_, ticks) => ticks.map((tick) => (tick == null ? "" : say(tick))),
    space: kind === "time" && narrow ? 70 : 50,
    ...sparse,
  };
}

function isPower(value) {
  const power = Math.log10(value);
  return Math.abs(power - Math.round(power)) < 1e-6;
}

/** Whole powers of ten around the values, so that a logarithmic axis always has labels. */
function powers(_, low, high) {
  if (low == null || !(low > 0)) return [0.1, 10];
  const [from, to] = [Math.floor(Math.log10(low) + 1e-9), Math.ceil(Math.log10(high) - 1e-9)];
  return [10 ** from, 10 ** Math.max(to, from + 1)];
}

/** What is drawn: a step that is not there runs along the bottom of the chart, as nothing does. */
function drawnValues({ series, y_log: logarithmic }) {
  const known = series.flatMap(({ values }) => values.filter((value) => value > 0));
  const bottom = logarithmic ? powers(null, Math.min(...known, 1), 1)[0] : 0;
  return series.map(({ style, values }) => (style === "steps" ? values.map((value) => value ?? bottom) : values));
}

/** From nothing to a little above the largest. */
const fromZero = (_, __, high) => [0, high > 0 ? high * 1.08 : 1];

function draw(element) {
  const json = element.dataset.chart;
  const before = drawn.get(element);
  if (before?.json === json) return;
  before?.plot.destroy();
  const chart = JSON.parse(json);
  const readout = element.querySelector(".readout") ?? element.appendChild(document.createElement("p"));
  readout.className = "readout";
  const width = element.clientWidth;
  const direction = chart.x_kind === "share" ? -1 : 1; // the rarer, the further to the right
  const say = (at) => {
    const values = chart.series.map(
      ({ label, values: known }) => `${label} ${known[at] == null ? "-" : SAY[chart.y_kind](known[at])}`,
    );
    return `${SAY[chart.x_kind](chart.x[at])}: ${values.join(", ")}`;
  };
  const options = {
    width,
    height: HEIGHT,
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, points: { size: 7 } },
    scales: {
      x: { time: chart.x_kind === "time", distr: chart.x_log ? 3 : 1, dir: direction },
      y: chart.y_log ? { distr: 3, range: powers } : { range: fromZero },
    },
    axes: [
      { ...axis(chart.x_kind, chart.x_label, chart.x_log, width < NARROW), size: 34 },
      { ...axis(chart.y_kind, chart.y_label, chart.y_log), size: 56, space: 34 },
    ],
    series: [{}, ...chart.series.map((each) => seriesOf(each, direction))],
    bands: chart.band
      ? [
          {
            series: chart.band.map((place) => place + 1),
            fill: `color-mix(in srgb, ${colour("honest")} 14%, transparent)`,
          },
        ]
      : undefined,
    hooks: {
      setCursor: [({ cursor: { idx } }) => (readout.textContent = idx == null ? "" : say(idx))],
    },
  };
  const plot = new uPlot(options, [chart.x, ...drawnValues(chart)], element);
  drawn.set(element, { json, plot });
}

/** Draw what is new or has changed; forget what is gone. */
function drawAll() {
  for (const [element, { plot }] of drawn) {
    if (!element.isConnected) {
      plot.destroy();
      drawn.delete(element);
    }
  }
  document.querySelectorAll(".chart").forEach(draw);
}

function redrawAll() {
  for (const { plot } of drawn.values()) plot.destroy();
  drawn.clear();
  drawAll();
}

/** The arrow keys walk along a chart that has the focus. */
function walk(event) {
  const known = drawn.get(event.target);
  const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
  if (!known || !(event.key in steps)) return;
  event.preventDefault();
  const { plot } = known;
  const last = plot.data[0].length - 1;
  const step = steps[event.key] * (plot.scales.x.dir ?? 1);
  const at = Math.max(0, Math.min(last, (plot.cursor.idx ?? (step > 0 ? -1 : last + 1)) + step));
  event.target.querySelector(".readout").setAttribute("aria-live", "polite");
  plot.setCursor({ left: plot.valToPos(plot.data[0][at], "x"), top: 10 });
}

// Fresh figures.

let paused = false;

function refresh() {
  const panels = document.querySelector("#panels");
  if (!paused && !document.hidden && panels) htmx.trigger(panels, "refresh");
}

function pause({ currentTarget }) {
  paused = !paused;
  currentTarget.setAttribute("aria-pressed", String(paused));
}

function say(text) {
  const place = document.querySelector("#said");
  if (place.textContent !== text) place.textContent = text;
}

document.addEventListener("htmx:after:swap", () => {
  say("");
  drawAll();
});
document.addEventListener("htmx:error", () => say("The gateway does not answer; these are the latest figures."));
document.addEventListener("keydown", walk);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);

let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return; // a phone's address bar comes and goes
  width = innerWidth;
  redrawAll();
});

document.querySelector("#pause").addEventListener("click", pause);
document.querySelector("#pause").hidden = false;
setInterval(refresh, REFRESH);
drawAll();
document.documentElement.dataset.ready = "";
