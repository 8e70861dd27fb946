// Draws each figure when it scrolls into view, in the colours of the theme.

const figures = (() => {
  const elements = [...document.querySelectorAll("[data-figure]")];
  const drawn = new Set();
  const clickListeners = []; // called with the key of the figure and the point

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  /** The colour of a trace; in the dark theme a third of the way to white. */
  function visible(hex) {
    if (!theme.dark || !/^#[0-9a-f]{6}$/.test(hex ?? "")) return hex;
    const parts = [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
    return `rgb(${parts.map((part) => Math.round(part + (255 - part) / 3)).join(",")})`;
  }

  function axis(of) {
    return { automargin: true, gridcolor: colour("grid"), linecolor: colour("line"), zeroline: false, ...of };
  }

  function layout(of) {
    return {
      autosize: true,
      height: 320,
      margin: { l: 52, r: 12, t: 28, b: 44 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("soft"), font: { color: colour("ink") }, align: "left" },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      uirevision: "kept", // a change of theme keeps the zoom
      ...of,
      font: { family: colour("sans"), size: 12, color: colour("ink"), ...of.font },
      xaxis: axis(of.xaxis),
      yaxis: axis(of.yaxis),
      shapes: (of.shapes ?? []).map((shape) => ({ ...shape, line: { ...shape.line, color: colour("soft") } })),
    };
  }

  function hover({ names, counts, axes }, shares) {
    const percent = (share) => (share === null ? "no samples" : `${(100 * share).toFixed(1)} %`);
    return shares.map((row, i) =>
      row.map((share, j) => {
        const count = counts === null ? "" : `<br>${counts[i][j].toLocaleString("en")} samples,`;
        return `${axes[0]} ${names[i]}<br>${axes[1]} ${names[j]}${count} ${counts === null ? "<br>" : ""}${percent(share)}`;
      }),
    );
  }

  function traces(figure) {
    if (!figure.matrix) {
      return figure.data.map((trace) => ({
        ...trace,
        ...(trace.line && { line: { ...trace.line, color: visible(trace.line.color) } }),
        ...(trace.marker && { marker: { ...trace.marker, color: visible(trace.marker.color ?? trace.line?.color) } }),
      }));
    }
    const colorscale = [[0, colour("scale-low")], [0.35, colour("scale-middle")], [1, colour("scale-high")]];
    const heat = { ...figure.data[0], colorscale, hovertext: hover(figure.matrix, figure.data[0].z), hoverinfo: "text" };
    return [heat];
  }

  function draw(holder) {
    const figure = report.figures[holder.dataset.figure];
    const config = {
      displaylogo: false,
      responsive: figure.layout.autosize !== false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      displayModeBar: "hover",
    };
    Plotly.react(holder, traces(figure), layout(figure.layout), config);
    if (drawn.has(holder)) return;
    drawn.add(holder);
    holder.on("plotly_click", ({ points: [point] }) => {
      for (const listener of clickListeners) listener(holder.dataset.figure, point);
    });
  }

  const seen = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (isIntersecting) {
          seen.unobserve(target);
          draw(target);
        }
      }
    },
    { rootMargin: "400px" },
  );
  // Plotly is large and comes last in the page, so that the review does not wait for it.
  addEventListener("DOMContentLoaded", () => elements.forEach((holder) => seen.observe(holder)));
  theme.listeners.push(() => drawn.forEach(draw));
  return { onClick: (listener) => clickListeners.push(listener) };
})();
