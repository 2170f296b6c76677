// @ts-check
// The forward pass of mnistlab/forward.py, in plain loops: it runs in a worker, whose
// source is this function's own text, so that a page opened from disk can start it.
"use strict";

/**
 * @typedef {{name: string, kind: string, settings: Record<string, any>,
 *   weights: Record<string, number>}} Layer  weights: how many numbers each has, in order
 * @typedef {{name: string, normalization: {kind: string, axis: number | null},
 *   spatial: boolean, layers: Layer[], weights: string}} Model
 * @typedef {{shape: number[], data: Float32Array}} Maps  height, width, channels; or units
 * @typedef {Model & {own: Record<string, Float32Array>[]}} Loaded
 */

function mnistlabNetwork() {
  const SIDE = 28;

  /** Read base64 of float16 numbers. @param {string} text */
  function halves(text) {
    const bytes = atob(text);
    const made = new Float32Array(bytes.length / 2);
    for (let i = 0; i < made.length; i += 1) {
      const bits = bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8);
      const exponent = (bits >> 10) & 31;
      const part = bits & 1023;
      const size = exponent ? 2 ** (exponent - 15) * (1 + part / 1024) : part * 2 ** -24;
      made[i] = bits & 0x8000 ? -size : size;
    }
    return made;
  }

  /** Give each layer its weights. @param {Model} model @returns {Loaded} */
  function load(model) {
    const all = halves(model.weights);
    let at = 0;
    const own = model.layers.map((layer) => Object.fromEntries(
      Object.entries(layer.weights).map(([name, count]) => {
        at += count;
        return [name, all.subarray(at - count, at)];
      })));
    if (at !== all.length) throw new Error(`${model.name}: expected ${at} weights, got ${all.length}`);
    return { ...model, weights: "", own };
  }

  /** Pixels as the network was trained on them. @param {Uint8Array} picture @param {Model} model */
  function normalized(picture, { normalization: { kind, axis } }) {
    if (kind === "divide_by_255") return Float32Array.from(picture, (v) => v / 255);
    if (axis === 3) return Float32Array.from(picture, (v) => (v ? 1 : 0));
    // Axis 2 makes rows of unit length, axis 1 columns.
    const line = (/** @type {number} */ i) => (axis === 2 ? Math.floor(i / SIDE) : i % SIDE);
    const squares = new Float64Array(SIDE);
    picture.forEach((v, i) => { squares[line(i)] += v * v; });
    return Float32Array.from(picture, (v, i) => v / (Math.sqrt(squares[line(i)]) || 1));
  }

  /** How many windows fit on a side, and how much is missing before it.
   * @param {number} side @param {number} window @param {number} stride @param {string} padding */
  function fit(side, window, stride, padding) {
    if (padding !== "same") return [Math.floor((side - window) / stride) + 1, 0];
    const count = Math.ceil(side / stride);
    return [count, Math.max((count - 1) * stride + window - side, 0) >> 1];
  }

  /** @param {Maps} x @param {Layer} layer @param {Record<string, Float32Array>} own @returns {Maps} */
  function convolve(x, layer, own) {
    const [height, width, channels] = x.shape;
    const { kernel_size: [kh, kw], strides: [sh, sw], padding } = layer.settings;
    const [rows, top] = fit(height, kh, sh, padding);
    const [columns, left] = fit(width, kw, sw, padding);
    const { kernel, bias } = own;
    const filters = bias.length;
    const data = new Float32Array(rows * columns * filters);
    const sums = new Float32Array(filters);
    for (let r = 0; r < rows; r += 1) {
      for (let c = 0; c < columns; c += 1) {
        sums.set(bias);
        for (let i = 0; i < kh; i += 1) {
          const y = r * sh + i - top;
          if (y < 0 || y >= height) continue;
          for (let j = 0; j < kw; j += 1) {
            const z = c * sw + j - left;
            if (z < 0 || z >= width) continue;
            const from = (y * width + z) * channels;
            let k = (i * kw + j) * channels * filters;
            for (let n = 0; n < channels; n += 1, k += filters) {
              const value = x.data[from + n];
              if (value === 0) continue; // after a ReLU many are
              for (let f = 0; f < filters; f += 1) sums[f] += value * kernel[k + f];
            }
          }
        }
        const to = (r * columns + c) * filters;
        for (let f = 0; f < filters; f += 1) data[to + f] = sums[f] > 0 ? sums[f] : 0;
      }
    }
    return { shape: [rows, columns, filters], data };
  }

  /** @param {Maps} x @param {Layer} layer @returns {Maps} */
  function pool(x, layer) {
    const [height, width, channels] = x.shape;
    const { pool_size: [ph, pw], strides: [sh, sw], padding } = layer.settings;
    const [rows, top] = fit(height, ph, sh, padding);
    const [columns, left] = fit(width, pw, sw, padding);
    const data = new Float32Array(rows * columns * channels).fill(-Infinity);
    for (let r = 0; r < rows; r += 1) {
      for (let c = 0; c < columns; c += 1) {
        const to = (r * columns + c) * channels;
        for (let y = Math.max(r * sh - top, 0); y < Math.min(r * sh - top + ph, height); y += 1) {
          for (let z = Math.max(c * sw - left, 0); z < Math.min(c * sw - left + pw, width); z += 1) {
            const from = (y * width + z) * channels;
            for (let n = 0; n < channels; n += 1) {
              if (x.data[from + n] > data[to + n]) data[to + n] = x.data[from + n];
            }
          }
        }
      }
    }
    return { shape: [rows, columns, channels], data };
  }

  /** @param {Maps} x @param {Layer} layer @param {Record<string, Float32Array>} own @returns {Maps} */
  function dense(x, layer, own) {
    const { kernel, bias } = own;
    const units = bias.length;
    const data = Float32Array.from(bias);
    x.data.forEach((value, i) => {
      if (value === 0) return;
      for (let u = 0, k = i * units; u < units; u += 1, k += 1) data[u] += value * kernel[k];
    });
    if (layer.settings.activation === "relu") {
      return { shape: [units], data: data.map((v) => Math.max(v, 0)) };
    }
    const most = Math.max(...data);
    const powers = Array.from(data, (v) => Math.exp(v - most));
    const sum = powers.reduce((a, b) => a + b);
    return { shape: [units], data: Float32Array.from(powers, (v) => v / sum) };
  }

  /** @param {Maps} x @param {Layer} layer @param {Record<string, Float32Array>} own @returns {Maps} */
  function apply(x, layer, own) {
    if (layer.kind === "Conv2D") return convolve(x, layer, own);
    if (layer.kind === "MaxPooling2D") return pool(x, layer);
    if (layer.kind === "Dense") return dense(x, layer, own);
    if (layer.kind === "Flatten") return { shape: [x.data.length], data: x.data };
    if (layer.kind === "Dropout") return x;
    if (layer.kind !== "BatchNormalization") throw new Error(`no forward pass is written for ${layer.kind}`);
    const n = own.scale.length;
    const data = x.data.map((v, i) => v * own.scale[i % n] + own.shift[i % n]);
    return { shape: x.shape, data };
  }

  /** What every layer makes of a picture of 28 × 28 bytes. @param {Loaded} model @param {Uint8Array} picture */
  function forward(model, picture) {
    /** @type {Maps} */
    let x = { shape: model.spatial ? [SIDE, SIDE, 1] : [SIDE * SIDE], data: normalized(picture, model) };
    return model.layers.map((layer, i) => { x = apply(x, layer, model.own[i]); return x; });
  }

  /** Ten probabilities. @param {Loaded} model @param {Uint8Array} picture */
  function answer(model, picture) {
    return forward(model, picture)[model.layers.length - 1].data;
  }

  /** The maps with the most activation of each layer of maps. @param {Loaded} model
   * @param {Uint8Array} picture @param {number} most */
  function strongest(model, picture, most) {
    return forward(model, picture).flatMap(({ shape, data }, at) => {
      const { name, kind } = model.layers[at];
      if (shape.length < 3 || kind === "Dropout") return [];
      const [height, width, channels] = shape;
      const maps = Array.from({ length: channels }, (_, c) => {
        const values = Float32Array.from({ length: height * width }, (_v, i) => data[i * channels + c]);
        return { channel: c, values, sum: values.reduce((a, b) => a + Math.abs(b), 0) };
      });
      maps.sort((a, b) => b.sum - a.sum);
      return [{ name, height, width, channels, maps: maps.slice(0, most) }];
    });
  }

  /** Draw strokes as MNIST's were made: the longer side 20 pixels, the centre of mass in
   * the middle of 28 × 28, edges grey. A stroke is a list of points in any unit.
   * @param {number[][][]} strokes @returns {Uint8Array} */
  function picture(strokes) {
    const PEN = 1.25; // pixels, half of a stroke's width
    const points = strokes.flat();
    const made = new Uint8Array(SIDE * SIDE);
    if (!points.length) return made;
    const low = [0, 1].map((axis) => points.reduce((a, p) => Math.min(a, p[axis]), Infinity));
    const high = [0, 1].map((axis) => points.reduce((a, p) => Math.max(a, p[axis]), -Infinity));
    const span = Math.max(high[0] - low[0], high[1] - low[1]);
    const scale = span > 0 ? (20 - 2 * PEN) / span : 0;
    const raster = (/** @type {number[]} */ middle) => {
      const at = strokes.map((s) => s.map((p) => [0, 1].map(
        (axis) => (p[axis] - (low[axis] + high[axis]) / 2) * scale + middle[axis])));
      for (let y = 0; y < SIDE; y += 1) {
        for (let x = 0; x < SIDE; x += 1) {
          let nearest = Infinity;
          for (const stroke of at) {
            for (let i = 0; i < stroke.length; i += 1) {
              const [ax, ay] = stroke[Math.max(i - 1, 0)];
              const [dx, dy] = [stroke[i][0] - ax, stroke[i][1] - ay];
              const t = Math.min(Math.max(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1), 0), 1);
              nearest = Math.min(nearest, (x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2);
            }
          }
          made[y * SIDE + x] = Math.round(255 * Math.min(Math.max(PEN + 0.5 - Math.sqrt(nearest), 0), 1));
        }
      }
    };
    raster([14, 14]);
    const mass = made.reduce((a, b) => a + b, 0) || 1;
    const centre = [0, 0];
    made.forEach((v, i) => { centre[0] += (v * (i % SIDE)) / mass; centre[1] += (v * Math.floor(i / SIDE)) / mass; });
    raster([28 - centre[0], 28 - centre[1]]);
    return made;
  }

  return { load, answer, strongest, picture };
}

