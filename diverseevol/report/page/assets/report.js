"use strict";
// Text from data goes into the page through textContent only.
const read = id => { const node = document.getElementById(id); return node ? JSON.parse(node.textContent) : null; };
const $ = id => document.getElementById(id);
const make = (tag, text, cls) => {
  const node = document.createElement(tag);
  if (text !== undefined && text !== null) node.textContent = text;
  if (cls) node.className = cls;
  return node;
};
const options = (select, items) => select.replaceChildren(...items.map(([value, text]) => {
  const option = make("option", text); option.value = value; return option;
}));
const number = v => v === null || v === undefined ? "" : Number.isInteger(v) ? String(v) : String(+v.toPrecision(4));
// Each part reads its data when it is first looked at, so that the page opens at once.
const whenSeen = (id, start) => {
  const node = $(id);
  if (!node) return;
  const begin = () => { if (node.dataset.begun) return; node.dataset.begun = "1"; start(); node.dataset.ready = "1"; };
  new IntersectionObserver((entries, watch) => {
    if (entries.some(entry => entry.isIntersecting)) { watch.disconnect(); begin(); }
  }, {rootMargin: "400px"}).observe(node);
  addEventListener("beforeprint", begin);
};

let rowsData = null;
const rows = () => {
  if (rowsData) return rowsData;
  rowsData = read("data-rows");
  for (const text of Object.values(rowsData.texts)) text.index = new Map(text.rows.map((row, i) => [row, i]));
  for (const map of Object.values(rowsData.maps)) {
    const bytes = Uint8Array.from(atob(map.xy), c => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    map.points = Float32Array.from({length: 2 * map.rows}, (_, i) => view.getUint16(2 * i, true) / 65535);
    map.high = [0, 1].map(axis => map.points.reduce((m, v, i) => i % 2 === axis && v > m ? v : m, 0));
  }
  return rowsData;
};
const textOf = (run, row) => {
  const text = rows().texts[run.data], i = text.index.get(row);
  return i === undefined ? ["", ""] : [text.instruction[i], text.response[i]];
};
const runOptions = runs => runs.map(([run, i]) => [i, `${run.source}: ${run.name}`]);

whenSeen("map", () => {
  const [light, dark] = JSON.parse($("map-place").dataset.colours);
  const darkness = matchMedia("screen and (prefers-color-scheme: dark)");
  const found = rows().runs.map((run, i) => [run, i]).filter(([run]) => run.map);
  const canvas = $("map-canvas"), tip = $("map-tip"), slider = $("map-round");
  const pen = canvas.getContext("2d");
  options($("map-run"), runOptions(found));
  const growing = found.find(([run]) => run.picks.some(picks => picks.length));  // a map of all rows shows no choice
  if (growing) $("map-run").value = growing[1];
  let run, map, when, cells, scale, left, top, width, height, hovered = -1;

  const colour = (t, last) => {
    const colours = darkness.matches ? dark : light;
    const x = last ? t / last * (colours.length - 1) : 0, i = Math.min(Math.floor(x), colours.length - 2), f = x - i;
    const part = (hex, k) => parseInt(hex.slice(1 + 2 * k, 3 + 2 * k), 16);
    return `rgb(${[0, 1, 2].map(k => Math.round(part(colours[i], k) * (1 - f) + part(colours[i + 1], k) * f))})`;
  };
  const choose = () => {
    run = rows().runs[$("map-run").value]; map = rows().maps[run.map];
    when = new Int16Array(map.rows).fill(-1);
    run.initial.forEach(row => { when[row] = 0; });
    run.picks.forEach((picks, t) => picks.forEach(pick => { when[pick[0]] = t + 1; }));
    slider.max = when.reduce((a, b) => Math.max(a, b), 0); slider.value = slider.max;
    hovered = -1; layOut();
  };
  const layOut = () => {
    const ratio = devicePixelRatio || 1, box = canvas.getBoundingClientRect();
    canvas.width = box.width * ratio; canvas.height = box.height * ratio;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const margin = 14;
    scale = Math.min((box.width - 2 * margin) / (map.high[0] || 1), (box.height - 2 * margin) / (map.high[1] || 1));
    width = box.width; height = box.height;
    left = (width - scale * map.high[0]) / 2; top = (height - scale * map.high[1]) / 2;
    cells = new Map();
    for (let row = 0; row < map.rows; row++) {
      const key = Math.floor(x(row) / 16) + 4096 * Math.floor(y(row) / 16);
      if (!cells.has(key)) cells.set(key, []);
      cells.get(key).push(row);
    }
    draw();
  };
  const x = row => left + scale * map.points[2 * row];
  const y = row => height - top - scale * map.points[2 * row + 1];
  const dot = (row, radius) => { pen.beginPath(); pen.arc(x(row), y(row), radius, 0, 7); pen.fill(); };
  const draw = () => {
    const style = getComputedStyle(document.documentElement), until = +slider.value, last = +slider.max;
    const small = Math.min(2.4, Math.max(1.1, 90 / Math.sqrt(map.rows)));
    pen.clearRect(0, 0, width, height);
    pen.fillStyle = style.getPropertyValue("--far");
    for (let row = 0; row < map.rows; row++) if (when[row] < 0 || when[row] > until) dot(row, small);
    for (let t = 0; t <= until; t++) {
      pen.fillStyle = colour(t, last);
      for (let row = 0; row < map.rows; row++) if (when[row] === t) dot(row, Math.max(2.6, 1.5 * small));
    }
    if (hovered >= 0) {
      pen.strokeStyle = style.getPropertyValue("--ink"); pen.lineWidth = 1.5;
      pen.beginPath(); pen.arc(x(hovered), y(hovered), 6, 0, 7); pen.stroke();
    }
    $("map-until").textContent = until === last ? `${until} (the last)` : until;
    $("map-legend").replaceChildren(...Array.from({length: last + 1}, (_, t) => t)
      .filter(t => last <= 12 || t % Math.ceil(last / 10) === 0 || t === last)
      .map(t => { const span = make("span", t ? `round ${t}` : "P₀"); span.style.setProperty("--colour", colour(t, last)); return span; }),
      (() => { const span = make("span", until === last ? "not chosen" : "not chosen so far"); span.style.setProperty("--colour", "var(--far)"); return span; })());
  };
  const nearest = (px, py) => {
    let best = -1, distance = 14 * 14;
    const cx = Math.floor(px / 16), cy = Math.floor(py / 16);
    for (let i = cx - 1; i <= cx + 1; i++) for (let j = cy - 1; j <= cy + 1; j++)
      for (const row of cells.get(i + 4096 * j) || []) {
        const chosen = when[row] >= 0 && when[row] <= +slider.value;
        const d = (x(row) - px) ** 2 + (y(row) - py) ** 2 + (chosen ? 0 : 9);  // a chosen row before its neighbours
        if (d < distance) { best = row; distance = d; }
      }
    return best;
  };
  const point = event => {
    const box = canvas.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
    const row = nearest(px, py);
    if (row !== hovered) { hovered = row; draw(); }
    tip.hidden = row < 0;
    if (row < 0) return;
    const [instruction, response] = textOf(run, row), t = when[row];
    tip.replaceChildren(
      make("b", `row ${row} · ${t < 0 ? "not chosen" : t ? `joined for round ${t}` : "in the first pool P₀"}`),
      make("div", instruction || (t < 0 ? "its text is not in the run folder" : "its text is not in the run folder yet")),
      make("div", response, "note"));
    tip.style.left = `${Math.min(px + 14, width - tip.offsetWidth - 4)}px`;
    tip.style.top = `${py + 18 + tip.offsetHeight > height ? Math.max(0, py - tip.offsetHeight - 12) : py + 18}px`;
  };
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; hovered = -1; draw(); });
  $("map-run").addEventListener("change", choose);
  slider.addEventListener("input", draw);
  addEventListener("resize", layOut);
  darkness.addEventListener("change", draw);
  choose();
});

