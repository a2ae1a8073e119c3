"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const config = () => {
    const ink = style("--ink"), soft = style("--soft"), line = style("--line");
    return {
      background: "transparent",
      font: "system-ui, sans-serif",
      axis: { labelColor: soft, titleColor: soft, gridColor: line, domainColor: line, tickColor: line },
      legend: { labelColor: soft, titleColor: soft },
      title: { color: soft, anchor: "start", fontSize: 12, fontWeight: 600 },
      view: { stroke: line },
      rule: { color: ink },
      text: { color: ink },
    };
  };

  // Charts already drawn, so that a change of the colour scheme can draw them anew.
  const drawn = new Map();
  const draw = (element, spec, then) => {
    // Legends in fewer columns on a phone.
    const narrow = element.clientWidth < 600;
    const fitted = narrow ? JSON.parse(JSON.stringify(spec),
      (key, value) => (key === "columns" ? 2 : value)) : spec;
    const whole = {
      $schema: "https://vega.github.io/schema/vega-lite/v6.json",
      width: "container",
      autosize: { type: "fit-x", contains: "padding" },
      config: config(),
      ...fitted,
    };
    const theme = dark.matches ? "dark" : "light";
    const options = {
      actions: false, renderer: "canvas", tooltip: { theme }, logLevel: 1,
    };
    drawn.set(element, [spec, then]);
    return vegaEmbed(element, whole, options).then((result) => {
      element.dataset.drawn = "yes";
      if (then) then(result.view);
      return result;
    }).catch((error) => {
      element.textContent = "This chart could not be drawn: " + error.message;
      console.error(error);
    });
  };
  dark.addEventListener("change", () => {
    for (const [element, [spec, then]] of [...drawn]) draw(element, spec, then);
  });

  // The schedule's zoom for those who use no mouse.
  let schedule = null;
  const zoomable = (view) => { schedule = view; };
  document.querySelectorAll("[data-zoom]").forEach((button) => {
    button.addEventListener("click", () => {
      if (!schedule) return;
      const whole = data.charts.gantt.usermeta.span;
      const [from, to] = schedule.signal("zoom_a") || [0, whole];
      const middle = (from + to) / 2, half = (to - from) / 2;
      const next = {
        in: [middle - half / 2, middle + half / 2], out: [middle - 2 * half, middle + 2 * half],
        earlier: [from - half, to - half], later: [from + half, to + half], all: [0, whole],
      }[button.dataset.zoom];
      const span = Math.min(next[1] - next[0], whole);
      const begin = Math.min(Math.max(next[0], 0), whole - span);
      schedule.signal("zoom_a", [begin, begin + span]).runAsync();
    });
  });

  // All at once, before the page counts as loaded: what prints it then prints them too.
  for (const element of document.querySelectorAll("[data-chart]")) {
    const name = element.dataset.chart;
    draw(element, data.charts[name], name === "gantt" ? zoomable : undefined);
  }

  if (!data.map) return;

  // The graph: groups opened so far, the innermost last.
  const { devices, colours, types, root } = data.map;
  const open = [root];
  const bytes = (count) => {
    for (const unit of ["B", "KiB", "MiB", "GiB"]) {
      if (count < 1024 || unit === "GiB") return count.toFixed(unit === "B" ? 0 : 1) + " " + unit;
      count /= 1024;
    }
  };
  const milliseconds = (value) => value >= 100 ? value.toFixed(0) + " ms"
    : value >= 0.1 ? value.toFixed(2) + " ms" : (value * 1000).toFixed(1) + " us";
  const inside = (group) => group.c
    ? group.c.map((child, at) => ({
      at, name: child.n, ops: child.o, ms: child.t, device: child.d, share: child.p, x: child.x,
      what: child.o + (child.o === 1 ? " op" : " ops"), opens: true,
    }))
    : group.l.map(([name, type, device, start, ms], at) => ({
      at, name, ops: 1, ms, device, share: 100, x: start, what: types[type], opens: false,
    }));

  const layout = (items, width) => {
    // Lanes by device; within a lane, marks that would cover each other go one row down.
    const first = Math.min(...items.map((item) => item.x));
    const length = Math.max(...items.map((item) => item.x)) - first || 1;
    const rows = devices.map(() => []);
    const gap = 34 / Math.max(width - 140, 120);
    for (const item of [...items].sort((a, b) => a.x - b.x)) {
      const lane = rows[item.device], at = (item.x - first) / length;
      let row = lane.findIndex((end) => at - end >= gap);
      if (row < 0) row = lane.length < 6 ? lane.push(-1) - 1 : item.at % 6;
      lane[row] = at;
      item.row = row;
    }
    let top = 0;
    const lanes = [];
    devices.forEach((name, device) => {
      if (!rows[device].length) return;
      lanes.push({ name, device, y: top });
      for (const item of items) if (item.device === device) item.y = top + item.row;
      top += rows[device].length + 0.6;
    });
    return { lanes, height: top };
  };

  const picture = (group) => {
    const element = document.getElementById("map-chart");
    const items = inside(group);
    const { lanes, height } = layout(items, element.clientWidth);
    const edges = group.e.map(([a, b, size]) => ({
      x: items[a].x, y: items[a].y, x2: items[b].x, y2: items[b].y, size, bytes: bytes(size),
      from: items[a].name, to: items[b].name, crosses: items[a].device !== items[b].device,
    }));
    const times = items.map((item) => item.x);
    const low = Math.min(...times), high = Math.max(...times), margin = (high - low || 1) * 0.04;
    const span = [low - margin, high + margin];
    const y = { field: "y", type: "quantitative", axis: null, scale: { domain: [height - 0.2, -0.8], nice: false, zero: false } };
    const x = { field: "x", type: "quantitative", title: "runs at, ms (mean)", scale: { domain: span, nice: false, zero: false } };
    const label = devices.map((name, at) => ({ name, at }));
    const spec = {
      height: Math.max(120, height * 34),
      layer: [
        {
          data: { values: edges },
          mark: { type: "rule", opacity: 0.55 },
          encoding: {
            x, y, x2: { field: "x2" }, y2: { field: "y2" },
            strokeWidth: { field: "size", type: "quantitative", scale: { type: "sqrt", range: [0.6, 5] }, legend: null },
            color: { condition: { test: "datum.crosses", value: style("--ink") }, value: style("--soft") },
            opacity: { condition: { test: "datum.crosses", value: 0.7 }, value: 0.25 },
            tooltip: [{ field: "from" }, { field: "to" }, { field: "bytes", title: "reads" }],
          },
        },
        {
          data: { values: items },
          mark: { type: "circle", opacity: 0.95, cursor: "pointer" },
          encoding: {
            x, y,
            size: { field: "ms", type: "quantitative", scale: { type: "sqrt", range: [60, 700] }, legend: null },
            color: {
              field: "device", type: "nominal", title: null,
              scale: { domain: label.map((d) => d.at), range: colours.slice(0, label.length) },
              legend: { orient: "top", columns: 4, labelExpr: JSON.stringify(devices) + "[datum.value]" },
            },
            tooltip: [
              { field: "name" }, { field: "what" }, { field: "ms", title: "computes, ms" },
              { field: "share", title: "% on this device" },
            ],
          },
        },
      ],
    };
    draw(element, spec, (view) => view.addEventListener("click", (_, mark) => {
      if (mark && mark.datum && mark.datum.opens) enter(group.c[mark.datum.at]);
    }));
  };

  const cell = (row, content, figure) => {
    const td = row.insertCell();
    td.className = figure ? "figure" : typeof content === "string" && content.length > 40 ? "long" : "";
    td.append(content);
  };
  const list = (group) => {
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const [name, figure] of [["name"], ["device"], ["what"], ["computes", 1], ["runs at", 1]]) {
      const th = document.createElement("th");
      th.scope = "col";
      th.textContent = name;
      if (figure) th.className = "figure";
      head.append(th);
    }
    const body = table.createTBody();
    for (const item of inside(group)) {
      const row = body.insertRow();
      let name = item.name;
      if (item.opens) {
        name = document.createElement("button");
        name.type = "button";
        name.textContent = item.name;
        name.addEventListener("click", () => enter(group.c[item.at]));
      }
      cell(row, name);
      const place = document.createElement("span");
      place.style.whiteSpace = "nowrap";
      const dot = document.createElement("span");
      dot.className = "dot";
      dot.style.background = colours[item.device];
      place.append(dot, devices[item.device] + (item.share < 100 ? " " + item.share + "%" : ""));
      cell(row, place);
      cell(row, item.what);
      cell(row, milliseconds(item.ms), true);
      cell(row, milliseconds(item.x), true);
    }
    const region = document.createElement("div");
    region.className = "scroll";
    region.tabIndex = 0;
    region.setAttribute("role", "region");
    region.setAttribute("aria-label", "What the opened group holds");
    region.append(table);
    const caption = document.createElement("p");
    caption.className = "caption";
    caption.textContent = group.c
      ? group.c.length + " groups, " + group.o + " ops" : group.o + " ops of " + (group.f || group.n);
    document.getElementById("map-list").replaceChildren(caption, region);
  };
  const path = () => {
    document.getElementById("map-path").replaceChildren(...open.map((group, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = group.n;
      if (at === open.length - 1) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => { open.length = at + 1; show(true); });
      return button;
    }));
  };
  const show = (focus) => {
    const group = open[open.length - 1];
    path();
    picture(group);
    list(group);
    if (focus) document.querySelector("#map-path [aria-current]").focus({ preventScroll: true });
  };
  const enter = (group) => { open.push(group); show(true); };
  show(false);
})();
