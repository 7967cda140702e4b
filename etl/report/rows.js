// The page's data, what is chosen of it, and the rows of each chart.

const $ = (id) => document.getElementById(id);
if (!("DecompressionStream" in window)) {
  $("nothing").textContent = "This browser is too old for the page: it needs one of 2023 or later.";
}
const packed = Uint8Array.from(atob($("data").textContent), (letter) => letter.charCodeAt(0));
const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
const DATA = await new Response(unpacked).json();
const CHARTS = JSON.parse($("charts").textContent);
const CLASSES = Object.entries(DATA.classes);
const state = {}; // market, session, source, slice, convention

// ── values ───────────────────────────────────────────────────────────────────────────────────

const DAY = "%Y-%m-%d";
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const words = (name) => name.replaceAll("_", " ");
const day = (text) => Date.parse(text.slice(0, 10));
const minute = (text) => (text ? `${text.slice(0, 16).replace("T", " ")} UTC` : "—");
const range = (values) => values.filter(isNumber).reduce(
  ([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);

// Formats are d3's, as the charts have them, of the kinds that the page uses.
const formatters = {};
function formatter(format) {
  const [, sign, comma, digits, kind] = /^(\+?)(,?)(?:\.(\d+))?~?([%rsdf])$/.exec(format);
  const places = {minimumFractionDigits: +digits, maximumFractionDigits: +digits};
  const significant = {maximumSignificantDigits: +digits};
  const kinds = {
    "%": {style: "percent", ...places},
    f: places,
    d: {maximumFractionDigits: 0},
    r: significant,
    s: {notation: "compact", ...significant},
  };
  const signDisplay = sign ? "exceptZero" : "auto";
  return new Intl.NumberFormat("en", {useGrouping: Boolean(comma), signDisplay, ...kinds[kind]});
}
function shown(value, format) {
  if (value === null || value === undefined || value === "") return "—";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (!format) return String(value);
  if (format === DAY) return new Date(value).toISOString().slice(0, 10);
  formatters[format] ??= formatter(format);
  return formatters[format].format(value).replace("-", "−");
}

// ── what is chosen ───────────────────────────────────────────────────────────────────────────

// A leaf of the data is columns: its rows.
function rowsOf(leaf) {
  const columns = Object.entries(leaf ?? {}).filter(([, values]) => Array.isArray(values));
  const length = columns.length ? columns[0][1].length : 0;
  return Array.from({length}, (_, i) =>
    Object.fromEntries(columns.map(([name, values]) => [name, values[i]])));
}
const held = (table, ...keys) =>
  keys.reduce((level, key) => level?.[key], DATA[table]?.[state.market]);
const ofSlice = (table, name = state.slice) =>
  rowsOf(held(table, state.session, state.source, name));

const market = () => DATA.markets[state.market];
const sessions = () => Object.keys(held("slices") ?? held("futures_curve") ?? {}).sort();
const slices = (source = state.source) => rowsOf(held("slices", state.session, source));
const slice = (source) => slices(source).find((row) => row.slice === state.slice);
const past = (name = state.slice) => rowsOf(held("slice_history", state.source, name))
  .filter((row) => row.session <= state.session)
  .map((row) => ({...row, slice: name}));
const daily = () => rowsOf(held("daily")).filter((row) => row.session <= state.session);
const totals = () => rowsOf(held("flow_total", state.session));
const total = () => totals().find(
  (row) => row.slice === state.slice && row.convention === state.convention);

// Reports known when the session's slices were; with the newest session, all that are known.
function reports() {
  const isNewest = state.session === sessions().at(-1);
  const snapshot = held("slices", state.session, state.source)?.as_of;
  const until = isNewest ? DATA.known_by : snapshot ?? `${state.session}T23:59:59Z`;
  return rowsOf(held("positions")).filter((row) => row.released_at <= until);
}

// An expiry, with its series where others expire on the same day.
function expiryName(row) {
  const isAlone = slices().filter((other) => other.expiry === row.expiry).length === 1;
  return `${isAlone ? row.expiry : row.slice} · ${Math.round(row.days)} d`;
}

// ── rows of each chart ───────────────────────────────────────────────────────────────────────

const level = (label, value, place = 0) =>
  isNumber(value) ? [{label, level: value, place}] : [];

// A slice by log-moneyness; of a degraded one only the vol at the money.
function curve(row) {
  if (row.quality !== "full") return isNumber(row.atm_iv) ? [[0, row.atm_iv]] : [];
  return ofSlice("surface", row.slice).map((point) => [point.log_moneyness, point.vol]);
}

function strikes(measure) {
  const rows = rowsOf(held("flow", state.session, state.slice, state.convention));
  if (!rows.length) return [];
  const source = held("flow_total", state.session)?.price_source;
  return [
    ...rows.map((row) => ({strike: row.strike, value: row[measure]})),
    ...level("forward", slice(source)?.forward),
    ...level("zero gamma", measure === "gex" ? total()?.zero_gamma : null, 1),
  ];
}

// A year and a half of reports.
const positions = (kind) => reports().slice(-78).flatMap((row) => CLASSES
  .filter(([name]) => isNumber(row[`${name}_${kind}`]))
  .map(([name, holder], i) => ({
    report: day(row.report_date),
    known: Date.parse(row.released_at),
    holder,
    net: row[`${name}_${kind}`],
    release: row.revisions > 0 ? "revised" : row.release_estimated ? "estimated" : "on schedule",
    is_mark: i === 0,
  })));

// A moment with its error: of every expiry at the session, or of one expiry at every session.
function moments(name, rows) {
  return rows.filter((row) => isNumber(row[name])).map((row) => {
    const error = row[`${name}_se`];
    const [low, high] = isNumber(error) ? [row[name] - error, row[name] + error] : [null, null];
    return {...row, value: row[name], error, low, high};
  });
}
const momentsByExpiry = (name) => moments(name, ROWS.cone().map(
  (row) => ({...row, is_chosen: row.slice === state.slice})));
const momentsBySession = (name) => moments(name, ROWS.fan().map(
  (row) => ({...row, is_chosen: row.session === day(state.session)})));

const ROWS = {
  // The chart's height is for liquid and fitted strikes; bars of wide markets end at its edges.
  smile() {
    const points = ofSlice("smile").filter((row) => isNumber(row.vol));
    const sound = points.filter((row) => row.is_liquid || isNumber(row.vol_curve));
    const [low, high] = range(
      (sound.length ? sound : points).flatMap((row) => [row.vol, row.vol_curve]));
    const margin = Math.max(0.35 * (high - low), 0.03);
    const [floor, roof] = [Math.max(0, low - margin), high + margin];
    const inside = (value) => Math.min(roof, Math.max(floor, value));
    const hasBar = (row) => isNumber(row.vol_low) && isNumber(row.vol_high);
    return [
      ...points.filter((row) => row.vol <= roof).map((row) => ({
        ...row,
        liquidity: row.is_liquid ? "liquid" : "not liquid",
        low: hasBar(row) ? inside(row.vol_low) : null,
        high: hasBar(row) ? inside(row.vol_high) : null,
      })),
      ...level("forward", slice()?.forward),
    ];
  },
  smiles: () => slices().flatMap((row, i, all) => curve(row).map(([moneyness, vol]) => ({
    slice: row.slice,
    quality: row.quality,
    is_chosen: row.slice === state.slice,
    shade: 2 + Math.round(6 * i / Math.max(1, all.length - 1)),
    moneyness,
    vol,
  }))),
  surface() {
    const known = slices().map((row) => [row, new Map(curve(row))]);
    const full = known.filter(([row]) => row.quality === "full");
    const middle = Array.from({length: 9}, (_, i) => (i - 4) / 20); // where no slice is full
    const given = full.length ? full.flatMap(([, vols]) => [...vols.keys()]) : middle;
    const columns = [...new Set(given)].sort((one, other) => one - other);
    const [low, high] = range(known.flatMap(([, vols]) => [...vols.values()]));
    const shade = (vol) => high > low ? Math.min(8, Math.floor(9 * (vol - low) / (high - low))) : 4;
    return known.flatMap(([row, vols]) => columns.map((moneyness) => {
      const vol = vols.get(moneyness) ?? null;
      const {slice: name, quality} = row;
      return {slice: name, quality, place: expiryName(row), moneyness, vol, shade: shade(vol)};
    }));
  },
  density() {
    const points = ofSlice("density");
    const quantiles = past().find((row) => row.session === state.session);
    return points.length ? [
      ...points,
      ...level("forward", quantiles?.forward),
      ...level("median", quantiles?.q50, 1),
      ...level("5 %", quantiles?.q05, 2),
      ...level("95 %", quantiles?.q95, 2),
    ] : [];
  },
  fan: () => past().map((row) => ({...row, session: day(row.session)})),
  cone: () => slices().flatMap((row) => past(row.slice)
    .filter((point) => point.session === state.session)
    .map((point) => ({...point, expiry: day(row.expiry)}))),
  vol_by_expiry: () => momentsByExpiry("vol"),
  skew_by_expiry: () => momentsByExpiry("skew"),
  kurtosis_by_expiry: () => momentsByExpiry("kurtosis"),
  vol_by_session: () => momentsBySession("vol"),
  skew_by_session: () => momentsBySession("skew"),
  kurtosis_by_session: () => momentsBySession("kurtosis"),
  gex: () => strikes("gex"),
  vanna: () => strikes("vanna"),
  charm: () => strikes("charm"),
  gamma_history: () => daily().flatMap((row) => DATA.built.conventions
    .map((convention) => [convention, row[`flow_gex_${convention}_oi`]])
    .filter(([, value]) => isNumber(value))
    .map(([convention, value]) => ({session: day(row.session), convention, value}))),
  open_interest() {
    const rows = ofSlice("smile").filter((row) => row.calls || row.puts);
    return rows.length ? [
      ...rows.map(({strike, calls, puts}) =>
        ({strike, calls: calls ?? 0, puts: puts ?? 0, downwards: -(puts ?? 0)})),
      ...level("forward", slice()?.forward),
    ] : [];
  },
  futures_curve() {
    const until = Object.keys(held("futures_curve") ?? {})
      .sort().filter((session) => session <= state.session);
    const curves = {"21 sessions before": 22, "5 sessions before": 6, "the session": 1};
    return Object.entries(curves).flatMap(([when, back]) =>
      rowsOf(held("futures_curve", until.at(-back)))
        .map((row) => ({...row, when, expiry: day(row.expiry)})));
  },
  vols() {
    const measures = {
      opt_atm_iv_30d: "implied, 30 days, quotes",
      opt_settlement_atm_iv_30d: "implied, 30 days, settlements",
      fut_front_rv_cc_21d: "realised, 21 sessions, close to close",
      fut_front_rv_range_21d: "realised, 21 sessions, high to low",
    };
    return daily().flatMap((row) => Object.entries(measures)
      .filter(([name]) => isNumber(row[name]))
      .map(([name, measure]) => ({session: day(row.session), measure, value: row[name]})));
  },
  positions: () => positions("net"),
  option_positions: () => positions("options_net"),
  percentiles() {
    const known = reports();
    const standing = (report, name) => report?.[`${name}_percentile_3y`] ?? null;
    return CLASSES.map(([name, holder]) => ({
      holder,
      net: known.at(-1)?.[`${name}_net`],
      percentile: standing(known.at(-1), name),
      before: standing(known.at(-5), name),
    })).filter((row) => isNumber(row.percentile));
  },
};

// ── what a chart says in words ───────────────────────────────────────────────────────────────

function degraded() {
  const row = slice();
  if (!row || row.quality === "full") return "";
  const error = isNumber(row.atm_iv_se) ? ` ± ${shown(row.atm_iv_se, ".1%")}` : "";
  const money = isNumber(row.atm_iv) ? `at the money ${shown(row.atm_iv, ".1%")}${error}`
    : "not even a vol at the money";
  return `${row.quality === "degraded" ? "Degraded" : "Missing"}: ${row.n_liquid} liquid strikes `
    + `where ${market().min_strikes} are needed, so no curve is given; ${money}.`;
}
const NOTES = {
  smile: () => degraded() || (state.source === "quote" ? "" : "Settlements have no bid and ask."),
  density: degraded,
  fan: degraded,
  skew_by_expiry: degraded,
  kurtosis_by_expiry: degraded,
  skew_by_session: degraded,
  kurtosis_by_session: degraded,
  gex: () => total() && !isNumber(total().zero_gamma)
    ? `No zero-gamma level: ${total().reason ?? "nothing is held"}.` : "",
};

// The text alternative: what is drawn, from where to where.
function sentence(chart, rows) {
  const points = rows.filter((row) => row.level === undefined);
  const spans = chart.fields.filter(([, , format]) => format).flatMap(([name, label, format]) => {
    const [low, high] = range(points.map((row) => row[name]));
    return low <= high ? [`${label} from ${shown(low, format)} to ${shown(high, format)}`] : [];
  });
  const levels = rows.filter((row) => row.level !== undefined)
    .map((row) => `${row.label} at ${shown(row.level, ",.6~r")}`);
  const said = [...spans, ...levels].join("; ");
  return `${chart.title}, ${chart.unit}: ${points.length} points; ${said}.`;
}