whenSeen("receipts", () => {
  const step = 200;
  const found = rows().runs.map((run, i) => [run, i]).filter(([run]) => run.picks.some(picks => picks.length));
  const runSelect = $("receipt-run"), roundSelect = $("receipt-round"), search = $("receipt-search");
  const body = $("receipt-rows"), count = $("receipt-count"), more = $("receipt-more");
  options(runSelect, runOptions(found));
  let shown = step;
  const all = () => {
    const run = rows().runs[runSelect.value], wanted = roundSelect.value;
    return run.picks.flatMap((picks, t) => wanted !== "all" && +wanted !== t ? [] : picks.map((pick, rank) => {
      const [instruction, response] = textOf(run, pick[0]);
      return {t, rank, row: pick[0], score: pick[1], distance: pick[2], nearest: pick[3], instruction, response};
    }));
  };
  const line = (run, pick) => {
    const row = make("tr"), text = make("td", pick.instruction, "text"), near = make("td", null, "text");
    for (const value of [pick.t + 1, pick.rank, pick.row, pick.score, pick.distance]) row.append(make("td", number(value), "number"));
    text.append(make("div", pick.response, "note"));
    if (pick.nearest !== null && pick.nearest !== undefined) {
      near.append(make("span", `row ${pick.nearest}`, "note"), make("div", textOf(run, pick.nearest)[0]));
    }
    row.append(text, near);
    return row;
  };
  const show = () => {
    const run = rows().runs[runSelect.value], words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const every = all(), fits = every.filter(pick => {
      const text = `${pick.instruction} ${pick.response} ${pick.row}`.toLowerCase();
      return words.every(word => text.includes(word));
    });
    body.replaceChildren(...fits.slice(0, shown).map(pick => line(run, pick)));
    count.textContent = `${fits.length.toLocaleString("en")} of ${every.length.toLocaleString("en")} picks` +
      (fits.length > shown ? `, ${shown} shown` : "") + (run.score ? ` · score: ${run.score}` : "");
    more.hidden = fits.length <= shown;
  };
  const chooseRun = () => {
    const picks = rows().runs[runSelect.value].picks;
    options(roundSelect, [["all", "all"], ...picks.map((of, t) => [t, of]).filter(([, of]) => of.length)
      .map(([t, of]) => [t, `${t + 1} (${of.length} rows)`])]);
    shown = step; show();
  };
  runSelect.addEventListener("change", chooseRun);
  roundSelect.addEventListener("change", () => { shown = step; show(); });
  search.addEventListener("input", () => { shown = step; show(); });
  more.addEventListener("click", () => { shown += step; show(); });
  chooseRun();
});

