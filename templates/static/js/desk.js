// The desk: keys, drafts, answers that survive a lost network or session, and the next comparison kept ready.
// Without this file every form on the page still works.
"use strict";

(() => {
  const GUARD = 350; // ms after a comparison appears in which a click is still meant for the one before
  const RETRY = 5000; // ms between two tries to send what is kept
  let shownAt = performance.now();
  let before = null; // the comparison that the prepared one stands in for, while an answer is on its way
  let retry = null;
  let delivery = null; // what is kept, on its way

  const desk = () => document.getElementById("desk");
  const answerForm = () => document.getElementById("answer");
  const text = (name) => document.getElementById("desk-texts").dataset[name];

  // Telling -----------------------------------------------------------------------------------------------------------

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

  // Drafts ------------------------------------------------------------------------------------------------------------

  const SENT_ANYWAY = ["csrfmiddlewaretoken", "offer"];

  function fieldsOf(form) {
    return [...new FormData(form)].filter(([name]) => !SENT_ANYWAY.includes(name));
  }

  function restoreDraft() {
    const form = answerForm();
    const draft = form && deskStore.draft(desk(), desk().dataset.offer);
    if (!draft) return;
    const values = new Map(draft.fields);
    for (const field of form.elements) {
      if (!field.name || SENT_ANYWAY.includes(field.name)) continue;
      if (field.type === "radio") field.checked = values.get(field.name) === field.value;
      else if (field.type === "checkbox") field.checked = values.has(field.name);
      else if (field.tagName === "TEXTAREA") field.value = values.get(field.name) ?? "";
    }
    if (values.get("reason") || values.has("is_flagged")) form.querySelector(".reason").open = true;
  }

  document.addEventListener("input", (event) => {
    const form = event.target.closest("form[data-answer]");
    if (form) deskStore.keepDraft(desk(), desk().dataset.offer, fieldsOf(form));
  });

  // Sending -----------------------------------------------------------------------------------------------------------

  function bodyOf(form, submitter) {
    const body = new URLSearchParams(new FormData(form));
    body.delete("csrfmiddlewaretoken");
    if (submitter?.name) body.set(submitter.name, submitter.value);
    return body.toString();
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("form[data-answer], form[data-skip], form[data-undo]")) return;
    const isUndo = form.matches("[data-undo]");
    const isKept = isUndo && deskStore.outbox(desk()).length > 0;
    const isBusy = desk().getAttribute("aria-busy") === "true";
    const isMeantForTheLast = !isUndo && performance.now() - shownAt < GUARD;
    if (isBusy || isMeantForTheLast || isKept) {
      event.preventDefault();
      event.stopImmediatePropagation();
      if (isKept && !isBusy) undoKept(form);
      return;
    }
    if (!form.matches("[data-answer]")) return;
    event.submitter?.classList.add("is-chosen");
    deskStore.post(desk(), desk().dataset.offer, bodyOf(form, event.submitter));
  }, true);

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (!event.detail.elt.matches("form[data-answer]")) return;
    desk().setAttribute("aria-busy", "true");
    showPrepared();
  });

  document.addEventListener("htmx:afterRequest", (event) => {
    const settled = event.detail.xhr?.getResponseHeader("X-Settled");
    if (settled) deskStore.settle(desk(), settled);
    const refused = event.detail.xhr?.getResponseHeader("X-Refused");
    if (refused) deskStore.takeBack(desk(), refused);
    if (settled || refused) warn("");
    if (!event.detail.elt.matches?.("form[data-answer]")) return;
    desk()?.removeAttribute("aria-busy");
    if (!event.detail.successful) {
      putBack();
      keepTrying(event.detail.xhr?.status);
    }
  });

  function keepTrying(status) {
    warn(text(status ? "refused" : "offline"));
    clearTimeout(retry);
    retry = setTimeout(sendKept, RETRY);
    return null;
  }

  // Answers without a confirmation are sent again: the server knows them by their offer, so one is never counted twice.
  async function sendKept() {
    const sent = await deliver();
    if (!sent) return;
    if (sent.stored) say(text("sentLater"));
    htmx.ajax("GET", desk().dataset.url, { target: "#desk", swap: "outerHTML" });
  }

  // One delivery at a time. Null where nothing is kept, or something still is.
  function deliver() {
    clearTimeout(retry);
    delivery ??= sendAll(desk()).finally(() => (delivery = null));
    return delivery;
  }

  async function sendAll(page) {
    const kept = page ? deskStore.outbox(page) : [];
    if (!kept.length) return null;
    const sent = { stored: 0, refused: 0 };
    const notices = [];
    for (const one of kept) {
      let response;
      try {
        response = await post(page.dataset.answerUrl, one.body);
        notices.push(...noticesIn(await response.text()));
      } catch {
        return keepTrying(0);
      }
      if (response.headers.get("HX-Redirect")) {
        warn(text("signedOut"));
        return null;
      }
      if (response.headers.get("X-Settled") === one.offer) {
        deskStore.settle(page, one.offer);
        sent.stored += 1;
      } else if (response.headers.get("X-Refused") === one.offer || response.status === 404) {
        deskStore.takeBack(page, one.offer);
        sent.refused += 1;
        if (response.status === 404) notices.push(warning(text("gone")));
      } else {
        return keepTrying(response.status);
      }
    }
    tell(notices);
    return sent;
  }

  // What is kept is the last answer, so it is sent before it is taken back: sent afterwards, it would come again.
  async function undoKept(form) {
    desk().setAttribute("aria-busy", "true");
    const sent = await deliver();
    const [verb, url] = sent?.refused ? ["GET", desk().dataset.url] : ["POST", form.action];
    if (sent) await htmx.ajax(verb, url, { target: "#desk", swap: "outerHTML" });
    desk()?.removeAttribute("aria-busy");
  }

  function post(url, body) {
    const headers = {
      "Content-Type": "application/x-www-form-urlencoded",
      "HX-Request": "true",
      "X-CSRFToken": JSON.parse(document.body.getAttribute("hx-headers"))["x-csrftoken"],
    };
    return fetch(url, { method: "POST", body, headers });
  }

  // What the server says about an answer: why it was not taken, or what a lesson expected.
  function noticesIn(reply) {
    const template = document.createElement("template");
    template.innerHTML = reply;
    return template.content.querySelectorAll("#desk > .notice");
  }

  window.addEventListener("online", () => {
    warn("");
    sendKept();
  });
  window.addEventListener("offline", () => warn(text("offlineNow")));

  // The next comparison, kept ready -----------------------------------------------------------------------------------

  async function prepareNext() {
    const page = desk();
    if (page?.dataset.state !== "offer") return;
    const offer = page.dataset.offer;
    await new Promise((wait) => setTimeout(wait, 400));
    if (desk()?.dataset.offer !== offer || desk().getAttribute("aria-busy")) return;
    try {
      const response = await fetch(page.dataset.nextUrl, { headers: { "HX-Request": "true" } });
      if (response.status !== 200 || response.headers.get("HX-Redirect")) return;
      const template = document.createElement("template");
      template.innerHTML = await response.text();
      if (desk() === page && template.content.firstElementChild?.dataset.of !== offer) page.prepared = template.content.firstElementChild;
    } catch {
      // Only a convenience: the answer brings the comparison anyway.
    }
  }

  function showPrepared() {
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

  // A new state of the desk -------------------------------------------------------------------------------------------

  function settleIn(isFirst) {
    const page = desk();
    if (!page) return;
    before = null;
    shownAt = performance.now();
    restoreDraft();
    ranking = [];
    page.querySelector("[data-rank-help]")?.removeAttribute("hidden");
    prepareNext();
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

  // Keys --------------------------------------------------------------------------------------------------------------

  let ranking = []; // tiers of response numbers, best first

  function isTyping(target) {
    return target.closest?.("textarea, select, [contenteditable], input:not([type=radio], [type=checkbox], [type=hidden])");
  }

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && isTyping(event.target) && desk()?.contains(event.target)) {
      document.getElementById("desk-heading")?.focus();
      return;
    }
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
    if (event.target.type === "radio" && event.key.startsWith("Arrow")) return;
    if (rankBy(event)) return;
    const wanted = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const control = [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key.toLowerCase() === wanted.toLowerCase());
    if (!control) return;
    event.preventDefault();
    use(control);
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
    const rows = form ? [...form.querySelectorAll("[data-rank]")] : [];
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
    sendKept();
  });
})();
