// Drafts: what is typed and chosen is kept from the first letter on, and comes back with its comparison.
"use strict";

const deskDrafts = (() => {
  const { desk, answerForm } = deskPage;
  const SENT_ANYWAY = ["csrfmiddlewaretoken", "offer"];

  function fieldsOf(form) {
    return [...new FormData(form)].filter(([name]) => !SENT_ANYWAY.includes(name));
  }

  function restore() {
    restoreAnswer();
    restoreMessage();
  }

  function restoreAnswer() {
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

  // A message outlives its comparison: it is kept until it is sent or emptied, and speaks of the one it was begun at.
  const messageOf = (page) => `message:${page.dataset.url}`;

  function restoreMessage() {
    const form = document.querySelector("form[data-message]");
    const draft = form && deskStore.draft(desk(), messageOf(desk()));
    if (!draft) return;
    const { offer, text } = Object.fromEntries(draft.fields);
    form.elements.text.value = text;
    form.elements.offer.value = offer;
    form.closest("details").open = true;
    form.querySelector("[data-of-earlier]").hidden = offer === desk().dataset.offer;
  }

  function keepMessage(form) {
    const { offer, text } = form.elements;
    if (text.value) return deskStore.keepDraft(desk(), messageOf(desk()), [["offer", offer.value], ["text", text.value]]);
    deskStore.forgetDraft(desk(), messageOf(desk()));
    offer.value = desk().dataset.offer;
    form.querySelector("[data-of-earlier]").hidden = true;
  }

  // Refused, it stays where it is; signed out, it waits for the sign-in.
  document.addEventListener("htmx:afterRequest", ({ detail }) => {
    const isSent = detail.successful && detail.target.id === "desk" && !detail.xhr.getResponseHeader("HX-Redirect");
    if (isSent && detail.requestConfig.elt.matches("form[data-message]")) deskStore.forgetDraft(desk(), messageOf(desk()));
  });

  document.addEventListener("input", (event) => {
    const form = event.target.closest("form");
    if (form?.matches("[data-answer]")) deskStore.keepDraft(desk(), desk().dataset.offer, fieldsOf(form));
    else if (form?.matches("[data-message]")) keepMessage(form);
  });

  return { restore };
})();