whenSeen("search", () => {
  const step = 100;
  const found = rows().runs.map((run, i) => [run, i]).filter(([run]) => run.reasons);
  const runSelect = $("search-run"), kind = $("search-kind"), search = $("search-words");
  const body = $("search-rows"), count = $("search-count"), more = $("search-more");
  options(runSelect, runOptions(found));
  const unpack = (text, Kind) => new Kind(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  let run, known, shown = step;
  const chooseRun = () => {
    run = rows().runs[runSelect.value];
    if (!run.known) {
      const {nearest, distance, beyond, left_out, tags} = run.reasons, joined = new Map(), why = new Map();
      run.initial.forEach(row => joined.set(row, "first pool P₀"));
      run.picks.forEach((picks, t) => picks.forEach((pick, rank) => joined.set(pick[0], `round ${t + 1}, pick ${rank + 1}`)));
      for (const [reason, of] of Object.entries(left_out)) for (const row of of) why.set(row, reason);
      const order = beyond === null ? [] : unpack(beyond, Uint32Array);
      run.known = {joined, why, tags, nearest: unpack(nearest, Uint32Array), distance: unpack(distance, Float32Array),
        later: new Map(Array.from(order, (row, i) => [row, i + 1]))};
    }
    known = run.known; shown = step; show();
  };
  const line = row => {
    const out = make("tr"), joined = known.joined.get(row), why = known.why.get(row), apart = !joined && !why;
    const later = apart ? known.later.get(row) : undefined, near = make("td", null, "text");
    const text = make("td", textOf(run, row)[0] || "its text is not in the run folder", "text");
    const tags = known.tags[row] || [];
    if (tags.length) text.append(make("div", tags.join(", "), "note"));
    if (apart) near.append(make("span", `row ${known.nearest[row]}`, "note"), make("div", textOf(run, known.nearest[row])[0]));
    out.append(make("td", number(row), "number"), make("td", joined || why || "no"),
      make("td", later === undefined ? "" : number(later + run.trained), "number"),
      make("td", apart ? number(known.distance[row]) : "", "number"), text, near);
    return out;
  };
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean), fits = [];
    const asked = words.length === 1 && /^\d+$/.test(words[0]) ? +words[0] : -1;
    for (let row = 0; row < known.nearest.length; row++) {
      if (kind.value !== "all" && known.joined.has(row) !== (kind.value === "chosen")) continue;
      const text = `${textOf(run, row)[0]} ${(known.tags[row] || []).join(" ")}`.toLowerCase();
      if (row === asked) fits.unshift(row);
      else if (words.every(word => text.includes(word))) fits.push(row);
    }
    body.replaceChildren(...fits.slice(0, shown).map(line));
    count.textContent = `${fits.length.toLocaleString("en")} of ${known.nearest.length.toLocaleString("en")} rows` +
      (fits.length > shown ? `, ${shown} shown` : "");
    more.hidden = fits.length <= shown;
  };
  const again = () => { shown = step; show(); };
  runSelect.addEventListener("change", chooseRun);
  kind.addEventListener("change", again);
  search.addEventListener("input", again);
  more.addEventListener("click", () => { shown += step; show(); });
  chooseRun();
});