/** What the worker does: keeps networks, and answers the newest picture, one network
 * after the other, so that a new picture can come between. @param {any} scope
 * @param {ReturnType<typeof mnistlabNetwork>} network */
function mnistlabWorker(scope, network) {
  /** @type {Loaded[]} */
  const models = [];
  let newest = 0;
  let busy = false;
  /** @type {{name: string, run: () => void}[]} */
  let jobs = [];
  /** One that fails is told, and does not stop the others. @param {{name: string, run: () => void}} job */
  const attempt = ({ name, run }) => {
    try { run(); } catch (error) { scope.postMessage({ name, failed: String(error) }); }
  };
  const work = () => {
    const job = jobs.shift();
    busy = Boolean(job);
    if (!job) return;
    setTimeout(work);
    attempt(job);
  };
  /** @param {Loaded} model @param {Uint8Array} picture @param {number} id */
  const say = (model, picture, id) => ({ name: model.name, run: () => scope.postMessage(
    { id, name: model.name, probabilities: network.answer(model, picture) }) });
  /** Cover a square of 5 × 5 pixels at a time. @param {Loaded} model @param {Uint8Array} picture @param {number} id */
  const occlude = (model, picture, id) => {
    const began = performance.now();
    const whole = network.answer(model, picture);
    const digit = whole.indexOf(Math.max(...whole));
    const step = performance.now() - began > 40 ? 4 : 2;
    const drops = new Float32Array(28 * 28);
    const places = [];
    for (let y = 0; y < 28; y += step) for (let x = 0; x < 28; x += step) places.push([y, x]);
    const cover = (/** @type {number[]} */ [y, x]) => {
      const covered = picture.slice();
      const [from, to] = step === 4 ? [-1, 4] : [-2, 3];
      for (let i = Math.max(y + from, 0); i < Math.min(y + to, 28); i += 1) covered.fill(0, i * 28 + Math.max(x + from, 0), i * 28 + Math.min(x + to, 28));
      const same = covered.every((v, i) => v === picture[i]);
      const drop = same ? 0 : whole[digit] - network.answer(model, covered)[digit];
      for (let i = y; i < Math.min(y + step, 28); i += 1) drops.fill(drop, i * 28 + x, i * 28 + Math.min(x + step, 28));
    };
    const tell = () => scope.postMessage({ id, name: model.name, digit, drops });
    jobs.push(...[...places.map((place) => () => cover(place)), tell].map((run) => ({ name: model.name, run })));
  };
  /** @param {{data: any}} event */
  scope.onmessage = ({ data: { id, picture, model, opened } }) => {
    if (model) {
      attempt({ name: model.name, run: () => {
        models.push(network.load(model));
        if (picture) jobs.push(say(models[models.length - 1], picture, id));
      } });
    } else {
      if (id !== newest) jobs = [];
      newest = id;
      const one = models.find(({ name }) => name === opened);
      if (one) {
        const look = () => scope.postMessage({ id, name: opened, layers: network.strongest(one, picture, 8), probabilities: network.answer(one, picture) });
        jobs.push(...[look, () => occlude(one, picture, id)].map((run) => ({ name: opened, run })));
      } else if (picture) jobs.push(...models.map((each) => say(each, picture, id)));
    }
    if (!busy) { busy = true; setTimeout(work); }
  };
}
