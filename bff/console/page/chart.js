// Bars drawn by hand: one for each five seconds, or each day; failures in another colour, from below.

import { h } from "./dom.js";

export function bars(counts, failures, { label, height = 20, every = "in 5 seconds" }) {
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
      "aria-label": `${label}: at most ${most} ${every}${failures.length ? `, ${failures.reduce((a, b) => a + b, 0)} failed in five minutes` : ""}`,
    },
    h("path", { class: "passed", d: shape(counts) }),
    h("path", { class: "failed", d: shape(failures) }),
  );
}
