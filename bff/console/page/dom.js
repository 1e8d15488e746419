// Elements from data, and the smallest change that makes what is on the page equal to them: focus and scroll stay.

const SVG = new Set(["svg", "rect", "path", "line", "g"]);

export function h(tag, attributes = {}, ...children) {
  const element = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false));
  return element;
}

// A long name goes on in the next line after one of its parts, and not in the middle of a word.
export const breakable = (name) => name.split(/(?<=[._/([])/).flatMap((part, at) => (at ? [h("wbr"), part] : part));

const key = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);

function patch(live, fresh) {
  if (live.nodeType !== Node.ELEMENT_NODE) {
    if (live.data !== fresh.data) live.data = fresh.data;
    return;
  }
  if (live.hasAttribute("data-keep")) return;
  for (const { name, value } of fresh.attributes) if (live.getAttribute(name) !== value) live.setAttribute(name, value);
  for (const { name } of [...live.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && live.nodeName === "DETAILS")) live.removeAttribute(name);
  }
  patchChildren(live, [...fresh.childNodes]);
}

export function patchChildren(live, wanted) {
  const keyed = new Map([...live.childNodes].filter(key).map((each) => [key(each), each]));
  let at = live.firstChild;
  for (const want of wanted) {
    const found = key(want) ? keyed.get(key(want)) : at && !key(at) ? at : null;
    if (!found || found.nodeName !== want.nodeName) {
      live.insertBefore(want, at);
    } else {
      if (found === at) at = at.nextSibling;
      else live.insertBefore(found, at);
      patch(found, want);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
