// Sending: an answer is filed before it leaves, and sent again until the server has confirmed it.
"use strict";

const deskSending = (() => {
  const { desk, text, say, warning, tell, warn, ask, token, takeToken, isBusy, setBusy } = deskPage;
  const DENIED = [403, 404]; // what the server says to somebody else, or to a page from before they signed in anew
  const GUARD = 350; // ms after a comparison appears in which a click is still meant for the one before
  const RETRY = 5000; // ms between two tries to send what is kept
  let shownAt = performance.now();
  let retry = null;

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
    const isMeantForTheLast = !isUndo && performance.now() - shownAt < GUARD;
    if (isBusy() || isMeantForTheLast || isKept) {
      event.preventDefault();
      event.stopImmediatePropagation();
      if (isKept && !isBusy()) undoKept(form);
      return;
    }
    if (!form.matches("[data-answer]")) return;
    if (!event.submitter?.name) {
      event.preventDefault();
      event.stopImmediatePropagation();
      return warn(text("choose"));
    }
    event.submitter.classList.add("is-chosen");
    deskStore.post(desk(), desk().dataset.offer, bodyOf(form, event.submitter));
  }, true);

  document.addEventListener("htmx:beforeRequest", ({ detail }) => {
    if (detail.target.id !== "desk") return;
    setBusy(true);
    if (detail.elt.matches("form[data-answer]")) deskNext.show();
  });

  document.addEventListener("htmx:afterRequest", ({ detail }) => {
    if (detail.requestConfig.target.id !== "desk") return;
    setBusy(false);
    const settled = detail.xhr.getResponseHeader("X-Settled");
    if (settled) deskStore.settle(desk(), settled);
    const refused = detail.xhr.getResponseHeader("X-Refused");
    if (refused) deskStore.takeBack(desk(), refused);
    const doing = detail.requestConfig.elt;
    const isPoll = doing.matches("[hx-trigger]");
    const isOwn = doing.matches("form, a");
    if (!detail.successful && !isPoll) fail(doing, detail.xhr.status);
    else if (isOwn && !deskStore.outbox(desk()).length) warn("");
  });

  // An answer is kept and sent again; all else has to be done again by whoever wanted it.
  function fail(doing, status) {
    if (!doing.matches("[data-answer]")) {
      warn(text("notDone"));
      if (DENIED.includes(status)) isStillTheirs(desk()).catch(() => false);
      return;
    }
    deskNext.putBack();
    if (DENIED.includes(status)) sendKept();
    else keepTrying(status);
  }

  function keepTrying(status) {
    warn(text(status ? "refused" : "offline"));
    sendLater();
    return null;
  }

  function sendLater() {
    clearTimeout(retry);
    retry = setTimeout(sendKept, RETRY);
  }

  // What is written to an answer that is kept goes with it.
  document.addEventListener("input", (event) => {
    const form = event.target.closest("form[data-answer]");
    const kept = form && deskStore.outbox(desk()).find((one) => one.offer === desk().dataset.offer);
    if (!kept) return;
    const answer = { name: "answer", value: new URLSearchParams(kept.body).get("answer") };
    deskStore.post(desk(), kept.offer, bodyOf(form, answer));
  });

  // Answers without a confirmation are sent again: the server knows them by their offer, so one is never counted twice.
  // What follows takes the page away, and so waits while somebody writes.
  async function sendKept() {
    if (!deskStore.outbox(desk()).length) return;
    if (isBusy() || ownKeys.isTyping(document.activeElement)) return sendLater();
    const sent = await deliver();
    if (!sent) return;
    if (sent.stored) say(text("sentLater"));
    bring("GET", desk().dataset.url);
  }

  // One delivery at a time. Null where something is still kept.
  async function deliver() {
    clearTimeout(retry);
    setBusy(true);
    const sent = await sendAll(desk());
    setBusy(false);
    return sent;
  }

  async function sendAll(page) {
    const sent = { stored: 0, refused: 0 };
    const notices = [];
    for (const one of deskStore.outbox(page)) {
      let response;
      try {
        response = await post(page, one.body);
        if (DENIED.includes(response.status)) {
          if (!(await isStillTheirs(page))) return signedOut();
          response = await post(page, one.body);
        }
        notices.push(...noticesIn(await response.text()));
      } catch {
        return keepTrying(0);
      }
      if (response.headers.get("HX-Redirect")) return signedOut();
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
    const sent = await deliver();
    const [verb, url] = sent?.refused ? ["GET", desk().dataset.url] : ["POST", form.action];
    if (sent) bring(verb, url);
  }

  function bring(verb, url) {
    htmx.ajax(verb, url, { target: "#desk", swap: "outerHTML" }).catch(() => null); // told when the request has failed
  }

  function signedOut() {
    warn(text("signedOut"));
    return null;
  }

  function post(page, body) {
    const headers = { "Content-Type": "application/x-www-form-urlencoded", "X-CSRFToken": token() };
    return ask(page.dataset.answerUrl, { method: "POST", body, headers });
  }

  // Whether the browser is still signed in as the teacher of this page, whose token it then takes over.
  async function isStillTheirs(page) {
    const response = await ask(page.dataset.url);
    const fresh = parsed(await response.text()).getElementById("desk");
    const isTheirs = fresh?.dataset.teacher === page.dataset.teacher;
    if (isTheirs) takeToken(fresh);
    return isTheirs;
  }

  // What the server says about an answer: why it was not taken, or what a lesson expected.
  function noticesIn(reply) {
    return parsed(reply).querySelectorAll("#desk > .notice");
  }

  function parsed(reply) {
    const template = document.createElement("template");
    template.innerHTML = reply;
    return template.content;
  }

  window.addEventListener("online", () => {
    warn("");
    sendKept();
  });
  window.addEventListener("offline", () => warn(text("offlineNow")));

  function begin() {
    shownAt = performance.now();
  }

  return { begin, sendKept };
})();
