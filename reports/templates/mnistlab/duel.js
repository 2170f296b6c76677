// @ts-check
// Two runs side by side, chosen in the address: duel.html#conv2_b21/0,mlp_e1/0. A run is
// model and seed, or model and key; a model's name alone is its first run.
"use strict";

/** The exact McNemar test (1947): two-sided binomial with one half; a test holds it against SciPy.
 * @param {number} a @param {number} b */
function mcnemar(a, b) {
  const n = a + b;
  let log = -n * Math.LN2; // of the chance of k heads of n
  let p = 0;
  for (let k = 0; k <= Math.min(a, b); k += 1) {
    p += Math.exp(log);
    log += Math.log((n - k) / (k + 1));
  }
  return Math.min(1, 2 * p);
}

/** Newcombe's interval of a difference of two shares (1998, Statistics in Medicine 17, 873-890, method 10).
 * @param {number} rightA @param {number} rightB @param {number} n */
function difference(rightA, rightB, n) {
  const z = 1.959963984540054;
  const [a, b] = [rightA, rightB].map((right) => {
    const p = right / n;
    const middle = (p + (z * z) / (2 * n)) / (1 + (z * z) / n);
    const half = (z * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n))) / (1 + (z * z) / n);
    return { p, low: middle - half, high: middle + half };
  });
  const d = a.p - b.p;
  return [d - Math.hypot(a.p - a.low, b.high - b.p), d + Math.hypot(a.high - a.p, b.p - b.low)];
}

function duel() {
  /** @typedef {{id: string, exact: string, label: string, curve: number[], predicted: string, sure: string}} Told */
  const find = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
  /** @type {{runs: Told[], count: number, hard: number[][], columns: number, sprite: string}} */
  const { runs, count, hard, columns, sprite } = JSON.parse(find("data").textContent);
  if (!runs.length) return;
  const bytes = (/** @type {string} */ text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const style = document.createElement("style");
  style.textContent = `.found i { background-image: url(${sprite}); }`;
  document.head.append(style);
  const [a, b] = ["a", "b"].map(find);
  for (const select of [a, b]) {
    select.append(...runs.map(({ id, label }) => new Option(label, id)));
    select.addEventListener("change", () => { location.hash = `${a.value},${b.value}`; });
  }

  /** @param {Told} run */
  const read = ({ label: id, curve, predicted, sure }) => {
    const said = bytes(predicted);
    return { id, curve, said, sure: bytes(sure), right: hard.map(([, label], i) => said[i] === label) };
  };
  /** @typedef {ReturnType<typeof read>} Read */

  /** @param {Read[]} pair */
  function curves(pair) {
    const all = pair.flatMap(({ curve }) => curve);
    // By the share of errors: near 100 % accuracies would lie on each other.
    const error = (/** @type {number} */ v) => Math.log(Math.max(1 - v, 0.0005));
    const [low, high] = [Math.min(...all.map(error)), Math.max(...all.map(error))];
    const length = Math.max(...pair.map(({ curve }) => curve.length), 2);
    const x = (/** @type {number} */ i) => 60 + (560 * i) / (length - 1);
    const y = (/** @type {number} */ v) => 30 + (190 * (error(v) - low)) / (high - low || 1);
    const inside = [0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995].filter((v) => error(v) >= low && error(v) <= high);
    const ticks = inside.length > 1 ? inside : [Math.min(...all), Math.max(...all)];
    find("curves").innerHTML = ticks.map((v) => `<line x1="60" x2="620" y1="${y(v)}" y2="${y(v)}"/><text x="52" y="${y(v) + 4}" text-anchor="end">${+(100 * v).toFixed(2)} %</text>`).join("")
      + pair.map(({ curve, id }, i) => `<polyline class="${"ab"[i]}" points="${curve.map((v, n) => `${x(n)},${y(v)}`).join(" ")}"/><line class="${"ab"[i]}" x1="${70 + 280 * i}" x2="${100 + 280 * i}" y1="12" y2="12" stroke-width="2"/><text x="${106 + 280 * i}" y="16">${"AB"[i]}: ${id}</text>`).join("")
      + `<text x="60" y="240">1</text><text x="620" y="240" text-anchor="end">epoch ${length}</text>`;
  }

  /** @param {string} where @param {Read[]} pair @param {number[]} which */
  function images(where, pair, which) {
    find(`${where}-title`).textContent = `Only ${where === "only-a" ? "A" : "B"} has these right: ${which.length}`;
    find(where).replaceChildren(...which.map((i) => {
      const item = document.createElement("li");
      const picture = document.createElement("i");
      picture.style.backgroundPosition = `${-28 * (i % columns)}px ${-28 * Math.floor(i / columns)}px`;
      const said = document.createElement("span");
      const answers = pair.map(({ said: digits, sure }, n) => `${"AB"[n]}: ${digits[i]}, ${Math.round(sure[i] / 2.55)} %`);
      said.innerText = [`Image ${hard[i][0]}: ${hard[i][1]}`, ...answers].join("\n");
      item.append(picture, said);
      return item;
    }));
  }

  function show() {
    // Unlike decodeURIComponent, it takes a lone % as it is.
    const asked = new URLSearchParams(`runs=${location.hash.slice(1)}`).get("runs")?.split(",") || [];
    const found = [0, 1].map((n) => runs.find(({ id, exact }) => [id, exact, id.split("/")[0]].includes(asked[n])));
    const missing = asked.filter((name, n) => name && !found[n]);
    find("missing").textContent = missing.length ? `There is no run ${missing.join(" and no run ")} here: choose others below.` : "";
    const chosen = found.map((run, n) => run || runs[n ? runs.length - 1 : 0]);
    [a.value, b.value] = chosen.map(({ id }) => id);
    const pair = chosen.map(read);
    const [one, two] = pair.map(({ right }) => right);
    const which = (/** @type {(i: number) => boolean} */ test) => [...hard.keys()].filter(test);
    const onlyA = which((i) => one[i] && !two[i]);
    const onlyB = which((i) => two[i] && !one[i]);
    const neither = which((i) => !one[i] && !two[i]).length;
    const both = count - onlyA.length - onlyB.length - neither;
    const p = mcnemar(onlyA.length, onlyB.length);
    const points = (/** @type {number} */ v) => `${v > 0 ? "+" : ""}${(100 * v).toFixed(2)}`;
    const [low, high] = difference(both + onlyA.length, both + onlyB.length, count);
    const shares = [onlyA, onlyB].map((only) => `${((100 * (both + only.length)) / count).toFixed(2)} %`);
    find("said").textContent = `A, ${pair[0].id}: ${shares[0]}. B, ${pair[1].id}: ${shares[1]}. A minus B: ${points((onlyA.length - onlyB.length) / count)} percentage points (95 %: ${points(low)} to ${points(high)}), on ${count.toLocaleString("en")} test images.`;
    find("table").innerHTML = `<thead><tr><td></td><th scope="col">B right</th><th scope="col">B wrong</th></tr></thead><tbody><tr><th scope="row">A right</th><td>${both}</td><td>${onlyA.length}</td></tr><tr><th scope="row">A wrong</th><td>${onlyB.length}</td><td>${neither}</td></tr></tbody>`;
    find("test").textContent = `McNemar's exact test: p = ${p < 0.0001 ? p.toExponential(1) : p.toFixed(4)}, from ${onlyA.length} against ${onlyB.length} images.`;
    curves(pair);
    images("only-a", pair, onlyA);
    images("only-b", pair, onlyB);
  }
  addEventListener("hashchange", show);
  show();
}

duel();
