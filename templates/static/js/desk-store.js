// What the browser keeps for the desk: drafts of answers, and answers that the server has not confirmed yet.
// Everything is filed under the teacher, so that nobody else at this screen sends or sees it.
"use strict";

const deskStore = (() => {
  const KEEP = 14 * 24 * 3600 * 1000;

  const GUIDELINES = "desk-guidelines";
  const unstored = new Map(); // what finds no room or no permission: kept as long as the page is open

  const read = (key, otherwise) => {
    if (unstored.has(key)) return unstored.get(key);
    try {
      return JSON.parse(localStorage.getItem(key)) ?? otherwise;
    } catch {
      return otherwise;
    }
  };
  const write = (key, value) => {
    unstored.delete(key);
    try {
      if (value === null) localStorage.removeItem(key);
      else localStorage.setItem(key, JSON.stringify(value));
    } catch {
      if (value !== null) unstored.set(key, value);
    }
  };
  const keys = () => {
    try {
      return Object.keys(localStorage);
    } catch {
      return [];
    }
  };
  const draftKey = (desk, offer) => `draft:${desk.dataset.teacher}:${offer}`;
  const outboxKey = (desk) => `outbox:${desk.dataset.teacher}:${desk.dataset.answerUrl}`;

  return {
    draft: (desk, offer) => read(draftKey(desk, offer), null),
    keepDraft: (desk, offer, fields) => write(draftKey(desk, offer), { at: Date.now(), fields }),
    forgetDraft: (desk, offer) => write(draftKey(desk, offer), null),
    outbox: (desk) => read(outboxKey(desk), []),
    // One answer for each offer: a second thought replaces the first.
    post: (desk, offer, body) => {
      const others = read(outboxKey(desk), []).filter((one) => one.offer !== offer);
      write(outboxKey(desk), [...others, { offer, body, at: Date.now() }]);
    },
    // Refused as it was: the words stay as a draft, but nothing is sent again.
    takeBack: (desk, offer) => write(outboxKey(desk), read(outboxKey(desk), []).filter((one) => one.offer !== offer)),
    settle: (desk, offer) => {
      deskStore.takeBack(desk, offer);
      deskStore.forgetDraft(desk, offer);
    },
    sweep: () => {
      for (const key of keys()) {
        if (key.startsWith("draft:") && Date.now() - (read(key, {}).at ?? 0) > KEEP) write(key, null);
      }
    },
    opensGuidelines: () => read(GUIDELINES, false),
    openGuidelines: (isOpen) => write(GUIDELINES, isOpen),
  };
})();