whenSeen("answers", () => {
  const data = read("data-answers");
  const bench = $("answer-benchmark"), one = $("answer-one"), two = $("answer-two"), order = $("answer-order");
  const list = $("answer-list"), pair = $("answer-pair"), search = $("answer-search");
  let chosen = null;
  options(bench, Object.keys(data.questions).filter(name => data.models.some(m => m.benchmark === name)).map(name => [name, name]));
  const total = (model, i) => {
    const parsed = Object.values(model.judged).flatMap(found => found[i] || []).filter(v => v[1] !== null);
    return parsed.length ? parsed.reduce((sum, v) => sum + v[1] - v[2], 0) / parsed.length : null;
  };
  const chooseBenchmark = () => {
    const here = data.models.map((m, i) => [m, i]).filter(([m]) => m.benchmark === bench.value);
    const items = here.map(([m, i]) => [i, `${m.source}: ${m.name}`]);
    options(one, items); options(two, items);
    // To begin with: the first sampler's final model beside that of random, from the same seed where it can be.
    const final = here.filter(([m]) => !here.some(([o]) => o.source === m.source && o.sampler === m.sampler &&
      o.seed === m.seed && o.round > m.round));
    const [A] = [final.find(([m]) => m.sampler !== "random") || final[0]];
    const B = final.find(([m]) => m.sampler === "random" && m.source === A[0].source && m.seed === A[0].seed) ||
      final.find(([m]) => m.source === A[0].source && m !== A[0]) || A;
    one.value = A[1]; two.value = B[1]; chosen = null;
    show();
  };
  const show = () => {
    const A = data.models[one.value], B = data.models[two.value];
    const ids = Object.keys(data.questions[bench.value]);
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const entries = ids.map((id, i) => ({id, i, a: total(A, i), b: total(B, i), text: data.questions[bench.value][id]}))
      .filter(e => words.every(word => `${e.id} ${e.text} ${A.answers[e.i] || ""} ${B.answers[e.i] || ""}`.toLowerCase().includes(word)));
    const gap = e => e.a === null || e.b === null ? 0 : e.b - e.a;
    if (order.value === "two") entries.sort((p, q) => gap(q) - gap(p));
    if (order.value === "one") entries.sort((p, q) => gap(p) - gap(q));
    if (!entries.some(e => e.i === chosen)) chosen = entries.length ? entries[0].i : null;
    list.replaceChildren(...entries.map(e => {
      const row = make("tr"); row.tabIndex = 0; row.setAttribute("aria-selected", String(e.i === chosen));
      row.append(make("td", e.text.length > 160 ? `${e.text.slice(0, 159)}…` : e.text || `question ${e.id}`, "text"),
        make("td", number(e.a), "number"), make("td", number(e.b), "number"),
        make("td", e.a === null || e.b === null ? "" : number(gap(e)), "number"));
      const pick = () => {
        chosen = e.i; detail();
        for (const other of list.children) other.setAttribute("aria-selected", String(other === row));
      };
      row.addEventListener("click", pick);
      row.addEventListener("keydown", event => { if (event.key === "Enter") pick(); });
      return row;
    }));
    detail();
  };
  const side = (model, i) => {
    const box = make("div");
    box.append(make("h3", `${model.source}: ${model.name}`));
    box.append(model.answers[i] === null || model.answers[i] === undefined
      ? make("p", "its answer is not in the folders of this report", "note") : make("pre", model.answers[i]));
    for (const [judge, found] of Object.entries(model.judged)) for (const [shown, m, c, reason] of found[i] || []) {
      const place = found[i].length < 2 ? "" : shown === 0 ? ", model shown first" : ", model shown second";
      box.append(make("h3", `${judge}${place}: ${m === null ? "no scores in the reply" : `${number(m)} against ${number(c)}`}`),
        make("div", reason, "reason"));
    }
    return box;
  };
  const detail = () => {
    if (chosen === null) { pair.replaceChildren(make("p", "no question fits", "note")); return; }
    const id = Object.keys(data.questions[bench.value])[chosen], question = make("div", null, "question keep");
    question.append(make("h3", `question ${id}`), make("pre", data.questions[bench.value][id] || "its text is not in the folders of this report"));
    for (const [kind, texts] of Object.entries(data.beside[bench.value] || {}))
      if (texts[chosen] !== null) question.append(make("h3", kind), make("pre", texts[chosen]));
    const both = make("div", null, "pair");
    both.append(side(data.models[one.value], chosen), side(data.models[two.value], chosen));
    pair.replaceChildren(question, make("p"), both);
  };
  bench.addEventListener("change", chooseBenchmark);
  for (const control of [one, two, order]) control.addEventListener("change", show);
  search.addEventListener("input", show);
  chooseBenchmark();
});
