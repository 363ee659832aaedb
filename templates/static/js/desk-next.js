// The comparison that probably comes next: fetched while one is read, shown while the answer to it is on its way.
"use strict";

const deskNext = (() => {
  const { desk, ask } = deskPage;
  let before = null; // the comparison that the prepared one stands in for, while an answer is on its way

  async function prepare() {
    before = null;
    const page = desk();
    if (page?.dataset.state !== "offer") return;
    const offer = page.dataset.offer;
    await new Promise((wait) => setTimeout(wait, 400));
    if (desk()?.dataset.offer !== offer || desk().getAttribute("aria-busy")) return;
    try {
      const response = await ask(page.dataset.nextUrl);
      if (response.status !== 200 || response.headers.get("HX-Redirect")) return;
      const template = document.createElement("template");
      template.innerHTML = await response.text();
      if (desk() === page && template.content.firstElementChild?.dataset.of !== offer) page.prepared = template.content.firstElementChild;
    } catch {
      // Only a convenience: the answer brings the comparison anyway.
    }
  }

  function show() {
    const page = desk();
    const comparison = document.getElementById("comparison");
    if (!page.prepared || !comparison) return;
    before = comparison;
    comparison.replaceWith(page.prepared);
    window.scrollTo({ top: 0, behavior: "instant" });
  }

  function putBack() {
    const page = desk();
    page?.querySelectorAll(".is-chosen").forEach((button) => button.classList.remove("is-chosen"));
    if (before && page?.prepared?.isConnected) page.prepared.replaceWith(before);
    before = null;
  }

  return { prepare, show, putBack };
})();
