// What stands on the page: figures, tables, and the lists to choose from.

function element(kind, about = {}, ...children) {
  const made = Object.assign(document.createElement(kind), about);
  made.append(...children);
  return made;
}

// ── figures ──────────────────────────────────────────────────────────────────────────────────

function frame(figure) {
  const name = figure.dataset.chart;
  const chart = CHARTS[name];
  const key = element("ul", {className: "key"}, ...chart.key.map(([label, colour, shape]) => {
    const sign = element("i", {className: shape});
    sign.style.setProperty("--colour", colour);
    return element("li", {}, sign, label);
  }));
  const canvas = element("div", {ariaHidden: "true"});
  const plot = element("div", {className: "plot", role: "img"}, canvas);
  const note = element("p", {className: "note"});
  const box = element("div", {className: "scroll"});
  const values = element("details", {}, element("summary", {}, "Values"), box);
  const unit = element("span", {}, ` · ${chart.unit}`);
  const caption = element("figcaption", {}, element("b", {}, chart.title), unit);
  figure.append(caption, key, plot, note, values);
  const made = {name, chart, key, canvas, plot, note, box, values, rows: [], view: null};
  values.addEventListener("toggle", () => list(made));
  figure.addEventListener("pointerleave", () => $("tip").replaceChildren());
  return made;
}

async function draw(figure) {
  const {name, chart, plot, note, values} = figure;
  figure.rows = ROWS[name]();
  const isEmpty = figure.rows.every((row) => row.level !== undefined);
  const said = NOTES[name]?.() ?? "";
  note.textContent = said || (isEmpty ? "Nothing was known to draw here." : "");
  note.classList.toggle("warn", /^(Degraded|Missing)/.test(said));
  plot.hidden = values.hidden = isEmpty;
  list(figure);
  if (name === "surface") ramp(figure);
  if (isEmpty) return;
  plot.setAttribute("aria-label", sentence(chart, figure.rows));
  const rows = sided(figure.rows);
  if (figure.view) {
    await figure.view.data("rows", rows).resize().runAsync();
  } else {
    const options = {ast: true, logLevel: 1, renderer: "svg", actions: false, defaultStyle: false};
    const tooltip = (_, event, item) => point(chart, event, item?.datum);
    const spec = {...chart.spec, datasets: {rows}};
    figure.view = (await vegaEmbed(figure.canvas, spec, {...options, tooltip})).view;
  }
}

// A level's label stands on the side that has room for it, away from the first level's.
function sided(rows) {
  const [low, high] = range(rows.map((row) => row.strike));
  const first = rows.find((row) => row.level !== undefined)?.level;
  return rows.map((row) => {
    const part = (row.level - low) / (high - low);
    const isLeft = part > 0.72 || (part > 0.45 && row.level < first);
    return row.level === undefined ? row : {...row, side: isLeft ? "left" : "right"};
  });
}

// The heat map's scale, as its key.
function ramp({key, rows}) {
  key.querySelector(".scale")?.remove();
  const [low, high] = range(rows.map((row) => row.vol));
  if (!(low <= high)) return;
  const sign = element("i", {className: "ramp"});
  const item = element("li", {className: "scale"}, `vol ${shown(low, ".0%")} `, sign);
  item.append(shown(high, ".0%"));
  key.prepend(item);
}

function list({chart, rows, box, values}) {
  if (!values.open) return;
  const columns = chart.fields.map(([name, label, format]) => [label, (row) => row[name], format]);
  box.replaceChildren(table(columns, rows.filter((row) => row.level === undefined)));
}

