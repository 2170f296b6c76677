// @ts-check
// The page where one draws: strokes to a picture, the picture to the worker, its answers
// into the table.
"use strict";

(() => {
  /** @typedef {{name: string, size: number, small: boolean, binary: boolean, seed: number}} Listed */
  /** @type {{models: Listed[], digits: {index: number, label: number, wrong: number, runs: number, pixels: string}[]}} */
  const { models, digits } = JSON.parse(/** @type {HTMLElement} */ (document.getElementById("data")).textContent || "");
  const network = mnistlabNetwork();
  const source = `(${mnistlabWorker})(self, (${mnistlabNetwork})());`;
  const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  const find = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
  const [board, majority, hint, trouble, inside] = ["board", "majority", "hint", "trouble", "inside"].map(find);
  const pen = board.getContext("2d");
  pen.imageSmoothingEnabled = false;
  /** @type {number[][][]} */
  let strokes = [];
  /** @type {HTMLCanvasElement | null} */
  let loaded = null; // a test image, in place of strokes
  /** @type {Uint8Array | null} */
  let picture = null;
  let id = 0;
  let opened = "";
  /** @type {Map<string, Float32Array>} */
  let answers = new Map();
  let loading = false;

  /** Grey values 0 to 1 on a canvas. @param {HTMLCanvasElement} canvas @param {ArrayLike<number>} values
   * @param {(v: number) => number[]} [colour] */
  function paint(canvas, values, colour = (v) => [255 * v, 255 * v, 255 * v]) {
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const image = context.createImageData(canvas.width, canvas.height);
    for (let i = 0; i < values.length; i += 1) image.data.set([...colour(values[i]), 255], 4 * i);
    context.putImageData(image, 0, 0);
  }

  /** @param {number} width @param {number} height @param {string} label */
  function newCanvas(width, height, label) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    return canvas;
  }

  // Networks -------------------------------------------------------------------------
  const waiting = [...models].sort((a, b) => a.size - b.size);
  /** A network that cannot answer does not count, and its row says why. @param {string} name @param {string} why */
  function drop(name, why) {
    const at = models.findIndex((model) => model.name === name);
    if (at < 0) return;
    models.splice(at, 1);
    answers.delete(name);
    const row = /** @type {Element} */ (document.querySelector(`tr[data-model="${name}"]`));
    fill(row, null);
    /** @type {Element} */ (row.querySelector(".sure")).textContent = why;
    trouble.textContent = `${name} does not answer (${why}): reload the page, or make the site anew with run_all.py.`;
    if (answers.size) count();
  }

  /** Load the next network: the small ones at once, the large ones when one has drawn. */
  function loadNext() {
    loading = waiting.length > 0 && (waiting[0].small || picture !== null);
    if (loading) {
      const [{ name }] = waiting;
      const script = document.createElement("script");
      script.src = `weights/${name}.js`;
      script.onload = script.onerror = () => {
        if (waiting[0]?.name === name) {
          waiting.shift();
          drop(name, `weights/${name}.js cannot be read`);
        }
        loadNext();
      };
      document.head.append(script);
    }
    const left = waiting.reduce((sum, { size }) => sum + size, 0);
    find("loading").textContent = !waiting.length ? "All networks that have weights are loaded."
      : `${models.length - waiting.length} of ${models.length} networks are loaded; the others (${(left * 1.34 / 1e6).toFixed(1)} MB) follow when something is drawn.`;
  }
  /** A script in weights/ calls it. @param {Model} model */
  function mnistlabLoaded(model) {
    waiting.shift();
    majority.ariaBusy = String(picture !== null);
    worker.postMessage({ model, id, picture });
  }
  Object.assign(window, { mnistlabLoaded });

  // Pictures -------------------------------------------------------------------------
  let timer = 0; // of strokes that are not a picture yet
  /** Show a picture and ask the networks. */
  function show(/** @type {Uint8Array | null} */ next) {
    clearTimeout(timer);
    timer = 0;
    picture = next && next.some(Boolean) ? next : null;
    id += 1;
    answers = new Map();
    paint(find("seen"), Array.from(picture || new Uint8Array(784), (v) => v / 255));
    paint(find("binary"), Array.from(picture || new Uint8Array(784), (v) => (v ? 1 : 0)));
    inside.hidden = true;
    opened = "";
    majority.ariaBusy = String(picture !== null);
    if (!picture) {
      document.querySelectorAll("#answers tr[data-model]").forEach((row) => fill(row, null));
      worker.postMessage({ id });
      majority.textContent = "Nothing is drawn yet.";
      hint.textContent = "";
      return;
    }
    const lit = picture.reduce((sum, v) => sum + (v > 127 ? 1 : 0), 0);
    // Of MNIST's test images 98 % have 38 to 202 pixels that are more than half lit.
    hint.textContent = lit < 38 || lit > 202 ? `Unlike MNIST: ${lit} bright pixels; 98 % of its digits have 38 to 202.` : "";
    worker.postMessage({ id, picture });
    if (!loading) loadNext();
  }

  function redraw() {
    pen.clearRect(0, 0, 280, 280);
    if (loaded) pen.drawImage(loaded, 0, 0, 280, 280);
    pen.lineWidth = 22;
    pen.lineCap = pen.lineJoin = "round";
    pen.strokeStyle = "#fff";
    for (const stroke of strokes) {
      pen.beginPath();
      pen.moveTo(stroke[0][0], stroke[0][1]);
      stroke.forEach(([x, y]) => pen.lineTo(x, y));
      pen.stroke();
    }
  }

  /** The pen is lifted, should it be down. */
  function lift() {
    down = false;
    pointer = -1;
  }

  function drawn() {
    loaded = null;
    redraw();
    if (!strokes.length) show(null);
    else if (!timer) timer = setTimeout(() => show(network.picture(strokes)), 60);
    majority.ariaBusy = String(timer > 0);
  }

  function clear() {
    strokes = [];
    lift();
    drawn();
  }

  // Pointer and keyboard -------------------------------------------------------------
  /** @param {PointerEvent} event */
  const place = (event) => {
    const box = board.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top].map((v, i) => (v * 280) / (i ? box.height : box.width));
  };
  let pointer = -1;
  board.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    if (event.button) return;
    pointer = event.pointerId;
    board.setPointerCapture(pointer);
    strokes.push([place(event)]);
    drawn();
  });
  board.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    if (event.pointerId !== pointer) return;
    const points = event.getCoalescedEvents?.() || [];
    strokes[strokes.length - 1].push(...(points.length ? points : [event]).map(place));
    drawn();
  });
  for (const name of ["pointerup", "pointercancel"]) board.addEventListener(name, () => { pointer = -1; });
  let cursor = [140, 60];
  let down = false;
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  board.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const move = moves[/** @type {keyof typeof moves} */ (event.key)];
    if (event.key === " ") {
      down = !down;
      if (down) strokes.push([cursor]);
    } else if (event.key === "Delete" || event.key === "Backspace") clear();
    else if (move) {
      cursor = cursor.map((v, i) => Math.min(Math.max(v + 12 * move[i], 12), 268));
      if (down) strokes[strokes.length - 1].push(cursor);
    } else return;
    event.preventDefault();
    if (down) drawn(); else redraw();
    pen.strokeStyle = down ? "#4bf" : "#fa6";
    pen.lineWidth = 3;
    pen.strokeRect(cursor[0] - 8, cursor[1] - 8, 16, 16);
  });
  find("clear").addEventListener("click", clear);
  find("undo").addEventListener("click", () => { strokes.pop(); lift(); drawn(); });

  // Answers --------------------------------------------------------------------------
  /** @param {Element} row @param {Float32Array | null} probabilities */
  function fill(row, probabilities) {
    const [digit, sure] = [".digit", ".sure"].map((name) => /** @type {HTMLElement | null} */ (row.querySelector(name)));
    if (!digit || !sure) return;
    const most = probabilities ? Math.max(...probabilities) : 0;
    digit.textContent = probabilities ? String(probabilities.indexOf(most)) : "";
    sure.textContent = probabilities ? `${(100 * most).toFixed(1)} %` : "";
    sure.style.setProperty("--share", `${100 * most}%`);
    row.classList.remove("differs");
  }

  function count() {
    const votes = new Array(10).fill(0);
    answers.forEach((p) => { votes[p.indexOf(Math.max(...p))] += 1; });
    const order = [...votes.keys()].filter((d) => votes[d]).sort((a, b) => votes[b] - votes[a]);
    const others = order.slice(1).map((d) => `${votes[d]} ${votes[d] > 1 ? "say" : "says"} ${d}`);
    const tie = order.length > 1 && votes[order[0]] === votes[order[1]];
    majority.ariaBusy = String(timer > 0);
    majority.textContent = `${tie ? "No majority: " : ""}${votes[order[0]]} of ${answers.size} networks say ${order[0]}${others.length ? `; ${others.join(", ")}` : ""}.`;
    document.querySelectorAll("#answers tr[data-model]").forEach((row) => {
      const digit = row.querySelector(".digit")?.textContent;
      row.classList.toggle("differs", Boolean(digit) && digit !== String(order[0]));
    });
  }

  /** @param {{data: any}} event */
  worker.onmessage = ({ data }) => {
    if (data.failed) drop(data.name, data.failed);
    if (data.id !== id) return;
    if (data.layers || data.drops) {
      if (data.name !== opened) return; // another was opened since
      if (data.layers) showInside(data);
      else showOcclusion(data);
    } else {
      answers.set(data.name, data.probabilities);
      fill(/** @type {Element} */ (document.querySelector(`tr[data-model="${data.name}"]`)), data.probabilities);
      if (answers.size >= models.length - waiting.length) count();
    }
  };

  worker.onerror = ({ message }) => {
    trouble.textContent = `The networks cannot answer (${message || "this browser starts no worker from a file"}): reload the page, or try another browser.`;
  };

  // One network ----------------------------------------------------------------------
  /** @param {{layers: any[], probabilities: Float32Array}} data */
  function showInside({ layers, probabilities }) {
    const said = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]).slice(0, 3)
      .map((d) => `${d} with ${(100 * probabilities[d]).toFixed(1)} %`);
    find("inside-said").textContent = `Its three likeliest answers: ${said.join(", ")}.`;
    find("maps-said").textContent = layers.length ? "Of each layer the strongest (most activation in all), each on its own scale; black is the lowest value." : "It has none: every unit sees the whole picture.";
    find("inside-maps").replaceChildren(...layers.map((layer) => {
      const part = document.createElement("div");
      part.innerHTML = `<h3>${layer.name}: ${Math.min(8, layer.channels)} of ${layer.channels} maps, ${layer.height} × ${layer.width}</h3><div class="maps"></div>`;
      part.lastElementChild?.append(...layer.maps.map((/** @type {any} */ { channel, values }) => {
        const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
        const canvas = newCanvas(layer.width, layer.height, `${layer.name}, map ${channel}`);
        paint(canvas, Array.from(values, (/** @type {number} */ v) => (high > low ? (v - low) / (high - low) : 0)));
        return canvas;
      }));
      return part;
    }));
  }

  /** @param {{digit: number, drops: Float32Array}} data */
  function showOcclusion({ digit, drops }) {
    const most = Math.max(...drops);
    find("occlusion-said").textContent = `A square of 5 × 5 pixels is covered at one place after the other. Orange: without this place it is less sure of ${digit}, by up to ${(100 * most).toFixed(1)} percentage points. Blue: more sure.`;
    const canvas = newCanvas(28, 28, `Occlusion map: at most ${(100 * most).toFixed(1)} points less sure`);
    canvas.className = "occlusion";
    const scale = Math.max(0.01, ...drops.map(Math.abs));
    const pixels = /** @type {Uint8Array} */ (picture);
    paint(canvas, Array.from(drops.keys()), (i) => {
      const [drop, grey] = [drops[i] / scale, 90 * pixels[i] / 255];
      return drop > 0 ? [grey + 165 * drop, grey + 90 * drop, grey] : [grey, grey - 90 * drop, grey - 165 * drop];
    });
    find("occlusion").replaceChildren(canvas);
  }

  document.querySelectorAll("#answers .open").forEach((button) => button.addEventListener("click", () => {
    if (!picture) { hint.textContent = "Draw something first, or load a test image."; return; }
    const name = /** @type {HTMLElement} */ (button.closest("tr")).dataset.model || "";
    if (!answers.has(name)) { hint.textContent = `${name} has not answered yet.`; return; }
    opened = name;
    inside.hidden = false;
    find("inside-title").textContent = `Inside ${opened}`;
    for (const part of ["inside-said", "maps-said", "inside-maps", "occlusion"]) find(part).replaceChildren();
    find("occlusion-said").textContent = "Covering one place after the other …";
    find("inside-title").focus();
    worker.postMessage({ id, picture, opened });
  }));

  // Test images ----------------------------------------------------------------------
  find("digits").append(...digits.map(({ index, label, wrong, runs, pixels }) => {
    const bytes = Uint8Array.from(atob(pixels), (c) => c.charCodeAt(0));
    const button = document.createElement("button");
    const said = `Test image ${index}, labelled ${label}; ${wrong} of ${runs} runs got it wrong`;
    button.type = "button";
    button.title = said;
    const canvas = newCanvas(28, 28, said);
    paint(canvas, Array.from(bytes, (v) => v / 255));
    button.append(canvas);
    button.addEventListener("click", () => {
      strokes = [];
      lift();
      loaded = canvas;
      redraw();
      show(bytes);
      hint.textContent = `${said}.`;
      board.scrollIntoView({ block: "nearest" });
    });
    return button;
  }));
  paint(find("seen"), new Float32Array(784));
  paint(find("binary"), new Float32Array(784));
  loadNext();
})();
