// Keys: one for each thing on the desk, and a ranking by numbers.
"use strict";

const deskKeys = (() => {
  const PAUSE = 1000; // ms without a key after which somebody is no longer writing
  const { desk, answerForm, text, say, isBusy } = deskPage;
  let lastKeyAt = 0;
  let isStray = false; // somebody writes who reached for a field while the desk was busy
  let ranking = []; // tiers of response numbers, best first

  document.addEventListener("keydown", (event) => {
    const isOfStrayWords = continuesStrayWords();
    if (event.key === "Escape" && ownKeys.isTyping(event.target) && desk()?.contains(event.target)) {
      document.getElementById("desk-heading")?.focus();
      return;
    }
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    if (isOfStrayWords || ownKeys.keeps(event) || document.querySelector("dialog[open]")) return;
    if (rankBy(event)) return;
    const wanted = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const control = [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key.toLowerCase() === wanted.toLowerCase());
    if (!control) return;
    event.preventDefault();
    if (!control.closest("[inert]")) use(control);
    else if (control.tagName === "SUMMARY") isStray = true;
  });

  // A field that is closed while the desk is busy takes no letters, and the rest of the sentence is no row of shortcuts either.
  function continuesStrayWords() {
    if (performance.now() - lastKeyAt > PAUSE) isStray = false;
    lastKeyAt = performance.now();
    return isStray;
  }

  document.addEventListener("pointerdown", (event) => {
    if (!isBusy() || !desk().contains(event.target)) return;
    isStray = true;
    lastKeyAt = performance.now();
  });

  function use(control) {
    if (control.dataset.presses) {
      answerForm().querySelector(`button[value="${control.dataset.presses}"]`)?.click();
    } else if (control.dataset.checks) {
      const box = document.getElementById(control.dataset.checks);
      box.closest("details").open = true;
      box.click();
      say(text(box.checked ? "flagged" : "unflagged"));
    } else if (control.tagName === "SUMMARY") {
      control.parentElement.open = true;
      control.parentElement.querySelector("textarea, button")?.focus();
    } else if (control.dataset.shortcut === "prompt") {
      document.getElementById("prompt")?.focus();
      document.getElementById("prompt")?.scrollIntoView({ block: "nearest" });
    } else {
      control.click();
    }
  }

  // Numbers from best to worst; "=" makes the next one a tie with the last.
  function rankBy(event) {
    const form = answerForm();
    const rows = form && !form.closest("[inert]") ? [...form.querySelectorAll("[data-rank]")] : [];
    if (!rows.length) return false;
    const number = Number(event.key);
    if (event.key === "Enter" && event.target.closest("a, button, summary")) return false;
    if (event.key === "Enter") form.requestSubmit(form.querySelector("[data-store-ranking]"));
    else if (event.key === "Backspace") ranking = [];
    else if (event.key === "=") ranking.push("=");
    else if (number >= 1 && number <= rows.length && !ranking.includes(number)) ranking.push(number);
    else return false;
    event.preventDefault();
    if (event.key === "Enter") return true;
    let place = 0;
    let isTie = false;
    const places = new Map();
    for (const one of ranking) {
      if (one === "=") {
        isTie = true;
        continue;
      }
      if (!isTie || !place) place = places.size + 1;
      isTie = false;
      places.set(one, place);
    }
    rows.forEach((row, index) => {
      row.querySelectorAll("input").forEach((input) => {
        input.checked = places.get(index + 1) === Number(input.value);
      });
    });
    form.dispatchEvent(new Event("input", { bubbles: true }));
    say([...places].map(([one, at]) => `${String.fromCharCode(64 + one)}: ${at}`).join(", "));
    return true;
  }

  function begin() {
    ranking = [];
    desk().querySelector("[data-rank-help]")?.removeAttribute("hidden");
  }

  return { begin };
})();