function point(chart, event, row) {
  const tip = $("tip");
  const isPoint = row && row.level === undefined;
  tip.replaceChildren(...(isPoint ? chart.fields : []).map(([name, label, format]) =>
    element("div", {}, `${label} `, element("b", {}, shown(row[name], format)))));
  const {width, height} = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 6))}px`;
  tip.style.top = `${Math.max(4, event.clientY - height - 12)}px`;
}

// ── tables ───────────────────────────────────────────────────────────────────────────────────

// columns: heading, a row's value, format; a value may be [text, class].
function table(columns, rows, isChosen = () => false) {
  const isRight = (format) => format && format !== DAY;
  const head = columns.map(([label, , format]) =>
    element("th", {scope: "col", className: isRight(format) ? "number" : ""}, label));
  const lines = rows.map((row) => element("tr", {className: isChosen(row) ? "is-chosen" : ""},
    ...columns.map(([, value, format]) => {
      const [text, kind] = [value(row)].flat();
      const said = shown(text, format);
      const style = isRight(format) ? "number" : said.length > 32 ? "long" : "";
      return element("td", {className: `${style} ${kind ?? ""}`}, said);
    })));
  return element("table", {},
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...lines));
}
function fill(id, columns, rows, isChosen) {
  $(id).replaceChildren(rows.length ? table(columns, rows, isChosen) : "Nothing.");
}
const of = (name, label = words(name), format = undefined) => [label, (row) => row[name], format];
const when = (name, label) => [label, (row) => minute(row[name])];
const graded = ["quality", (row) => [row.quality, row.quality === "full" ? "good" : "poor"]];

const SOURCES = {quote: "quotes at the snapshot", settlement: "settlements"};
const KINDS = {
  fut: "futures",
  opt: "options, quotes",
  opt_settlement: "options, settlements",
  flow: "dealer exposure",
  cot: "positioning",
};

function sessionTables() {
  const all = slices();
  const count = (quality) => all.filter((row) => row.quality === quality).length;
  const thin = count("degraded");
  const {as_of: asOf, n_listed: listed} = held("slices", state.session, state.source) ?? {};
  const missing = listed - all.length;
  $("quality-line").textContent = all.length
    ? `From ${SOURCES[state.source]}, as known at ${minute(asOf)}: `
      + `${count("full")} of ${all.length} expiries have an arbitrage-free curve`
      + (thin ? `, ${thin} are too thin for one and give a vol at the money only` : "")
      + (missing ? `; ${missing} more are listed and not drawn, without a price or far off.` : ".")
    : "";
  $("slices-line").textContent = all.length
    ? `Expiries of the session ${state.session}, from ${state.source}s.` : "";
  fill("slices-table", [
    of("slice", "expiry"), of("days", "days", ".1f"), graded, of("forward", "forward", ",.6~r"),
    ["from", (row) => words(row.forward_source ?? "")], of("atm_iv", "vol at the money", ".1%"),
    of("atm_iv_se", "± error", ".2%"), of("n_strikes", "strikes", "d"),
    of("n_liquid", "liquid", "d"), of("rmse_vol", "curve less quotes", ".2%"),
    of("share_inside", "quotes that hold it", ".0%"),
    of("butterfly_free", "no butterfly arbitrage"), of("calendar_free", "no calendar arbitrage"),
  ], all, (row) => row.slice === state.slice);
  fill("flow-table", [
    ["expiries", (row) => (row.slice === "total" ? "all" : row.slice)],
    ["convention", (row) => words(row.convention)], ["by", (row) => words(row.weight)],
    of("gex", "gamma, USD for 1 %", ".3~s"), of("vanna", "vanna, USD for 1 vol point", ".3~s"),
    of("charm", "charm, USD a day", ".3~s"),
    ["zero gamma", (row) => (isNumber(row.zero_gamma) ? shown(row.zero_gamma, ",.6~r")
      : `none: ${row.reason ?? "nothing is held"}`)],
  ], totals().filter((row) => ["total", state.slice].includes(row.slice)),
  (row) => row.convention === state.convention);
}

function marketTables() {
  fill("sources-table", [
    ["features", (row) => KINDS[row.kind] ?? row.kind], when("as_of", "describe"),
    when("available_at", "known from"),
    ["behind", (row) => (isNumber(row.age) ? `${row.age} ${row.clock}s` : "—")],
    of("n_full", "full", "d"), of("n_degraded", "degraded", "d"), of("n_stale", "stale", "d"),
    of("n_missing", "missing", "d"),
  ], rowsOf(held("sources")));
  fill("findings-table", [
    ["check", (row) => words(row.check_name)],
    ["severity", (row) => [row.severity, row.severity === "error" ? "poor" : ""]],
    of("findings", "found", ",d"), of("newest"), of("example", "for example"),
    when("run_at", "by the run of"),
  ], rowsOf(held("page_findings")));
  const about = Object.fromEntries(
    rowsOf(DATA.built.features).map((row) => [row.feature_name, row]));
  const answers = rowsOf(held("answers"));
  fill("answers-table", [
    of("feature_name", "feature"), of("value", "value", ",.5~r"),
    ["unit", (row) => about[row.feature_name].unit], graded, when("as_of", "describes"),
    when("available_at", "known from"), ["meaning", (row) => about[row.feature_name].description],
  ], answers);
  headline(Object.fromEntries(answers.map((row) => [row.feature_name, row])));
}

function headline(known) {
  const first = (...names) => names.map((name) => known[name]).find((row) => isNumber(row?.value))
    ?? known[names[0]];
  const tiles = [
    ["Front month", first("fut_front_close"), ",.6~r", market().quote_unit],
    ["Implied vol, 30 days", first("opt_atm_iv_30d", "opt_settlement_atm_iv_30d"), ".1%"],
    ["Realised vol, 21 sessions", first("fut_front_rv_cc_21d"), ".1%"],
    ["25-delta risk reversal, 90 days", first("opt_rr_25d_90d", "opt_settlement_rr_25d_90d"),
      "+.1%"],
    ["Managed money, 3-year percentile", first("cot_managed_money_percentile_3y"), ".0%"],
  ];
  $("figures").replaceChildren(...tiles.map(([label, row, format, unit]) => {
    const isSettled = row?.feature_name.startsWith("opt_settlement");
    const quality = row?.quality === "full" ? "" : row?.quality;
    const date = row?.as_of ? `of ${row.as_of.slice(0, 10)}` : "";
    const source = isSettled ? "settlements" : "";
    const about = [unit, quality, date, source].filter(Boolean).join(" · ");
    return element("div", {}, element("dt", {}, label),
      element("dd", {}, shown(row?.value, format), element("small", {}, about)));
  }));
}

function provenance() {
  const {run, batches, views} = DATA.built;
  const versions = `hydra-lake ${run.hydra_version}, DuckDB ${run.duckdb_version}, `
    + `Python ${run.python_version}`;
  fill("built-table", [["", (row) => row[0]], ["", (row) => row[1]]], [
    ["page drawn as known at", minute(DATA.known_by)],
    ["database built at", minute(run.built_at)],
    ["data", run.origin === "sample" ? "synthetic, of the sample vendor" : "of vendors"],
    ["versions", versions],
    ["SHA-256 of the deriving SQL", run.code_sha256],
  ]);
  fill("batches-table", [
    of("source"), of("batches", "batches", ",d"), of("rows", "rows", ",d"),
    when("first_ingested_at", "first landed"), when("last_ingested_at", "last landed"),
  ], batches);
  fill("views-table", [
    of("view_name", "view"), of("status"), of("sentence", "a row is"), of("sha256", "SHA-256"),
  ], views);
}

// ── choosing ─────────────────────────────────────────────────────────────────────────────────

function offer(id, options, wanted) {
  const values = options.map(([value]) => value);
  $(id).replaceChildren(...options.map(([value, label]) => new Option(label, value)));
  $(id).disabled = !options.length;
  state[id] = values.includes(wanted) ? wanted : values[0];
  if (options.length) $(id).value = state[id];
}

// The source of prices that more slices are whole with.
function thicker() {
  const full = (source) => slices(source).filter((row) => row.quality === "full").length;
  return full("settlement") > full("quote") ? "settlement" : "quote";
}

async function choose(wanted) {
  const asked = {...state, ...wanted};
  const markets = Object.entries(DATA.markets);
  offer("market", markets.map(([code, {name}]) => [code, `${code} · ${name}`]), asked.market);
  $("main").hidden = !state.market;
  $("nothing").textContent = state.market ? "" : "Nothing was known then.";
  if (!state.market) return;
  offer("session", sessions().reverse().map((session) => [session, session]), asked.session);
  const sources = Object.keys(held("slices", state.session) ?? {}).sort();
  offer("source", sources.map((source) => [source, SOURCES[source]]), asked.source ?? thicker());
  const all = slices();
  const later = all.filter((row) => row.days >= 7);
  const front = later.find((row) => row.quality === "full") ?? later[0];
  const isHeld = all.some((row) => row.slice === asked.slice);
  offer("slice", all.map((row) => [row.slice, `${expiryName(row)} · ${row.quality}`]),
    isHeld ? asked.slice : front?.slice);
  const conventions = [...new Set(totals().map((row) => row.convention))];
  offer("convention", conventions.map((name) => [name, words(name)]),
    asked.convention ?? "calls_long_puts_short");
  const {session, source} = state;
  $("market-name").textContent = [market().name, session].filter(Boolean).join(", ");
  $("chosen").textContent = [
    state.market, session, SOURCES[source], state.slice && `expiry ${state.slice}`,
  ].filter(Boolean).join(" · ");
  remember([state.market, session, source, state.slice].filter(Boolean));
  sessionTables();
  marketTables();
  for (const figure of figures) {
    await draw(figure);
    await new Promise((done) => setTimeout(done)); // lets the browser show what is drawn
  }
}

function remember(choices) {
  try {
    history.replaceState(null, "", `#${choices.map(encodeURIComponent).join("/")}`);
  } catch {
    // a page inside another may have no address
  }
}

let running = Promise.resolve();
let drawings = 0;
function run(wanted) {
  running = running.then(() => choose(wanted)).then(() => {
    document.documentElement.dataset.drawn = ++drawings;
  });
}

const figures = [...document.querySelectorAll("figure[data-chart]")].map(frame);
for (const id of ["market", "session", "source", "slice", "convention"]) {
  $(id).addEventListener("change", () => {
    // Another market has expiries and a thicker source of prices of its own.
    const fresh = id === "market" ? {source: undefined, slice: undefined} : {};
    run({...fresh, [id]: $(id).value});
  });
}
for (const form of document.forms) {
  form.addEventListener("submit", (event) => event.preventDefault());
}
provenance();
const [code, session, source, name] = location.hash.slice(1).split("/").map(decodeURIComponent);
run({market: code, session, source: source || undefined, slice: name});
