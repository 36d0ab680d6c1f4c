// What the pages do beyond HTML: theme, copying, charts and the live tail. Everything works without it, less quickly.
(() => {
  "use strict";
  const root = document.documentElement;
  const announce = (text) => { document.getElementById("announce").textContent = text; };

  // The theme: the system's, light, dark.
  const themes = ["system", "light", "dark"];
  const themeNow = () => root.dataset.theme || "system";
  const nameTheme = () => document.querySelectorAll("[data-theme-name]").forEach((e) => { e.textContent = themeNow(); });
  const setTheme = (name) => {
    if (name === "system") delete root.dataset.theme; else root.dataset.theme = name;
    try { localStorage.setItem("postrider-theme", name); } catch {}
    nameTheme();
    drawCharts();
  };

  // Copying, with a way that works without https too.
  const copy = async (button) => {
    const source = document.querySelector(button.dataset.copy);
    const text = source.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      area.className = "sr";
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    announce("Copied");
    const label = button.querySelector("span");
    if (label) {
      const before = label.textContent;
      label.textContent = "Copied";
      setTimeout(() => { label.textContent = before; }, 1600);
    }
  };

  document.addEventListener("click", (event) => {
    const copier = event.target.closest("[data-copy]");
    if (copier) copy(copier);
    if (event.target.closest("[data-theme-button]")) setTheme(themes[(themes.indexOf(themeNow()) + 1) % themes.length]);
    const live = event.target.closest("[data-live-button]");
    if (live) toggleLive(live);
  });

  // Times that people say: kept true while the page stays open.
  const relative = (then) => {
    const seconds = Math.round((Date.now() - then) / 1000);
    const abs = Math.abs(seconds);
    const say = (n, unit) => (seconds < 0 ? `in ${n} ${unit}` : `${n} ${unit} ago`);
    if (abs < 5) return "just now";
    if (abs < 60) return say(abs, "s");
    if (abs < 3600) return say(Math.floor(abs / 60), "min");
    if (abs < 48 * 3600) return say(Math.floor(abs / 3600), "h");
    return say(Math.floor(abs / 86400), "days");
  };
  const refreshTimes = () => document.querySelectorAll("time[datetime]").forEach((e) => {
    e.textContent = relative(Date.parse(e.dateTime));
  });

  // Charts: drawn from the table that is on the page in any case.
  const plots = [];
  const css = (name) => {
    const probe = document.createElement("span");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return colour;
  };
  const readTable = (table) => {
    const columns = [[], [], [], [], []];
    table.querySelectorAll("tbody tr").forEach((row) => {
      columns[0].push(Number(row.dataset.at));
      row.querySelectorAll("td").forEach((cell, i) => columns[i + 1].push(Number(cell.textContent)));
    });
    return columns;
  };
  const timeLabel = (at, step) => new Date(at * 1000).toISOString().slice(...(step >= 10800 ? [5, 10] : [11, 16])).replace("-", "/");
  const tip = (lines) => ({
    hooks: {
      init: (u) => {
        u.tip = document.createElement("div");
        u.tip.className = "tip";
        u.tip.hidden = true;
        u.over.append(u.tip);
      },
      setCursor: (u) => {
        const i = u.cursor.idx;
        u.tip.hidden = i == null || u.cursor.left < 0;
        if (u.tip.hidden) return;
        u.tip.replaceChildren(...lines(u, i).flatMap((line, n) => (n ? [document.createElement("br"), line] : [line])));
        const left = u.valToPos(u.data[0][i], "x");
        u.tip.style.left = `${Math.min(Math.max(0, left - u.tip.offsetWidth / 2), u.over.clientWidth - u.tip.offsetWidth)}px`;
        u.tip.style.top = "4px";
      },
    },
  });
  const drawChart = (element) => {
    const table = document.querySelector(element.dataset.table);
    if (!table || !window.uPlot) return;
    const [x, ok, bad, p50, p95] = readTable(table);
    const step = x.length > 1 ? x[1] - x[0] : 60;
    const muted = css("--muted"), line = css("--line"), surface = css("--surface");
    const axis = { stroke: muted, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px Inter, sans-serif", gap: 6 };
    const common = {
      width: element.clientWidth, height: element.clientHeight, legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } }, padding: [8, 16, 0, 0],
    };
    const xAxis = { ...axis, grid: { show: false }, size: 26, space: 70, values: (_, at) => at.map((v) => timeLabel(v, step)) };
    const plain = (v) => (v >= 1000 ? `${+(v / 1000).toFixed(1)}k` : String(v));
    let options, data;
    if (element.dataset.chart === "attempts") {
      const bars = uPlot.paths.bars({ size: [0.72, 40], radius: 0.12 });
      const green = css("--ok-fill"), red = css("--bad-fill");
      options = {
        ...common,
        scales: { x: { range: () => [x[0] - step / 2, x[x.length - 1] + step / 2] }, y: { range: (_, __, max) => [0, Math.max(4, max * 1.08)] } },
        axes: [xAxis, { ...axis, size: 44, space: 40, incrs: [1, 2, 5].flatMap((n) => [1, 10, 100, 1e3, 1e4, 1e5, 1e6].map((by) => n * by)).sort((a, b) => a - b), values: (_, at) => at.map(plain) }],
        series: [{}, { fill: red, stroke: red, width: 0, paths: bars, points: { show: false } }, { fill: green, stroke: green, width: 0, paths: bars, points: { show: false } }],
        plugins: [tip((_, i) => [`${timeLabel(x[i], step)}${step >= 10800 ? ` ${new Date(x[i] * 1000).toISOString().slice(11, 16)}` : ""} UTC`, `${ok[i]} succeeded`, `${bad[i]} failed`])],
      };
      // Drawn one over the other: the whole in red first, the successes above it.
      data = [x, x.map((_, i) => ok[i] + bad[i] || null), x.map((_, i) => ok[i] || null)];
    } else {
      const some = (list) => list.map((v, i) => (ok[i] + bad[i] ? v : null));
      const half = css("--accent-text"), slow = root.dataset.theme === "dark" || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches) ? "#e0aa4a" : "#c58a1b";
      const lineOf = (stroke) => ({ stroke, width: 2, spanGaps: true, points: { show: x.filter((_, i) => ok[i] + bad[i]).length < 3, size: 6, fill: surface } });
      const time = (v) => (v >= 1000 ? `${+(v / 1000).toFixed(1)} s` : `${+v.toFixed(1)} ms`);
      options = {
        ...common,
        scales: { x: { range: () => [x[0] - step / 2, x[x.length - 1] + step / 2] }, y: { range: (_, __, max) => [0, Math.max(1, max * 1.15)] } },
        axes: [xAxis, { ...axis, size: 58, space: 40, values: (_, at) => at.map(time) }],
        series: [{}, lineOf(slow), lineOf(half)],
        plugins: [tip((_, i) => [`${timeLabel(x[i], step)} UTC`, ok[i] + bad[i] ? `median ${time(p50[i])}` : "nothing sent", ...(ok[i] + bad[i] ? [`95th percentile ${time(p95[i])}`] : [])])],
      };
      data = [x, some(p95), some(p50)];
    }
    element.replaceChildren();
    plots.push({ element, plot: new uPlot(options, data, element) });
  };
  const drawCharts = () => {
    plots.splice(0).forEach(({ plot }) => plot.destroy());
    document.querySelectorAll("[data-chart]").forEach(drawChart);
  };
  let resizing;
  addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(() => plots.forEach(({ element, plot }) => plot.setSize({ width: element.clientWidth, height: element.clientHeight })), 120);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawCharts());

  // The live tail: rows come ready made, above those that are there.
  const mostRows = 300;
  let source = null, wanted = true, unsaid = 0;
  const showLive = (on) => document.querySelectorAll("[data-live]").forEach((e) => { e.hidden = !on; });
  const addRow = (table, html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    const row = holder.content.querySelector("tr");
    if (!row || document.getElementById(row.id)) return;
    row.classList.add("fresh");
    const body = table.tBodies[0];
    body.querySelectorAll("tr.none").forEach((e) => e.remove());
    body.prepend(row);
    const rows = body.querySelectorAll("tr[id]");
    for (let i = mostRows; i < rows.length; i++) rows[i].remove();
    unsaid++;
  };
  setInterval(() => {
    if (unsaid) announce(unsaid === 1 ? "One new attempt" : `${unsaid} new attempts`);
    unsaid = 0;
  }, 5000);
  const closeTail = () => {
    if (source) source.close();
    source = null;
    showLive(false);
  };
  const openTail = () => {
    closeTail();
    const table = document.querySelector("[data-stream]");
    if (!table || !wanted || document.hidden) return;
    // What came meanwhile is above the first row that is shown.
    const url = new URL(table.dataset.stream, location.href);
    const first = table.tBodies[0].querySelector("tr[id^='a-']");
    if (first) url.searchParams.set("after", first.id.slice(2));
    source = new EventSource(url);
    source.addEventListener("open", () => showLive(true));
    source.addEventListener("error", () => showLive(false));
    source.addEventListener("attempt", (event) => {
      addRow(table, event.data);
      window.htmx?.trigger(document.body, "attempt"); // what else shows attempts looks again
    });
  };
  const toggleLive = (button) => {
    wanted = !wanted;
    button.setAttribute("aria-pressed", String(wanted));
    button.querySelector("span").textContent = wanted ? "Pause" : "Go on";
    openTail();
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? closeTail() : openTail()));
  addEventListener("pagehide", closeTail);
  addEventListener("pageshow", (event) => { if (event.persisted) openTail(); });

  // Fields that were judged while they were typed.
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "results") openTail();
    const error = event.detail.elt;
    if (error.id && error.id.startsWith("error-")) {
      document.querySelectorAll(`[aria-describedby~="${error.id}"]`).forEach((field) => {
        if (error.textContent.trim()) field.setAttribute("aria-invalid", "true"); else field.removeAttribute("aria-invalid");
      });
    }
  });

  // Code to copy, in the guide.
  document.querySelectorAll("pre.copyable").forEach((pre, i) => {
    pre.id = pre.id || `code-${i}`;
    const wrap = document.createElement("div");
    wrap.className = "pre-wrap";
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button small";
    button.dataset.copy = `#${pre.id}`;
    button.append(Object.assign(document.createElement("span"), { textContent: "Copy" }));
    pre.replaceWith(wrap);
    wrap.append(pre, button);
  });

  nameTheme();
  drawCharts();
  openTail();
  setInterval(refreshTimes, 15000);
})();
