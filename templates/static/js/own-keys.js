// Which keys belong to what has the focus, and so are no shortcuts of the page.
"use strict";

const ownKeys = (() => {
  function isTyping(target) {
    return Boolean(target.closest?.("textarea, select, [contenteditable], input:not([type=radio], [type=checkbox], [type=hidden])"));
  }

  return { isTyping };
})();
