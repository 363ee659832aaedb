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
    if (!panel().hidden) loadGuidelines();
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

  const panel = () => document.getElementById("guidelines");
  const panelLink = () => document.getElementById("guidelines-link");
  let cameFrom = null; // where the focus was before the panel took it

  async function toggleGuidelines(wanted) {
    const isOpen = wanted ?? panel().hidden;
    const hadFocus = panel().contains(document.activeElement);
    if (isOpen) await loadGuidelines();
    panel().hidden = !isOpen;
    panelLink().setAttribute("aria-expanded", String(isOpen));
    deskStore.openGuidelines(isOpen);
    if (wanted === undefined && isOpen) {
      cameFrom = document.activeElement;
      panel().focus();
    } else if (hadFocus) {
      const isThere = cameFrom?.isConnected && cameFrom !== document.body;
      (isThere ? cameFrom : panelLink()).focus({ preventScroll: true });
    }
  }

  // The version that the desk works by, which may have changed since the panel was opened.
  async function loadGuidelines() {
    const { guidelines } = desk().dataset;
    if (panel().dataset.version === guidelines) return;
    await htmx.ajax("GET", panelLink().href, { target: "#guidelines", swap: "innerHTML" });
    panel().dataset.version = guidelines;
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

  // The link to the guidelines is a button here, and answers to Space like one.
  document.addEventListener("keydown", (event) => {
    if (event.key !== " " || event.target !== panelLink()) return;
    event.preventDefault();
    toggleGuidelines();
  });

  document.addEventListener("DOMContentLoaded", () => {
    if (!desk()) return;
    deskStore.sweep();
    const link = panelLink();
    link?.setAttribute("aria-expanded", "false");
    link?.setAttribute("aria-controls", "guidelines");
    link?.setAttribute("role", "button");
    if (deskStore.opensGuidelines() && desk().dataset.state === "offer" && innerWidth >= 1200) toggleGuidelines(true);
    settleIn(true);
    deskSending.sendKept();
  });
})();
