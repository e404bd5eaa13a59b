// Charts alone, without a film: hosted by st.components.v2 (Streamlit). They are drawn again when their numbers change.
// data: { charts: as of a film }

const shown = new WeakMap();

class Charts {
  constructor(root) {
    this.root = root;
    root.className = "scrubber alone";
    this.redraw = () => this.draw();
    this.observer = new ResizeObserver(this.redraw);
    this.observer.observe(root);
    this.scheme = window.matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", this.redraw);
  }

  show(charts) {
    this.charts = charts.map((chart) => {
      const canvas = element("canvas", { className: "chart" });
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${chart.title}: ${chart.alt}`);
      return { chart, canvas };
    });
    const row = element("div", { className: "row charts" }, ...this.charts.map(({ chart, canvas }) => element("figure", {}, element("figcaption", { textContent: chart.title }), canvas)));
    row.style.setProperty("--n", charts.length);
    row.style.setProperty("--most", "1fr");
    this.root.replaceChildren(row);
    this.draw();
  }

  draw() { this.charts?.forEach(({ chart, canvas }) => drawChart(canvas, chart, 0)); }

  destroy() {
    this.observer.disconnect();
    this.scheme.removeEventListener("change", this.redraw);
  }
}

export default ({ parentElement, data }) => {
  const here = shown.get(parentElement) ?? new Charts(parentElement.appendChild(element("div")));
  shown.set(parentElement, here);
  here.show(data.charts);
  return () => {
    if (parentElement.isConnected) return;
    here.destroy();
    shown.delete(parentElement);
  };
};
