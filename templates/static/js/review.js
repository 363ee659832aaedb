// The reviewer's page: one key for each decision. Without this file every button on the page still works.
"use strict";

(() => {
  const GUARD = 350; // ms after the page appears in which a key is still meant for the one before
  const OFF = "review-keys-off";
  let shownAt = performance.now(); // which a slow reply puts long after the navigation began

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && ownKeys.isTyping(event.target)) return event.target.blur();
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    if (ownKeys.keeps(event) || localStorage.getItem(OFF) || performance.now() - shownAt < GUARD) return;
    const control = [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key.toLowerCase() === event.key.toLowerCase());
    if (!control) return;
    event.preventDefault();
    if (control.dataset.focuses) document.getElementById(control.dataset.focuses)?.focus();
    else control.click();
  });

  // A second click on a decision that is on its way is one too many.
  document.addEventListener("submit", (event) => {
    if (event.target.dataset.isSent) event.preventDefault();
    event.target.dataset.isSent = "yes";
  });
  window.addEventListener("pageshow", () => {
    shownAt = performance.now();
    document.querySelectorAll("form[data-is-sent]").forEach((form) => delete form.dataset.isSent);
  });

  document.querySelectorAll("[data-keys-switch]").forEach((label) => {
    const box = label.querySelector("input");
    label.hidden = false;
    box.checked = !localStorage.getItem(OFF);
    box.addEventListener("change", () => {
      if (box.checked) localStorage.removeItem(OFF);
      else localStorage.setItem(OFF, "yes");
    });
  });
})();
