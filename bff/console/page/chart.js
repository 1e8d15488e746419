// Bars drawn by hand: one for each five seconds, failures in another colour and hatched from below.

import { h } from "./dom.js";

export function bars(counts, failures, { label, height = 20, slot = 5 }) {
  const most = Math.max(1, ...counts);
  const shape = (values) =>
    values
      .map((value, at) => {
        const top = height - Math.max(value ? 1 : 0, (value / most) * height);
        return value ? `M${at * 4} ${height}V${top.toFixed(1)}h3V${height}z` : "";
      })
      .join("");
  return h(
    "svg",
    {
      class: "bars", viewBox: `0 0 ${counts.length * 4 - 1} ${height}`, preserveAspectRatio: "none", role: "img",
      "aria-label": `${label}: at most ${most} in ${slot} seconds, ${failures.reduce((a, b) => a + b, 0)} failed in five minutes`,
    },
    h("path", { class: "passed", d: shape(counts) }),
    h("path", { class: "failed", d: shape(failures) }),
  );
}
