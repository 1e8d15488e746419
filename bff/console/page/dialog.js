// Questions that have to be answered first: changes, and the token.

import { h } from "./dom.js";

const dialog = document.getElementById("dialog");

// Resolves to the fields' values by name, or null for no. `act` may throw: it is then asked again, with why.
export function asked({ title, about = [], fields = [], yes, dangerous = false, act = async () => {} }) {
  const inputs = fields.map((each) => h("input", { id: `field-${each.name}`, autocomplete: "off", spellcheck: "false", ...each.input }));
  const wrong = h("p", { class: "wrong", role: "alert" });
  const go = h("button", { type: "submit", class: dangerous ? "danger" : "primary" }, yes);
  const no = h("button", { type: "button" }, "Cancel");
  const form = h(
    "form", {},
    h("h2", { id: "dialog-title" }, title),
    about.map((each) => h("p", {}, each)),
    fields.map((each, at) => h("label", { for: `field-${each.name}` }, each.label, inputs[at])),
    wrong,
    h("div", { class: "choices" }, no, go),
  );
  dialog.replaceChildren(form);
  return new Promise((resolve) => {
    const end = (value) => {
      dialog.close();
      resolve(value);
    };
    no.addEventListener("click", () => end(null));
    dialog.addEventListener("cancel", () => resolve(null), { once: true });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      go.disabled = true;
      const values = Object.fromEntries(fields.map((each, at) => [each.name, inputs[at].value]));
      try {
        await act(values);
        end(values);
      } catch (error) {
        wrong.textContent = error.message;
        go.disabled = false;
      }
    });
    if (!dialog.open) dialog.showModal();
    (inputs[0] ?? no).focus();
  });
}
