// The charts: colours that stand in the page's style sheet, so that they follow dark, light and print.
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
    const place = $(id);
    if (!place) continue;
    const { title, ...untitled } = spec; // the figure's caption says it
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const { view } = await vegaEmbed(place, { ...untitled, config: chartConfig },
      { renderer: "svg", actions: false, tooltip: { theme: dark ? "dark" : "light" } });
    views[id] = view;
  }
}

function setChartData(id, name, rows) {
  const view = views[id];
  if (view) view.data(name, rows).runAsync();
}
