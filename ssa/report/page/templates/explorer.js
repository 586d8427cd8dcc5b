"use strict";
// The interactive part. Estimates come ready from the page's data; this script chooses among them and draws them.
(() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const root = document.getElementById("explorer");
  const form = root.querySelector("form");
  const look = new Map(data.methods.map((method) => [method.name, method]));
  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const unsignedZero = (text) => text.replace(/^-(?=[0.]+$)/, "");
  const fixed = (value, digits = 2) => (value === null ? "–" : unsignedZero(value.toFixed(digits)).replace("-", "−"));
  const signed = (value) => (value >= 0.005 ? "+" : "") + fixed(value);
  const interval = (estimate, show) => {
    const [mean, low, high, n] = estimate;
    return `${show(mean)}${low === null ? "" : ` (${show(low)} to ${show(high)})`}, n = ${n}`;
  };

  // The state: one panel, and what to show of it.
  const varied = data.choices.filter((choice) => choice.values.length > 1);
  const selects = new Map();
  let panel = data.panels[0];

  function pick(name, options, changed) {
    const select = element("select", { id: `choose-${name.replaceAll(/[^a-z]+/gi, "-")}` });
    const fill = (values) => select.replaceChildren(...values.map(([value, text]) => element("option", { value }, text)));
    fill(options);
    select.addEventListener("change", () => changed(select.value));
    form.append(element("label", { class: "pick" }, name, select));
    return { select, fill };
  }

  // The panel with the new value that shares most of the other choices: not every combination was run.
  function choose(key, value) {
    const shared = (other) => varied.filter((choice) => other.choice[choice.key] === panel.choice[choice.key]).length;
    const able = data.panels.filter((other) => other.choice[key] === value);
    panel = able.reduce((best, other) => (shared(other) > shared(best) ? other : best));
    show();
  }

  for (const choice of varied) {
    const options = choice.values.map((value) => [value, value]);
    selects.set(choice.key, pick(choice.name, options, (value) => choose(choice.key, value)).select);
  }
  const measure = pick("Measure", data.measures.map((entry) => [entry.key, entry.name]), () => show()).select;
  const baseline = pick("Differences to", data.baselines.map((entry) => [entry.key, entry.name]), () => show()).select;
  const sparsity = pick("Sparsity of curves and table", [], () => show());

  // A line and a marker in the method's own look.
  const swatch = (method) => {
    const line = element("i");
    line.style.borderTopStyle = { solid: "solid", "2px,2px": "dotted" }[method.dash] ?? "dashed";
    const made = element("span", { class: "swatch", "aria-hidden": "true" }, line, method.glyph);
    made.style.color = colour(method);
    return made;
  };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (method) => {
    if (!dark.matches) return method.colour;
    const mixed = [1, 3, 5].map((at) => Math.round(parseInt(method.colour.slice(at, at + 2), 16) * 0.65 + 255 * 0.35));
    return `rgb(${mixed})`;
  };
  const boxes = new Map();
  const methods = element("fieldset", {}, element("legend", {}, "Methods"));
  form.append(methods);
  for (const method of data.methods) {
    const box = element("input", { type: "checkbox", value: method.name, checked: "" });
    box.addEventListener("change", () => show());
    boxes.set(method.name, box);
    methods.append(element("label", {}, box, swatch(method), method.label));
  }
  form.addEventListener("submit", (event) => event.preventDefault());

  // What is drawn.
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const layout = (x, y, extra) => ({
    margin: { l: 52, r: 12, t: 8, b: 44 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: style("--ink") },
    hoverlabel: { bgcolor: style("--wash"), bordercolor: style("--soft"), font: { color: style("--ink") } },
    showlegend: false, dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    xaxis: { title: { text: x, standoff: 8 }, gridcolor: style("--line"), zeroline: false, automargin: true },
    yaxis: { title: { text: y, standoff: 4 }, gridcolor: style("--line"), zeroline: false, automargin: true },
    ...extra,
  });
  const safe = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  // Named below the line, for what lies above the highest would be cut off, at the end that curves stay clear of.
  const level = (text, y, dash, textposition = "end") => ({
    type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: style("--ink"), width: 1.5, dash },
    label: { text, textposition, font: { size: 11, color: style("--ink") }, yanchor: "top" },
  });
  const place = (percent) => -Math.log10(100 - percent);

  // One method's estimates against sparsity; methods stand side by side so that their intervals can be told apart.
  function against(method, order, cells, estimate, show_as) {
    const known = cells.filter((cell) => estimate(cell));
    const values = known.map(estimate);
    return {
      x: known.map((cell) => place(cell.sparsity) + 0.022 * (order - (shown().length - 1) / 2)),
      y: values.map((value) => value[0]),
      error_y: {
        type: "data", symmetric: false, thickness: 1.5, width: 3, color: colour(method),
        array: values.map((value) => (value[2] === null ? 0 : value[2] - value[0])),
        arrayminus: values.map((value) => (value[1] === null ? 0 : value[0] - value[1])),
      },
      text: known.map((cell, i) => `<b>${safe(method.label)}</b>, ${cell.sparsity}%<br>${interval(values[i], show_as)}`
        + (cell.diverged ? `<br>${cell.diverged} of ${cell.children} children diverged` : "")),
      hoverinfo: "text", mode: "lines+markers", name: safe(method.label),
      line: { color: colour(method), dash: method.dash, width: 2 },
      marker: { symbol: method.symbol, size: 8, color: colour(method) },
    };
  }

  // An axis that holds all but the widest intervals, which would flatten all others, and the values in `also`.
  function fit(layout, traces, also) {
    const ends = traces.flatMap((trace) =>
      trace.y.map((y, i) => [y - trace.error_y.arrayminus[i], y + trace.error_y.array[i]]));
    const widths = ends.map(([low, high]) => high - low).sort((a, b) => a - b);
    const usual = ends.filter(([low, high]) => high - low <= 6 * widths[Math.floor(widths.length / 2)]);
    const values = [...usual.flat(), ...also];
    if (!usual.length || usual.length === ends.length) return "";
    const [low, high] = [Math.min(...values), Math.max(...values)];
    layout.yaxis.range = [low - 0.05 * (high - low), high + 0.05 * (high - low)];
    return "; the widest intervals go on beyond the axis";
  }

  const shown = () => data.methods.filter((method) => boxes.get(method.name).checked
    && panel.cells.some((cell) => cell.method === method.name));
  const of = (method) => panel.cells.filter((cell) => cell.method === method.name);

  function charts() {
    const sparsities = [...new Set(panel.cells.map((cell) => cell.sparsity))].sort((a, b) => a - b);
    const ticks = { tickvals: sparsities.map(place), ticktext: sparsities.map(String) };
    const chosen = Number(sparsity.select.value);
    const base = look.get(baseline.value);
    const words = data.measures.find((entry) => entry.key === measure.value).name;
    const dense = measure.value === "accuracy" && panel.dense[0] !== null ? panel.dense : null;

    const accuracy = shown().map((method, i) => against(method, i, of(method), (cell) => cell[measure.value], fixed));
    const first = layout("Sparsity (%)", "Test accuracy (%)", { shapes: dense ? [level("dense child", dense[0], "6px,3px")] : [] });
    Object.assign(first.xaxis, ticks);
    const beyond = fit(first, accuracy, dense ? [dense[0]] : []);
    title("by-sparsity", `${words}, by sparsity${beyond}` + (dense ? `; dense child ${interval(dense, fixed)}` : ""));

    const others = shown().filter((method) => method !== base);
    const paired = others.map((method, i) =>
      against(method, i, of(method), (cell) => cell.differences[base.name]?.[measure.value], signed));
    const second = layout("Sparsity (%)", "Difference (points)", { shapes: [{
      ...level("", 0, "solid") }, { type: "rect", xref: "paper", x0: 0, x1: 1, y0: -data.smallest, y1: data.smallest,
      fillcolor: style("--soft"), opacity: 0.18, line: { width: 0 }, layer: "below" }] });
    Object.assign(second.xaxis, ticks);
    const wide = fit(second, paired, [0]);
    title("paired", `Paired difference to ${base.label}, by sparsity; grey: below ${data.smallest} points${wide}`);

    const curves = [];
    for (const method of shown()) {
      const curve = of(method).find((cell) => cell.sparsity === chosen)?.curve ?? [];
      const x = curve.map((point) => point[0]);
      const band = { x, hoverinfo: "skip", mode: "lines", line: { width: 0 }, type: "scatter" };
      const tint = colour(method).replace(/^rgb\((.*)\)$/, "rgba($1,0.14)").replace(/^(#......)$/, "$124");
      curves.push({ ...band, y: curve.map((point) => point[2]) });
      curves.push({ ...band, y: curve.map((point) => point[3]), fill: "tonexty", fillcolor: tint });
      curves.push({
        x, y: curve.map((point) => point[1]), mode: "lines+markers", hoverinfo: "text", name: safe(method.label),
        text: curve.map(([epoch, ...values]) => `<b>${safe(method.label)}</b>, epoch ${epoch}<br>${interval(values, fixed)}`),
        line: { color: colour(method), dash: method.dash, width: 2 },
        marker: { symbol: method.symbol, size: 7, color: colour(method) },
      });
    }
    const third = layout("Epoch", "Test accuracy (%)", { shapes: [level("parent", panel.parent[0], "6px,3px", "start"),
      ...panel.ends.map((x) => ({ type: "line", yref: "paper", y0: 0, y1: 1, x0: x, x1: x,
        line: { color: style("--soft"), width: 1, dash: "2px,3px" } }))] });
    title("by-epoch", `The target subnetwork at ${chosen}% sparsity, epoch by epoch, BatchNorm re-estimated; `
      + `dotted: annealing ends; parents ${interval(panel.parent, fixed)}`);
    return { "by-sparsity": [accuracy, first], paired: [paired, second], "by-epoch": [curves, third] };
  }

  function title(id, text) { document.getElementById(`${id}-title`).textContent = text; }

  // Broken between its parts only: the mean, the interval, n.
  const kept = (text) => text.replaceAll(" to ", "\u00a0to\u00a0").replaceAll("n = ", "n\u00a0=\u00a0");

  function table() {
    const chosen = Number(sparsity.select.value);
    const base = look.get(baseline.value);
    const cells = shown().flatMap((method) => of(method).filter((cell) => cell.sparsity === chosen));
    const rows = cells.map((cell) => {
      const difference = cell.differences[base.name]?.[measure.value];
      return element("tr", {}, element("th", { scope: "row" }, look.get(cell.method).label),
        element("td", {}, kept(interval(cell[measure.value], fixed))),
        element("td", {}, difference ? kept(interval(difference, signed)) : "–"),
        element("td", {}, `${cell.diverged} of ${cell.children}`));
    });
    const heads = ["Method", "Accuracy (%)", `Difference to ${base.label} (points)`, "Diverged children"];
    root.querySelector("thead").replaceChildren(element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text))));
    document.getElementById("chosen").replaceChildren(...rows);
    document.getElementById("chosen-title").textContent =
      `At ${chosen}% sparsity: mean, 95% t-interval and number n of parents.`;
  }

  let drawing = null;
  function draw() {
    if (!drawing) return;
    drawing.then(() => {
      for (const [id, [traces, settings]] of Object.entries(charts())) {
        window.Plotly.react(id, traces, settings, { displayModeBar: false, responsive: true });
      }
      root.dataset.drawn = "yes";
    }).catch((error) => {
      root.querySelector(".status").textContent = `The charts cannot be drawn in this browser (${error.message}).`;
    });
  }

  function show() {
    for (const [key, select] of selects) select.value = panel.choice[key];
    const before = sparsity.select.value;
    const sparsities = [...new Set(panel.cells.map((cell) => cell.sparsity))].sort((a, b) => a - b).map(String);
    sparsity.fill(sparsities.map((value) => [value, `${value}%`]));
    sparsity.select.value = sparsities.includes(before) ? before : sparsities.at(-1);
    for (const [name, box] of boxes) {
      box.parentElement.hidden = !panel.cells.some((cell) => cell.method === name);
    }
    const said = data.choices.map((choice) => `${choice.name}: ${panel.choice[choice.key]}`).join("; ");
    root.querySelector(".status").textContent = `${said}.`;
    charts();
    table();
    draw();
  }

  // The plotting library is large: it is unpacked and run when a reader comes near, not before.
  async function load() {
    const packed = Uint8Array.from(atob(document.getElementById("plotly-gzip").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = element("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    document.getElementById("plotly-gzip").remove();
  }
  function start() {
    if (drawing) return;
    drawing = load();
    draw();
  }

  root.hidden = false;
  show();
  new IntersectionObserver((entries, observer) => {
    if (entries.some((entry) => entry.isIntersecting)) { observer.disconnect(); start(); }
  }, { rootMargin: "600px" }).observe(root);
  addEventListener("beforeprint", start);
  dark.addEventListener("change", () => {
    data.methods.forEach((method, i) => methods.querySelectorAll(".swatch")[i].replaceWith(swatch(method)));
    draw();
  });
})();
