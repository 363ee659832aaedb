// Drafts: what is typed and chosen is kept from the first letter on, and comes back with its comparison.
"use strict";

const deskDrafts = (() => {
  const { desk, answerForm } = deskPage;
  const SENT_ANYWAY = ["csrfmiddlewaretoken", "offer"];

  function fieldsOf(form) {
    return [...new FormData(form)].filter(([name]) => !SENT_ANYWAY.includes(name));
  }

  function restore() {
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

  return { restore };
})();
