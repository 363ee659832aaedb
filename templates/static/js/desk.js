// The desk: what happens when a comparison appears, and the panels around it. Keys, drafts, sending and the next comparison
// are in the files beside this one. Without any of them every form on the page still works.
"use strict";

(() => {
  const { desk, text, say, takeToken } = deskPage;

  // A new state of the desk -------------------------------------------------------------------------------------------

  function settleIn(isFirst) {
    const page = desk();
    if (!page) return;
    takeToken(page);
    deskSending.begin();
    deskDrafts.restore();
    deskKeys.begin();
    deskNext.prepare();
    if (isFirst) return;
    const heading = document.getElementById("desk-heading");
    heading?.focus({ preventScroll: true });
    window.scrollTo({ top: 0, behavior: "instant" });
    const said = [page.dataset.said, heading?.textContent, text("today").replace("%s", todayCount())];
    say(said.filter(Boolean).join(" "));
  }

  function todayCount() {
    return document.querySelector("#progress b")?.textContent ?? "";
  }

  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target?.id === "desk" || event.detail.elt?.id === "desk") settleIn(false);
  });

  // Panels ------------------------------------------------------------------------------------------------------------

  async function toggleGuidelines(wanted) {
    const panel = document.getElementById("guidelines");
    const link = document.getElementById("guidelines-link");
    const isOpen = wanted ?? panel.hidden;
    if (isOpen && !panel.childElementCount) await htmx.ajax("GET", link.href, { target: "#guidelines", swap: "innerHTML" });
    panel.hidden = !isOpen;
    link.setAttribute("aria-expanded", String(isOpen));
    localStorage.setItem("desk-guidelines", isOpen ? "open" : "");
    if (wanted === undefined && isOpen) panel.focus();
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("#guidelines-link, [data-shortcut=help], [data-close-guidelines]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (link.dataset.shortcut === "help") {
      document.querySelectorAll("details.menu[open]").forEach((menu) => (menu.open = false));
      document.getElementById("shortcuts").showModal();
    } else {
      toggleGuidelines();
    }
  });

  document.addEventListener("DOMContentLoaded", () => {
    if (!desk()) return;
    deskStore.sweep();
    const link = document.getElementById("guidelines-link");
    link?.setAttribute("aria-expanded", "false");
    link?.setAttribute("aria-controls", "guidelines");
    link?.setAttribute("role", "button");
    if (localStorage.getItem("desk-guidelines") && desk().dataset.state === "offer" && innerWidth >= 1200) toggleGuidelines(true);
    settleIn(true);
    deskSending.sendKept();
  });
})();
