// The charts. Their colors are CSS variables, so they follow dark mode, light mode and print.
const chartConfig = {
  background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
  axis: { labelColor: "var(--soft)", titleColor: "var(--soft)", gridColor: "var(--line)", domainColor: "var(--line)",
    tickColor: "var(--line)", labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 150 },
  axisX: { labelFlush: false, tickCount: 6, labelOverlap: true },
  legend: { labelColor: "var(--ink)", titleColor: "var(--soft)", labelFontSize: 12, symbolStrokeWidth: 2.5, symbolSize: 300, symbolType: "stroke" },
  title: { color: "var(--ink)" }, line: { strokeWidth: 2 }, text: { color: "var(--ink)", fontSize: 12 },
};
const views = {};

async function drawCharts() {
  for (const [id, spec] of Object.entries(specs)) {
    const container = $(id);
    if (!container) continue;
    const { title, ...untitled } = spec; // the figure's caption is the title
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const { view } = await vegaEmbed(container, { ...untitled, config: chartConfig },
      { renderer: "svg", actions: false, tooltip: { theme: dark ? "dark" : "light" } });
    views[id] = view;
  }
}

function setChartData(id, name, rows) {
  const view = views[id];
  if (view) view.data(name, rows.map((row) => ({ ...row }))).runAsync(); // Vega marks the rows as its own
}
