// What the browser keeps for the desk: drafts of answers, and answers that the server has not confirmed yet.
// Everything is filed under the teacher, so that nobody else at this screen sends or sees it.
"use strict";

const deskStore = (() => {
  const KEEP = 14 * 24 * 3600 * 1000;

  const read = (key, otherwise) => {
    try {
      return JSON.parse(localStorage.getItem(key)) ?? otherwise;
    } catch {
      return otherwise;
    }
  };
  const write = (key, value) => {
    try {
      if (value === null) localStorage.removeItem(key);
      else localStorage.setItem(key, JSON.stringify(value));
    } catch {
      // No room or no permission: the page works without, it only forgets on a reload.
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
      for (const key of Object.keys(localStorage)) {
        if (key.startsWith("draft:") && Date.now() - (read(key, {}).at ?? 0) > KEEP) localStorage.removeItem(key);
      }
    },
  };
})();
