"use strict";
// The interactive part. Estimates come ready from the page's data; this script chooses among them and shows them.
(() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const root = document.getElementById("explorer");
  const form = root.querySelector("form");
  const charts = explorerCharts(data);
  const { fixed, signed, interval } = explorerText;
  const look = new Map(data.methods.map((method) => [method.name, method]));
  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
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
  function nearest(key, value) {
    const shared = (other) => varied.filter((choice) => other.choice[choice.key] === panel.choice[choice.key]).length;
    const able = data.panels.filter((other) => other.choice[key] === value);
    return able.reduce((best, other) => (shared(other) > shared(best) ? other : best));
  }

  for (const choice of varied) {
    const options = choice.values.map((value) => [value, value]);
    const changed = (value) => { panel = nearest(choice.key, value); chosen(); };
    selects.set(choice.key, pick(choice.name, options, changed).select);
  }
  const measure = pick("Measure", data.measures.map((entry) => [entry.key, entry.name]), () => chosen()).select;
  const baseline = pick("Differences to", data.baselines.map((entry) => [entry.key, entry.name]), () => chosen()).select;
  const sparsity = pick("Sparsity of curves and table", [], () => chosen());

  // A line and a marker in the method's own look.
  const swatch = (method) => {
    const line = element("i");
    line.style.borderTopStyle = { solid: "solid", "2px,2px": "dotted" }[method.dash] ?? "dashed";
    const made = element("span", { class: "swatch", "aria-hidden": "true" }, line, method.glyph);
    made.style.color = charts.colour(method);
    return made;
  };
  const boxes = new Map();
  const methods = element("fieldset", {}, element("legend", {}, "Methods"));
  form.append(methods);
  for (const method of data.methods) {
    const box = element("input", { type: "checkbox", value: method.name, checked: "" });
    box.addEventListener("change", () => chosen());
    boxes.set(method.name, box);
    methods.append(element("label", {}, box, swatch(method), method.label));
  }
  form.addEventListener("submit", (event) => event.preventDefault());

  const selection = () => ({
    panel, measure: measure.value, base: look.get(baseline.value), sparsity: Number(sparsity.select.value),
    methods: data.methods.filter((method) => boxes.get(method.name).checked && charts.cellsOf(panel, method).length),
  });

  // The address holds the selection, so that a link shows what its sender saw.
  function address() {
    const ticked = [...boxes].filter(([, box]) => box.checked).map(([name]) => name).join(",");
    const said = { measure: measure.value, baseline: baseline.value, sparsity: sparsity.select.value, methods: ticked };
    return `#explore&${new URLSearchParams([...varied.map(({ key }) => [key, panel.choice[key]]), ...Object.entries(said)])}`;
  }

  // What the address does not say, or says of another study, stays as it is. Returns whether it has a selection.
  function restore() {
    if (!location.hash.startsWith("#explore&")) return false;
    const said = new URLSearchParams(location.hash.slice("#explore&".length));
    const agrees = (other) => varied.filter(({ key }) => other.choice[key] === said.get(key)).length;
    panel = data.panels.reduce((best, other) => (agrees(other) > agrees(best) ? other : best), panel);
    refill();
    for (const [key, select] of [["measure", measure], ["baseline", baseline], ["sparsity", sparsity.select]]) {
      if ([...select.options].some((option) => option.value === said.get(key))) select.value = said.get(key);
    }
    const ticked = said.get("methods")?.split(",");
    if (ticked) for (const [name, box] of boxes) box.checked = ticked.includes(name);
    return true;
  }

  // Broken between its parts only: the mean, the interval, n.
  const kept = (text) => text.replaceAll(" to ", "\u00a0to\u00a0").replaceAll("n = ", "n\u00a0=\u00a0");

  function table(now) {
    const rows = charts.chosen(now).numbers.map(([method, mean, low, high, n, gain, less, more, pairs, diverged, children]) =>
      element("tr", {}, element("th", { scope: "row" }, method),
        element("td", {}, kept(interval([mean, low, high, n], fixed))),
        element("td", {}, gain === null ? "–" : kept(interval([gain, less, more, pairs], signed))),
        element("td", {}, `${diverged} of ${children}`)));
    const heads = ["Method", "Accuracy (%)", `Difference to ${now.base.label} (points)`, "Diverged children"];
    root.querySelector("thead").replaceChildren(element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text))));
    document.getElementById("chosen").replaceChildren(...rows);
    document.getElementById("chosen-title").textContent =
      `At ${now.sparsity}% sparsity: mean, 95% t-interval and number n of parents.`;
  }

  let drawing = null;
  function draw(now) {
    if (!drawing || !now.methods.length) return;
    drawing.then(() => {
      for (const [id, chart] of Object.entries(charts.all)) {
        const { drawn, settings } = chart(now);
        window.Plotly.react(id, drawn, settings, { displayModeBar: false, responsive: true });
      }
      root.dataset.drawn = "yes";
    }).catch((error) => {
      root.querySelector(".status").textContent = `The charts cannot be drawn in this browser (${error.message}).`;
    });
  }

  // The lists that depend on the panel.
  function refill() {
    for (const [key, select] of selects) select.value = panel.choice[key];
    const before = sparsity.select.value;
    const sparsities = charts.sparsitiesOf(panel).map(String);
    sparsity.fill(sparsities.map((value) => [value, `${value}%`]));
    const methodsAt = (value) => panel.cells.filter((cell) => String(cell.sparsity) === value).length;
    const fullest = sparsities.reduce((best, value) => (methodsAt(value) >= methodsAt(best) ? value : best));
    sparsity.select.value = sparsities.includes(before) ? before : fullest;
    for (const [name, box] of boxes) box.parentElement.hidden = !charts.cellsOf(panel, look.get(name)).length;
  }

  function show() {
    refill();
    const now = selection();
    const said = data.choices.map((choice) => `${choice.name}: ${panel.choice[choice.key]}`).join("; ");
    const none = now.methods.length ? "" : " No method is ticked: tick one to see its results.";
    root.querySelector(".status").textContent = `${said}.${none}`;
    root.querySelector(".results").hidden = Boolean(none);
    for (const [id, chart] of Object.entries(charts.all)) {
      document.getElementById(`${id}-title`).textContent = chart(now).title;
    }
    table(now);
    draw(now);
  }

  function chosen() {
    show();
    history.replaceState(null, "", address());
  }

  // The numbers of a chart as it is now, each line with the choices that it holds for.
  const quoted = (value) => (/[",\n]/.test(value ?? "") ? `"${value.replaceAll('"', '""')}"` : String(value ?? ""));
  function csv(id) {
    const now = selection();
    const { about, heads, numbers } = (charts.all[id] ?? charts[id])(now);
    const said = { ...panel.choice, ...about };
    const lines = [[...Object.keys(said), ...heads], ...numbers.map((line) => [...Object.values(said), ...line])];
    return lines.map((line) => `${line.map(quoted).join(",")}\n`).join("");
  }
  root.querySelectorAll("a[data-chart]").forEach((link) => link.addEventListener("click", () => {
    link.href = `data:text/csv;charset=utf-8,${encodeURIComponent(csv(link.dataset.chart))}`;
  }));

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
    draw(selection());
  }
  function follow() {
    if (!restore()) return;
    show();
    document.getElementById("explore").scrollIntoView();
  }

  root.hidden = false;
  show();
  follow();
  addEventListener("hashchange", follow);
  new IntersectionObserver((entries, observer) => {
    if (entries.some((entry) => entry.isIntersecting)) { observer.disconnect(); start(); }
  }, { rootMargin: "600px" }).observe(root);
  addEventListener("beforeprint", start);
  charts.dark.addEventListener("change", () => {
    data.methods.forEach((method, i) => methods.querySelectorAll(".swatch")[i].replaceWith(swatch(method)));
    draw(selection());
  });
})();
