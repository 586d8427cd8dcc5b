"use strict";
// What the interactive part draws: for a selection, each chart's traces, layout, title and numbers.
// A selection: a panel, its ticked methods, the measure's key, the method compared with, and a sparsity.
const explorerText = (() => {
  const unsignedZero = (text) => text.replace(/^-(?=[0.]+$)/, "");
  const fixed = (value, digits = 2) => (value === null ? "–" : unsignedZero(value.toFixed(digits)).replace("-", "−"));
  const signed = (value) => (value >= 0.005 ? "+" : "") + fixed(value);
  const interval = ([mean, low, high, n], show) =>
    low === null ? `${show(mean)}, n = ${n}, no interval` : `${show(mean)} (${show(low)} to ${show(high)}), n = ${n}`;
  return { fixed, signed, interval };
})();

const explorerCharts = (data) => {
  const { fixed, signed, interval } = explorerText;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (method) => {
    if (!dark.matches) return method.colour;
    const mixed = [1, 3, 5].map((at) => Math.round(parseInt(method.colour.slice(at, at + 2), 16) * 0.65 + 255 * 0.35));
    return `rgb(${mixed})`;
  };
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const safe = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const place = (percent) => -Math.log10(100 - percent);
  const known = (estimate) => Boolean(estimate) && estimate[0] !== null;

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
  // Named below the line, for what lies above the highest would be cut off, at the end that curves stay clear of.
  const level = (text, y, dash, textposition = "end") => ({
    type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: style("--ink"), width: 1.5, dash },
    label: { text, textposition, font: { size: 11, color: style("--ink") }, yanchor: "top" },
  });

  // A method's estimates along x: its mean as a line, its interval as a band, or as a bar if it has one point.
  function traces(method, x, values, text) {
    const shade = colour(method);
    const tint = shade.replace(/^rgb\((.*)\)$/, "rgba($1,0.14)").replace(/^(#......)$/, "$124");
    const band = { x, hoverinfo: "skip", mode: "lines", line: { width: 0 }, type: "scatter" };
    const line = {
      x, y: values.map((value) => value[0]), text, hoverinfo: "text", mode: "lines+markers", name: safe(method.label),
      line: { color: shade, dash: method.dash, width: 2 }, marker: { symbol: method.symbol, size: 8, color: shade },
    };
    if (values.length > 1) {
      return [{ ...band, y: values.map((value) => value[1]) },
        { ...band, y: values.map((value) => value[2]), fill: "tonexty", fillcolor: tint }, line];
    }
    const [[mean, low, high]] = values.length ? values : [[0, null, null]];
    if (low !== null) {
      line.error_y = { type: "data", symmetric: false, thickness: 1.5, width: 4, color: shade,
        array: [high - mean], arrayminus: [mean - low] };
    }
    return [line];
  }

  // An axis that holds all but the widest intervals, which would flatten all others, and the values in `also`.
  function fit(settings, estimates, also) {
    const ends = estimates.map(([mean, low, high]) => [low ?? mean, high ?? mean]);
    const widths = ends.map(([low, high]) => high - low).sort((a, b) => a - b);
    const usual = ends.filter(([low, high]) => high - low <= 6 * widths[Math.floor(widths.length / 2)]);
    const values = [...usual.flat(), ...also];
    if (!usual.length || usual.length === ends.length) return "";
    const [low, high] = [Math.min(...values), Math.max(...values)];
    settings.yaxis.range = [low - 0.05 * (high - low), high + 0.05 * (high - low)];
    return "; the widest intervals go on beyond the axis";
  }

  const cellsOf = (panel, method) => panel.cells.filter((cell) => cell.method === method.name);
  const sparsitiesOf = (panel) => [...new Set(panel.cells.map((cell) => cell.sparsity))].sort((a, b) => a - b);
  const difference = ({ measure, base }) => (cell) => cell.differences[base.name]?.[measure];

  // Estimates against sparsity: `estimate` takes one from a cell, `words` says it, `also` is kept in sight.
  function bySparsity({ panel }, methods, estimate, words, settings, also) {
    const sparsities = sparsitiesOf(panel);
    Object.assign(settings.xaxis, { tickvals: sparsities.map(place), ticktext: sparsities.map(String) });
    const found = methods.flatMap((method) =>
      cellsOf(panel, method).filter((cell) => known(estimate(cell))).map((cell) => ({ method, cell, value: estimate(cell) })));
    const drawn = methods.flatMap((method) => {
      const mine = found.filter((entry) => entry.method === method);
      const text = mine.map(({ cell, value }) => `<b>${safe(method.label)}</b>, ${cell.sparsity}%<br>${interval(value, words)}`
        + (cell.diverged ? `<br>${cell.diverged} of ${cell.children} children diverged` : ""));
      return traces(method, mine.map(({ cell }) => place(cell.sparsity)), mine.map(({ value }) => value), text);
    });
    const beyond = fit(settings, found.map(({ value }) => value), also);
    const numbers = found.map(({ method, cell, value }) => [method.label, cell.sparsity, ...value, cell.diverged]);
    return { drawn, settings, beyond, numbers, heads: ["method", "sparsity", "mean", "low", "high", "n", "diverged"] };
  }

  function accuracy(selection) {
    const words = data.measures.find((entry) => entry.key === selection.measure).name;
    const dense = selection.measure === "accuracy" && known(selection.panel.dense) ? selection.panel.dense : null;
    const settings = layout("Sparsity (%)", "Test accuracy (%)",
      { shapes: dense ? [level("dense child", dense[0], "6px,3px")] : [] });
    const chart = bySparsity(selection, selection.methods, (cell) => cell[selection.measure], fixed, settings,
      dense ? [dense[0]] : []);
    const title = `${words}, by sparsity${chart.beyond}` + (dense ? `; dense child ${interval(dense, fixed)}` : "");
    return { ...chart, title, about: { measure: selection.measure } };
  }

  function paired(selection) {
    const { base } = selection;
    const zero = level("", 0, "solid");
    const small = { type: "rect", xref: "paper", x0: 0, x1: 1, y0: -data.smallest, y1: data.smallest,
      fillcolor: style("--soft"), opacity: 0.18, line: { width: 0 }, layer: "below" };
    const settings = layout("Sparsity (%)", "Difference (points)", { shapes: [zero, small] });
    const others = selection.methods.filter((method) => method !== base);
    const chart = bySparsity(selection, others, difference(selection), signed, settings, [0]);
    const title = chart.numbers.length
      ? `Paired difference to ${base.label}, by sparsity; grey: below ${data.smallest} points${chart.beyond}`
      : `No ticked method can be compared with ${base.label} here`;
    return { ...chart, title, about: { measure: selection.measure, minus: base.label } };
  }

  function byEpoch({ panel, methods, sparsity }) {
    const curves = methods.map((method) =>
      ({ method, curve: cellsOf(panel, method).find((cell) => cell.sparsity === sparsity)?.curve ?? [] }));
    const drawn = curves.flatMap(({ method, curve }) => traces(method, curve.map(([epoch]) => epoch),
      curve.map(([, ...values]) => values), curve.map(([epoch, ...values]) =>
        `<b>${safe(method.label)}</b>, epoch ${epoch}<br>${interval(values, fixed)}`)));
    const ends = panel.ends.map((x) => ({ type: "line", yref: "paper", y0: 0, y1: 1, x0: x, x1: x,
      line: { color: style("--soft"), width: 1, dash: "2px,3px" } }));
    const settings = layout("Epoch", "Test accuracy (%)",
      { shapes: [level("parent", panel.parent[0], "6px,3px", "start"), ...ends] });
    const title = `The target subnetwork at ${sparsity}% sparsity, epoch by epoch, BatchNorm re-estimated; `
      + `dotted: annealing ends; parents ${interval(panel.parent, fixed)}`;
    const numbers = curves.flatMap(({ method, curve }) => curve.map((values) => [method.label, ...values]));
    return { drawn, settings, title, numbers, heads: ["method", "epoch", "mean", "low", "high", "n"], about: { sparsity } };
  }

  // The table at one sparsity: each method's estimate, and its difference to the method compared with.
  function chosen(selection) {
    const { panel, methods, measure, base, sparsity } = selection;
    const cells = methods.flatMap((method) => cellsOf(panel, method).filter((cell) => cell.sparsity === sparsity)
      .map((cell) => [method.label, ...cell[measure], ...(difference(selection)(cell) ?? [null, null, null, null]),
        cell.diverged, cell.children]));
    const ends = (name) => [name, `${name}_low`, `${name}_high`, `${name}_n`];
    return { numbers: cells, heads: ["method", ...ends(measure), ...ends("difference"), "diverged", "children"],
      about: { sparsity, minus: base.label } };
  }

  const all = { "by-sparsity": accuracy, paired, "by-epoch": byEpoch };
  return { all, chosen, colour, dark, cellsOf, sparsitiesOf };
};
