// Which keys belong to what has the focus, and so are no shortcuts of the page.
"use strict";

const ownKeys = (() => {
  const SCROLLED = ".table-wrap, .math-block, .prompt, .guidelines-panel, pre";

  function isTyping(target) {
    return Boolean(target.closest?.("textarea, select, [contenteditable], input:not([type=radio], [type=checkbox], [type=hidden])"));
  }

  // All keys where somebody types; arrows where they choose or scroll.
  function keeps({ target, key }) {
    return isTyping(target) || (key.startsWith("Arrow") && (target.type === "radio" || Boolean(target.closest?.(SCROLLED))));
  }

  return { isTyping, keeps };
})();
