// The desk's page, for the files beside this one: where its parts are, how it tells, and when it waits.
"use strict";

const deskPage = (() => {
  const desk = () => document.getElementById("desk");
  const answerForm = () => document.getElementById("answer");
  const text = (name) => document.getElementById("desk-texts").dataset[name];

  function say(sentence) {
    document.getElementById("desk-status").textContent = sentence;
  }

  function warning(sentence) {
    const notice = document.createElement("p");
    notice.className = "notice notice-warn";
    notice.textContent = sentence;
    return notice;
  }

  function tell(notices) {
    document.getElementById("desk-notice").replaceChildren(...notices);
  }

  function warn(sentence) {
    tell(sentence ? [warning(sentence)] : []);
  }

  // Asking the server, no longer than htmx does.
  const TIMEOUT = 15000;

  function ask(url, options = {}) {
    const headers = { ...options.headers, "HX-Request": "true" };
    return fetch(url, { ...options, headers, signal: AbortSignal.timeout(TIMEOUT) });
  }

  // Who signs in anew in another tab has another token, and each desk brings its own: all requests from here on take it over.
  const token = () => JSON.parse(document.body.getAttribute("hx-headers"))["x-csrftoken"];

  function takeToken(page) {
    document.body.setAttribute("hx-headers", JSON.stringify({ "x-csrftoken": page.dataset.token }));
    document.querySelectorAll("[name=csrfmiddlewaretoken]").forEach((field) => (field.value = page.dataset.token));
  }

  // While something is on its way, what is written or chosen here would belong to the comparison that is left.
  const CLOSED_WHILE_BUSY = ".answer-bar, .message-box";
  let focused = null;

  function isBusy() {
    return desk()?.getAttribute("aria-busy") === "true";
  }

  function setBusy(isOnItsWay) {
    if (isOnItsWay && !isBusy()) focused = document.activeElement;
    if (isOnItsWay) desk()?.setAttribute("aria-busy", "true");
    else desk()?.removeAttribute("aria-busy");
    desk()?.querySelectorAll(CLOSED_WHILE_BUSY).forEach((part) => (part.inert = isOnItsWay));
    if (!isOnItsWay && document.activeElement === document.body) focused?.focus({ preventScroll: true });
  }

  return { desk, answerForm, text, say, warning, tell, warn, ask, token, takeToken, isBusy, setBusy };
})();
