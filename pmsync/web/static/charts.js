// Draws each chart of the page from the specification that stands beside it. Expressions are interpreted (`ast`), never
// compiled, so that the page needs no 'unsafe-eval'; nothing is loaded from anywhere.
"use strict";

const refuse = () => Promise.reject(new Error("charts load nothing"));
const options = {
  ast: true,
  actions: false,
  renderer: "svg",
  defaultStyle: false,
  tooltip: { disableDefaultStyle: true },
  loader: { load: refuse, sanitize: refuse, http: refuse, file: refuse },
};

for (const plot of document.querySelectorAll("[data-spec]")) {
  const spec = JSON.parse(document.getElementById(plot.dataset.spec).textContent);
  window.vegaEmbed(plot, spec, options).catch((error) => {
    plot.textContent = `This chart could not be drawn (${error.message}); the table below has its values.`;
  });
}
