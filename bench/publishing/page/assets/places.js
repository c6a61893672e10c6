// Places for names, so that no two overlap: pixels in, pixels out.

const LINE_HEIGHT = 14;

function textWidth(text) {
  return 6.4 * text.length + 6;
}

/** Places at least `gap` apart, in the order given, ascending, and near those that were wanted. */
function spread(wanted, gap, low, high) {
  const step = Math.min(gap, (high - low) / Math.max(1, wanted.length - 1));
  const clusters = []; // [sum of wishes for the first place, number of members]
  const start = ([sum, count]) => sum / count;
  for (const wish of wanted) {
    clusters.push([wish, 1]);
    while (clusters.length > 1) {
      const [before, last] = clusters.slice(-2);
      if (start(before) + step * before[1] <= start(last)) break;
      clusters.pop();
      before[0] += last[0] - step * before[1] * last[1];
      before[1] += last[1];
    }
  }
  const places = clusters.flatMap((c) => Array.from({ length: c[1] }, (_, i) => start(c) + step * i));
  places.forEach((place, i) => (places[i] = Math.max(place, low + step * i)));
  const end = places.length - 1;
  places.forEach((place, i) => (places[i] = Math.min(place, high - step * (end - i))));
  return places;
}

/** The box of a text that begins at a place. */
function textBox(text, x, y) {
  return [x, y - LINE_HEIGHT / 2, x + textWidth(text), y + LINE_HEIGHT / 2];
}

/** For each point a free spot for its name: { x, y, side }, near it, off the boxes of other texts. */
function spots(points, names, width, height, others = []) {
  const taken = [...others, ...points.map(([x, y]) => [x - 6, y - 6, x + 6, y + 6])];
  const meets = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
  return points.map(([x, y], i) => {
    const candidates = [];
    for (let away = 0; away < height; away += LINE_HEIGHT / 2) {
      for (const dy of away ? [-away, away] : [0]) {
        for (const [sign, side] of [[1, "right"], [-1, "left"]]) {
          candidates.push({ x: x + sign * (8 + away / 3), y: y + dy, side });
        }
      }
    }
    const box = (spot) => textBox(names[i], spot.side === "right" ? spot.x : spot.x - textWidth(names[i]), spot.y);
    const inside = ([left, top, right, bottom]) => left >= 0 && top >= 0 && right <= width && bottom <= height;
    const free = (spot) => inside(box(spot)) && !taken.some((other) => meets(box(spot), other));
    const chosen = candidates.find(free) || candidates[0];
    taken.push(box(chosen));
    return chosen;
  });
}

/** Heights of names right of lines that end early, off all lines and the boxes of other texts. */
function offTheLines(ends, lines, height, others) {
  const taken = [...others];
  const crosses = (line, [left, top, right, bottom]) =>
    line.slice(1).some(([nextX, nextY], i) => {
      const [x, y] = line[i];
      const inside = [Math.max(x, left), Math.min(nextX, right)];
      const heights = inside.map((at) => y + ((nextY - y) * (at - x)) / (nextX - x || 1));
      return inside[0] < inside[1] && Math.min(...heights) < bottom && Math.max(...heights) > top;
    });
  const meets = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
  return ends.map(({ x, y, name }) => {
    const box = (at) => textBox(name, x, at);
    const free = (at) =>
      at > 0 && at < height && !lines.some((line) => crosses(line, box(at))) && !taken.some((other) => meets(box(at), other));
    let found = y;
    for (let away = 0; away < height; away += 4) {
      const near = [y - away, y + away].find(free);
      if (near === undefined) continue;
      found = near;
      break;
    }
    taken.push(box(found));
    return found;
  });
}

/** Powers of ten, with numbers between them where the range is short. */
function logTicks(low, high) {
  const decades = Math.log10(high / low);
  const steps = decades < 0.7 ? [1, 1.5, 2, 3, 4, 5, 7] : decades < 2.5 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
    for (const step of steps) ticks.push(Number(`${step}e${e}`));
  }
  const stride = Math.ceil(decades / 8);
  return ticks.filter((tick) => tick >= low && tick <= high).filter((_, i) => steps.length > 1 || i % stride === 0);
}

/** About `count` round numbers between two. */
function linearTicks(low, high, count = 6) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((s) => s * power).find((s) => s >= raw);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + 1e-9; tick += step) {
    ticks.push(Number(tick.toPrecision(10)));
  }
  return ticks;
}

/** Ticks of what is missing to 100 %, on an axis that shows small differences near it. */
function missingTicks(low, high) {
  const inside = (ticks) => ticks.filter((tick) => tick >= low - 1e-9 && tick <= high + 1e-9);
  const few = inside([0, 0.1, 0.3, 1, 3, 10, 30, 60, 100]);
  return few.length > 2 ? few : inside([0, 0.1, 0.2, 0.3, 0.5, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
}
