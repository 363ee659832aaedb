// What every page needs: the colours without a reload, menus that close, and forms that say that they wait.
"use strict";

document.addEventListener("click", (event) => {
  document.querySelectorAll("details.menu[open]").forEach((menu) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = document.querySelector("details.menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

// A list that refreshes itself waits while something in it is ticked; a link that is there to be copied selects itself.
document.addEventListener("htmx:beforeRequest", (event) => {
  const list = event.target.closest("[data-keeps-ticks]");
  if (list && list.querySelector("input:checked")) event.preventDefault();
});

document.addEventListener("focusin", (event) => {
  if (event.target.matches("input[data-copy]")) event.target.select();
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-theme-switch]") || !event.submitter) return;
  event.preventDefault();
  const theme = event.submitter.value;
  const body = new FormData(form, event.submitter);
  fetch(form.action, { method: "POST", body, headers: { "X-Requested-With": "fetch" } });
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  form.querySelectorAll("button").forEach((button) => {
    button.setAttribute("aria-pressed", String(button === event.submitter));
  });
});

// Where a time zone is chosen, the browser knows a likely one.
document.querySelectorAll("button[data-guess-zone]").forEach((button) => {
  const select = document.getElementById(button.dataset.guessZone);
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (select.value === zone || ![...select.options].some((one) => one.value === zone)) return;
  button.append(` ${zone.replaceAll("_", " ")}`);
  button.hidden = false;
  button.addEventListener("click", () => {
    select.value = zone;
  });
});
